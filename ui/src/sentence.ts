// A reading's sentence in the reader's language, in parts: names in full ink, the host behind an @ one step back.
// Whole templates with slots, never glued words. Pure.

import type { Row } from './api';
import type { HostBook } from './hosts';
import { asked, nouns, plain as own, tails, words } from './i18n/templates';
import type { Lang } from './url';

export type Part = ['text' | 'name' | 'host', string];

/** What a slot's value looks like: `alice@gts1.fediverse.test` → alice + @gts1; a known host → its short name. */
export function value(text: string, book: HostBook): Part[] {
  const at = text.lastIndexOf('@');
  if (at > 0 && !/[\s/]/.test(text)) {
    return [
      ['name', text.slice(0, at)],
      ['host', `@${book.short(text.slice(at + 1))}`],
    ];
  }
  return [['name', book.has(text) ? book.short(text) : text]];
}

/**
 * The text of a template, or `null` when this viewer does not know its name (a newer node). A `brief` one leaves out
 * how the asking ended: in a list the status and the reason say it.
 */
export function template(name: string, lang: Lang, brief = false): string | null {
  const pick = (pair: [string, string]) => pair[lang === 'ja' ? 1 : 0];
  const whole = own[name] ?? asked[name];
  if (whole) return pick(whole);
  const dot = name.lastIndexOf('.');
  const [head, tail] = [name.slice(0, Math.max(0, dot)), name.slice(dot)];
  if (asked[head] && tails[tail]) return pick(asked[head]) + (brief ? '' : pick(tails[tail]));
  if (nouns[head] && words[tail]) return pick(nouns[head]).replace('\0', pick(words[tail]));
  return null;
}

/** Fills a template: `{slot}` takes the slot's value. A slot without a value stays visible as `?`. */
export function fill(template: string, slots: readonly (readonly [string, string])[], book: HostBook): Part[] {
  const values = new Map(slots);
  return template
    .split(/(\{[\w-]+\})/)
    .filter((piece) => piece !== '')
    .flatMap((piece): Part[] => (piece.startsWith('{') && piece.endsWith('}') ? value(values.get(piece.slice(1, -1)) ?? '?', book) : [['text', piece]]));
}

/** Finds the slots' values in a finished sentence, for templates that this viewer does not know. */
export function dissect(sentence: string, slots: readonly (readonly [string, string])[], book: HostBook): Part[] {
  const values = [...new Set(slots.map(([, v]) => v).filter((v) => v !== ''))].sort((a, b) => b.length - a.length);
  const parts: Part[] = [];
  let plain = '';
  let i = 0;
  while (i < sentence.length) {
    const found = values.find((v) => sentence.startsWith(v, i));
    if (found === undefined) {
      plain += sentence[i++];
      continue;
    }
    if (plain) parts.push(['text', plain]);
    plain = '';
    parts.push(...value(found, book));
    i += found.length;
  }
  if (plain) parts.push(['text', plain]);
  return parts;
}

export function sentence(row: Pick<Row, 'sentence' | 'template' | 'slots'>, lang: Lang, book: HostBook, brief = false): Part[] {
  const text = template(row.template, lang, brief);
  return text === null ? dissect(row.sentence, row.slots, book) : fill(text, row.slots, book);
}

export const plain = (parts: readonly Part[]): string => parts.map(([, text]) => text).join('');
