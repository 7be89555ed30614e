// Filter chips and the CEL expression that they stand for, both ways. What has no chip form stays one `CEL` chip, so
// that no expression is ever changed by being shown. Pure.

import { duration } from '../format';
import type { Words } from '../i18n/en';

export type Field = keyof Words['fields'];
export type Op = keyof Words['ops'];

export interface Chip {
  field: Field;
  op: Op;
  /** Joined by *or*. For `cel` the expression itself. */
  values: string[];
  not: boolean;
}

/** Fields whose chip is an equality with one name of the exchange. */
const EQUAL: Partial<Record<Field, string>> = {
  from: 'origin.host',
  to: 'request.host',
  kind: 'reading.kind',
  activity: 'activity.type',
  signature: 'signature.verdict',
  digest: 'digest',
  method: 'request.method',
  actor: 'activity.actor',
};
const CONTAINS: Partial<Record<Field, string[]>> = {
  path: ['request.path'],
  actor: ['activity.actor'],
  body: ['body.text'],
  word: ['reading.sentence', 'request.target', 'activity.id'],
};
/** Fields whose values are compared with several names. */
const ANY: Partial<Record<Field, string[]>> = {
  server: ['origin.host', 'request.host'],
  id: ['activity.id', 'activity.object', 'activity.actor', 'activity.inner'],
};

const quote = (text: string) => JSON.stringify(text);
const list = (values: readonly string[]) => `[${values.map(quote).join(', ')}]`;
const equal = (name: string, values: readonly string[]) => (values.length === 1 ? `${name} == ${quote(values[0] ?? '')}` : `${name} in ${list(values)}`);

/** Which operator a field takes when none is said. */
export function defaultOp(field: Field): Op {
  if (field === 'path' || field === 'body' || field === 'word') return 'contains';
  return field === 'took' ? 'over' : 'is';
}

/** Microseconds of `1 s`, `250ms`, `80 µs`; a bare number is milliseconds. `null` when it is not a duration. */
export function microseconds(text: string): number | null {
  const m = /^\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s|min)?\s*$/.exec(text);
  if (!m) return null;
  const unit = { us: 1, µs: 1, ms: 1000, s: 1_000_000, min: 60_000_000 }[m[2] ?? 'ms'] ?? 1000;
  return Math.round(Number(m[1]) * unit);
}

function exactDuration(us: number): string {
  for (const [unit, size] of [['min', 60_000_000], ['s', 1_000_000], ['ms', 1000]] as const) if (us >= size && us % size === 0) return `${us / size} ${unit}`;
  const [n, unit] = duration(us);
  return microseconds(`${n} ${unit}`) === us ? `${n} ${unit}` : `${us} µs`;
}

function statusTerm(value: string): string | null {
  if (/^[1-5]xx$/.test(value)) {
    const from = Number(value[0]) * 100;
    return `response.status >= ${from} && response.status < ${from + 100}`;
  }
  return /^[1-9]\d\d$/.test(value) ? `response.status == ${value}` : null;
}

/** The terms of a chip before negation, joined by && at the top, or `null` when its values do not fit its field. */
function positive(chip: Chip): { text: string; joined: 'and' | 'or' | 'one' } | null {
  const { field, op, values } = chip;
  const first = values[0];
  if (first === undefined || values.some((v) => v === '')) return null;
  if (field === 'cel') return { text: first, joined: 'and' };
  if (field === 'between') return { text: `origin.host in ${list(values)} && request.host in ${list(values)}`, joined: 'and' };
  if (field === 'status') {
    const terms = values.map(statusTerm);
    if (terms.includes(null)) return null;
    return terms.length === 1 ? { text: terms[0] ?? '', joined: first.endsWith('xx') ? 'and' : 'one' } : { text: terms.join(' || '), joined: 'or' };
  }
  if (field === 'took') {
    const us = microseconds(first);
    return us === null ? null : { text: `timing.total_us ${op === 'under' ? '<' : '>'} ${us}`, joined: 'one' };
  }
  const contains = CONTAINS[field];
  if (contains && op === 'contains') {
    const terms = values.flatMap((v) => contains.map((name) => `${name}.contains(${quote(v)})`));
    return { text: terms.join(' || '), joined: terms.length === 1 ? 'one' : 'or' };
  }
  const any = ANY[field];
  if (any) return { text: any.map((name) => equal(name, values)).join(' || '), joined: 'or' };
  const name = EQUAL[field];
  return name && op === 'is' ? { text: equal(name, values), joined: 'one' } : null;
}

