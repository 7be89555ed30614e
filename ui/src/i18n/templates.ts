// Sentence templates by name: English and Japanese. Written by `ui/scripts/templates.mjs` from
// `sniffer/src/activitypub/sentence.rs`, the one source; do not edit.

export const TEMPLATES: Record<string, { en: string; ja: string }> = {};
