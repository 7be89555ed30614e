// What is on screen as an address and back: pure, below any base path. Everything that a reload must bring back is here.

import type { View } from './api';

export const PANELS = ['reading', 'request', 'response', 'signature', 'bytes', 'around'] as const;
export type Panel = (typeof PANELS)[number];
export type Lang = 'en' | 'ja';
export type Theme = 'dark' | 'light';

/** Columns of the list that can be left out, as they usually stand; the others are always there. */
export const COLUMNS = ['kind', 'request', 'status', 'took', 'body', 'signature'] as const;
export type Column = (typeof COLUMNS)[number];
/** A column that was chosen, in its place; `meaning` can only be moved. `null` for the usual width. */
export interface Chosen {
  name: Column | 'meaning';
  width: number | null;
}
export const NARROWEST = 40;
export const WIDEST = 800;

/** Columns from their tokens, `took` or `took:80`; what is not understood is left out, `meaning` is never missing. */
export function chosenOf(tokens: readonly string[]): Chosen[] {
  const out: Chosen[] = [];
  for (const token of tokens) {
    const m = /^([a-z]+)(?::(\d{1,4}))?$/.exec(token);
    const name = [...COLUMNS, 'meaning' as const].find((known) => known === m?.[1]);
    if (!name || out.some((c) => c.name === name)) continue;
    out.push({ name, width: m?.[2] && name !== 'meaning' ? Math.min(WIDEST, Math.max(NARROWEST, Number(m[2]))) : null });
  }
  if (!out.some((c) => c.name === 'meaning')) out.splice(usualPlace(out), 0, { name: 'meaning', width: null });
  return out;
}

/** The sentence usually stands behind the kind. */
const usualPlace = (rest: readonly Chosen[]) => (rest[0]?.name === 'kind' ? 1 : 0);

/** The tokens of columns, which say no more than must be said. */
export function tokensOf(chosen: readonly Chosen[]): string[] {
  const rest = chosen.filter((c) => c.name !== 'meaning');
  const usual = chosen.findIndex((c) => c.name === 'meaning') === usualPlace(rest);
  return (usual ? rest : chosen).map((c) => (c.width === null ? c.name : `${c.name}:${c.width}`));
}

/** With a column more, where it usually stands, or less. */
export function withColumn(chosen: readonly Chosen[], name: Column, on: boolean): Chosen[] {
  const rest = chosen.filter((c) => c.name !== name);
  if (!on) return rest;
  const before = COLUMNS.slice(0, COLUMNS.indexOf(name)).reverse();
  const after = before.map((c) => rest.findIndex((r) => r.name === c)).find((i) => i >= 0) ?? -1;
  const at = name === 'kind' ? 0 : Math.max(after, rest.findIndex((r) => r.name === 'meaning')) + 1;
  return [...rest.slice(0, at), { name, width: null }, ...rest.slice(at)];
}

/** With a column moved to a place. */
export function moved(chosen: readonly Chosen[], name: Chosen['name'], to: number): Chosen[] {
  const one = chosen.find((c) => c.name === name);
  const rest = chosen.filter((c) => c.name !== name);
  return one ? [...rest.slice(0, to), one, ...rest.slice(to)] : [...chosen];
}

/** Where the reader is. Empty strings and `null` mean "not in the address". */
export interface Place {
  page: 'list' | 'exchange';
  /** The exchange of the page `/e/ID`. */
  id: string;
  panel: Panel | null;
  v: View;
  q: string;
  from: string;
  to: string;
  /** The exchange whose detail is open beside the list. */
  sel: string;
  /** The exchange that the list stands at. */
  at: string;
  lang: Lang | null;
  theme: Theme | null;
  /** Times in the browser's zone instead of UTC. */
  local: boolean;
  /** The columns that were chosen, as tokens; `null` for the usual. */
  cols: string[] | null;
}

export const ID = /^[0-7][0-9a-v]{25}$/;
const id = (text: string | null | undefined) => (text && ID.test(text) ? text : '');
const time = (text: string | null) => (text && /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(text) ? text : '');

export const HOME: Place = { page: 'list', id: '', panel: null, v: 'federation', q: '', from: '', to: '', sel: '', at: '', lang: null, theme: null, local: false, cols: null };

/** Reads an address; what is not understood is left out. `base` is the page's base path, ending in `/`. */
export function parse(href: string, base: string): Place {
  const url = new URL(href, 'http://x');
  const path = url.pathname.startsWith(base) ? url.pathname.slice(base.length) : url.pathname.slice(1);
  const p = url.searchParams;
  const [head, second, third] = path.split('/');
  const page = head === 'e' && id(second) ? 'exchange' : 'list';
  const lang = p.get('lang');
  const theme = p.get('theme');
  return {
    page,
    id: page === 'exchange' ? id(second) : '',
    panel: page === 'exchange' && PANELS.includes(third as Panel) ? (third as Panel) : null,
    v: p.get('v') === 'all' ? 'all' : 'federation',
    q: p.get('q') ?? '',
    from: time(p.get('from')),
    to: time(p.get('to')),
    sel: id(p.get('sel')),
    at: id(p.get('at')),
    lang: lang === 'en' || lang === 'ja' ? lang : null,
    theme: theme === 'dark' || theme === 'light' ? theme : null,
    local: p.get('tz') === 'local',
    cols: p.has('cols') ? tokensOf(chosenOf((p.get('cols') ?? '').split(','))) : null,
  };
}

/** The address of a place, relative to the base. */
export function print(place: Place): string {
  const path = place.page === 'exchange' ? `e/${place.id}${place.panel ? `/${place.panel}` : ''}` : '';
  const p = new URLSearchParams();
  const put = (name: string, value: string | null) => value && p.set(name, value);
  put('v', place.v === 'federation' ? null : place.v);
  put('q', place.q);
  put('from', place.from);
  put('to', place.to);
  put('sel', place.sel);
  put('at', place.at === place.sel ? null : place.at);
  put('lang', place.lang);
  put('theme', place.theme);
  put('tz', place.local ? 'local' : null);
  if (place.cols) p.set('cols', place.cols.join(','));
  // Colons, slashes and quotes stay readable where the grammar of a query allows them (RFC 3986 §3.4).
  const query = p.toString().replace(/%3A/g, ':').replace(/%2F/g, '/').replace(/%2C/g, ',');
  return path + (query ? `?${query}` : '');
}