/** The expression of one chip, or `null` when its values do not fit its field. */
export function celOf(chip: Chip): string | null {
  const term = positive(chip);
  if (!term) return null;
  if (chip.not) return `!(${term.text})`;
  if (chip.field === 'cel') return needsParens(term.text) ? `(${term.text})` : term.text;
  return term.joined === 'or' ? `(${term.text})` : term.text;
}

/** The whole expression. */
export function expression(chips: readonly Chip[]): string {
  const only = chips[0];
  if (chips.length === 1 && only?.field === 'cel' && !only.not) return only.values[0] ?? '';
  return chips.map(celOf).filter((c) => c !== null).join(' && ');
}

// --- reading ------------------------------------------------------------------------------------------------------

const TOKEN = /\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(&&|\|\||==|!=|<=|>=|[<>!()[\],.?:+*/%-])|([\w.]+))/gy;
const BINARY = new Set(['&&', '||', '==', '!=', '<=', '>=', '<', '>', 'in', '+', '*', '/', '%', '?', ':']);

/** Tokens, or `null` when the text has something that is no token of CEL. */
function tokens(text: string): string[] | null {
  const found: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const m = TOKEN.exec(text);
    if (!m) return null;
    found.push(m[1] ?? m[2] ?? m[3] ?? '');
  }
  return found;
}

function join(list: readonly string[]): string {
  return list.reduce((text, token) => (BINARY.has(token) ? `${text} ${token} ` : token === ',' ? `${text}, ` : text + token), '');
}

/** Splits at `&&` outside brackets; `null` when brackets do not match. */
function conjuncts(list: readonly string[]): string[][] | null {
  const parts: string[][] = [[]];
  let depth = 0;
  for (const token of list) {
    if ('([{'.includes(token)) depth++;
    if (')]}'.includes(token)) depth--;
    if (depth < 0) return null;
    if (token === '&&' && depth === 0) parts.push([]);
    else parts.at(-1)?.push(token);
  }
  return depth === 0 && parts.every((p) => p.length > 0) ? parts : null;
}

function needsParens(text: string): boolean {
  const list = tokens(text);
  let depth = 0;
  for (const token of list ?? []) {
    if ('([{'.includes(token)) depth++;
    if (')]}'.includes(token)) depth--;
    if (depth === 0 && (token === '||' || token === '?')) return true;
  }
  return false;
}

const string = (token: string) => {
  try {
    return token.startsWith('"') ? (JSON.parse(token) as string) : null;
  } catch {
    return null;
  }
};

/** The chip of one or two conjuncts, by trying which one would be written just so. */
function recognise(text: string, list: readonly string[]): Chip | null {
  const strings = [...new Set(list.map(string).filter((s) => s !== null))];
  const candidates: Chip[] = [];
  const add = (field: Field, op: Op, values: string[]) => values.length > 0 && candidates.push({ field, op, values, not: false });
  if (strings.length > 0) {
    for (const field of ['between', ...Object.keys(EQUAL), ...Object.keys(ANY)] as Field[]) add(field, 'is', strings);
    for (const field of Object.keys(CONTAINS) as Field[]) add(field, 'contains', strings);
  }
  const statuses: string[] = [];
  for (let i = 0; i < list.length; i++) {
    const number = /^\d+$/.test(list[i + 2] ?? '') ? (list[i + 2] ?? '') : '';
    if (list[i] === 'response.status' && list[i + 1] === '==') statuses.push(number);
    if (list[i] === 'response.status' && list[i + 1] === '>=') statuses.push(`${number[0]}xx`);
    if (list[i] === 'timing.total_us' && number) add('took', list[i + 1] === '<' ? 'under' : 'over', [exactDuration(Number(number))]);
  }
  add('status', 'is', statuses);
  return candidates.find((chip) => celOf(chip) === text) ?? null;
}

