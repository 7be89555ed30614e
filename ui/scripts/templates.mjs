// Writes `src/i18n/templates.ts` from `sniffer/src/activitypub/sentence.rs`, so that the sentences of the command line
// and of the viewer have one source:   node scripts/templates.mjs [SENTENCE_RS]
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** The tables of the Rust file: templates of their own, those with an outcome's tail, those with a noun's tail. */
export function read(rust) {
  const text = (literal) => JSON.parse(literal.replace(/\\u\{([0-9a-fA-F]+)\}/g, (_, hex) => `\\u${hex.padStart(4, '0')}`));
  const L = '("(?:[^"\\\\]|\\\\.)*")';
  const call = rust.slice(rust.search(/^templates! \{/m));
  const section = (name) => {
    const start = call.indexOf(`    ${name} {`);
    const end = call.indexOf('\n    }', start);
    if (start < 0 || end < 0) throw new Error(`no section ${name} in sentence.rs`);
    return call.slice(start, end);
  };
  const triples = (body) => Object.fromEntries([...body.matchAll(new RegExp(`\\(\\s*${L},\\s*${L},\\s*${L},?\\s*\\)`, 'g'))].map((m) => [text(m[1]), [text(m[2]), text(m[3])]]));
  const macro = rust.slice(rust.indexOf('macro_rules! templates'), rust.search(/^templates! \{/m));
  const tails = Object.fromEntries([...macro.matchAll(new RegExp(`concat!\\(\\$asked, ${L}\\),\\s*concat!\\(\\$asked_en, ${L}\\),\\s*concat!\\(\\$asked_ja, ${L}\\)`, 'g'))].map((m) => [text(m[1]), [text(m[2]), text(m[3])]]));
  const words = Object.fromEntries([...macro.matchAll(new RegExp(`concat!\\(\\$noun, ${L}\\),\\s*concat!\\(\\$en1, ${L}, \\$en2\\),\\s*concat!\\(\\$ja1, ${L}, \\$ja2\\)`, 'g'))].map((m) => [text(m[1]), [text(m[2]), text(m[3])]]));
  const nouns = Object.fromEntries([...section('nouns').matchAll(new RegExp(`\\(\\s*${L},\\s*${L} _ ${L},\\s*${L} _ ${L},?\\s*\\)`, 'g'))].map((m) => [text(m[1]), [`${text(m[2])}\u0000${text(m[3])}`, `${text(m[4])}\u0000${text(m[5])}`]]));
  const tables = { plain: triples(section('plain')), asked: triples(section('asked')), tails, nouns, words };
  for (const [name, table] of Object.entries(tables)) if (Object.keys(table).length === 0) throw new Error(`nothing read of ${name} in sentence.rs`);
  return tables;
}

const quote = (s) => `'${s.replace(/\\/g, '\\\\').replace(/'/g, "\\'").replace(/\n/g, '\\n').replace(/\u0000/g, '\\0')}'`;

/** The TypeScript file. */
export function write(tables) {
  const table = (name, doc) => `/** ${doc} */\nexport const ${name}: Table = {\n${Object.entries(tables[name]).map(([key, [en, ja]]) => `  ${quote(key)}: [${quote(en)}, ${quote(ja)}],`).join('\n')}\n};\n`;
  return [
    '// Sentence templates by name: English and Japanese. Written by `ui/scripts/templates.mjs` from',
    '// `sniffer/src/activitypub/sentence.rs`, the one source; do not edit.',
    '',
    'type Table = Record<string, [string, string]>;',
    '',
    table('plain', 'Templates of their own.'),
    table('asked', 'Templates of asking; a tail of `tails` says how it ended.'),
    table('tails', 'How the asking ended, added to the sentence.'),
    table('nouns', 'Templates about a thing, which stands where the NUL is; a tail of `words` names it.'),
    table('words', 'What the thing is called.'),
  ].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const rust = readFileSync(process.argv[2] ?? here('../../sniffer/src/activitypub/sentence.rs'), 'utf8');
  writeFileSync(here('../src/i18n/templates.ts'), write(read(rust)));
}
