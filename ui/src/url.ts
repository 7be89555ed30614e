// What is on screen as an address and back: pure, below any base path. Everything that a reload must bring back is here.

import type { View } from './api';

export const PANELS = ['reading', 'request', 'response', 'signature', 'bytes', 'around'] as const;
export type Panel = (typeof PANELS)[number];
export type Lang = 'en' | 'ja';
export type Theme = 'dark' | 'light';

/** Columns of the list that can be left out; the others always stand. */
export const COLUMNS = ['kind', 'request', 'status', 'took', 'body', 'signature'] as const;
export type Column = (typeof COLUMNS)[number];

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
  /** The columns that were chosen; `null` for the usual. */
  cols: Column[] | null;
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
    cols: p.has('cols') ? COLUMNS.filter((c) => p.get('cols')?.split(',').includes(c)) : null,
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