/** Reads an expression into chips. */
export function chipsOf(text: string): Chip[] {
  if (text.trim() === '') return [];
  const whole: Chip[] = [{ field: 'cel', op: 'is', values: [text.trim()], not: false }];
  const list = tokens(text);
  const parts = list && !needsParens(text) ? conjuncts(list) : null;
  if (!parts) return whole;
  const chips: Chip[] = [];
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] ?? [];
    const next = parts[i + 1];
    const pair = next ? recognise(`${join(part)} && ${join(next)}`, [...part, ...next]) : null;
    if (pair) {
      chips.push(pair);
      i++;
      continue;
    }
    const one = recognise(join(part), part);
    if (one) {
      chips.push(one);
      continue;
    }
    if (part[0] === '!' && part[1] === '(' && part.at(-1) === ')') {
      const inner = part.slice(2, -1);
      const bare = recognise(join(inner), inner) ?? recognise(`(${join(inner)})`, inner);
      if (bare && conjuncts(inner)) {
        chips.push({ ...bare, not: true });
        continue;
      }
    }
    chips.push({ field: 'cel', op: 'is', values: [join(part)], not: false });
  }
  return chips;
}

// --- typing -------------------------------------------------------------------------------------------------------

export const TYPED: Field[] = ['from', 'to', 'between', 'server', 'kind', 'activity', 'status', 'took', 'signature', 'digest', 'path', 'actor', 'id', 'method', 'body'];

/** What has been typed so far: a field may be chosen already. */
export interface Typed {
  not: boolean;
  field: Field | null;
  op: Op | null;
  rest: string;
}

/** Takes `-kind is key` apart. `names` gives the fields' names in the reader's language; English always works too. */
export function typed(text: string, names: Record<Field, string>): Typed {
  const trimmed = text.trimStart();
  const not = trimmed.startsWith('-');
  const body = not ? trimmed.slice(1).trimStart() : trimmed;
  for (const field of TYPED) {
    for (const name of [names[field], field]) {
      if (!body.toLowerCase().startsWith(name.toLowerCase())) continue;
      const after = body.slice(name.length);
      const m = /^(?:\s*(:|=|＝|<|>)\s*|\s+(?:(is|contains|over|under)\s+)?)/.exec(after);
      if (!m) continue;
      const op: Op | null = m[1] === '<' ? 'under' : m[1] === '>' ? 'over' : m[2] ? (m[2] as Op) : null;
      return { not, field, op, rest: after.slice(m[0].length) };
    }
  }
  return { not, field: null, op: null, rest: body };
}

/** The chips of what was typed; free text is a word, and what looks like an expression is one. Empty when nothing fits. */
export function chipsTyped(text: string, names: Record<Field, string>): Chip[] {
  const t = typed(text, names);
  const rest = t.rest.trim();
  if (rest === '') return [];
  if (/==|!=|&&|\|\||\w\.\w+\(|[\w.]+\s*[<>]=?\s*\d/.test(rest) && (t.field === null || t.op === null)) return chipsOf(text.trim());
  if (t.field === null) return [{ field: 'word', op: 'contains', values: [rest.replace(/^"(.*)"$/, '$1')], not: t.not }];
  const field = t.field;
  let op = t.op ?? defaultOp(field);
  let values = field === 'body' || field === 'path' ? [rest] : rest.split(/\s*,\s*/).filter((v) => v !== '');
  if (field === 'actor' && !values.every((v) => v.startsWith('http'))) {
    op = 'contains';
    values = values.map((v) => v.replace(/^@/, '').split('@')[0] ?? v);
  }
  const chip: Chip = { field, op, values, not: t.not };
  return celOf(chip) === null ? [] : [chip];
}
