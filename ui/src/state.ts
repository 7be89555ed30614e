// The state of the page: where the reader is (and how that gets into the address), what the node says of itself,
// the hosts, the list and the open exchange. Everything here is a signal; components only read them.

import { batch, computed, effect, signal, untracked } from '@preact/signals';
import { api, ApiError, Events, type Detail, type InFlightNow, type Row, type Status, type View } from './api';
import { expression, chipsOf, type Chip } from './filter/chips';
import { HostBook } from './hosts';
import { en } from './i18n/en';
import { ja } from './i18n/ja';
import { Feed } from './list/feed';
import { causesOf, chainOf } from './list/gutter';
import { indexOf, isDelivery, trouble } from './list/window';
import { index } from './mentions';
import { chosenOf, COLUMNS, HOME, parse, print, tokensOf, withColumn, type Chosen, type Column, type Lang, type Panel, type Place, type Theme } from './url';

// --- place --------------------------------------------------------------------------------------------------------

export const base = new URL(document.baseURI).pathname;
export const place = signal<Place>(parse(location.href, base));

/** Goes somewhere: `push` for what Back should return from, `replace` for what is only a state of the same place. */
export function go(change: Partial<Place>, how: 'push' | 'replace' = 'push'): void {
  const next = { ...place.peek(), ...change };
  const href = new URL(print(next), document.baseURI).href;
  if (href !== location.href) history[how === 'push' ? 'pushState' : 'replaceState'](null, '', href);
  place.value = next;
}

// The token of the first visit is in a cookie now, and should not stay where it can be seen or copied.
if (new URLSearchParams(location.search).has('token')) go({}, 'replace');
window.addEventListener('popstate', () => (place.value = parse(location.href, base)));

/** The address of a change, for links that can be opened in another tab. */
export const hrefOf = (change: Partial<Place>): string => new URL(print({ ...place.value, ...change }), document.baseURI).href;
/** An exchange's own address: nothing of the filter, only how the reader wants to read. */
export const permalink = (id: string): string => {
  const { lang, theme, local } = place.peek();
  return new URL(print({ ...HOME, page: 'exchange', id, lang, theme, local }), document.baseURI).href;
};

// --- how it is read -----------------------------------------------------------------------------------------------

const media = (query: string) => {
  const list = matchMedia(query);
  const value = signal(list.matches);
  list.addEventListener('change', () => (value.value = list.matches));
  return value;
};
const prefersDark = media('(prefers-color-scheme: dark)');
export const narrow = media('(max-width: 719px)');
export const middling = media('(max-width: 1179px)');
export const wide = media('(min-width: 1600px)');

export const theme = computed<Theme>(() => place.value.theme ?? (prefersDark.value ? 'dark' : 'light'));
export const lang = computed<Lang>(() => place.value.lang ?? (navigator.languages.find((l) => /^(en|ja)\b/.test(l))?.startsWith('ja') ? 'ja' : 'en'));
export const t = computed(() => (lang.value === 'ja' ? ja : en));
export const local = computed(() => place.value.local);

effect(() => {
  document.documentElement.dataset.theme = theme.value;
  document.documentElement.lang = lang.value;
});

// --- the node -----------------------------------------------------------------------------------------------------

export const status = signal<Status | null>(null);
export const book = signal(new HostBook([]));
/** The columns of the list in their order: the address says, else what this browser chose last. */
const keptColumns = localStorage.getItem('fedisniff.cols');
/** What they are while one is being dragged. */
export const draftColumns = signal<readonly Chosen[] | null>(null);
export const columns = computed<readonly Chosen[]>(() => draftColumns.value ?? chosenOf(place.value.cols ?? keptColumns?.split(',') ?? COLUMNS));
export const shownColumns = computed<ReadonlySet<string>>(() => new Set(columns.value.map((c) => c.name)));
export function setColumns(chosen: readonly Chosen[] | null): void {
  batch(() => {
    draftColumns.value = null;
    const cols = tokensOf(chosen ?? chosenOf(COLUMNS));
    localStorage.setItem('fedisniff.cols', cols.join(','));
    go({ cols }, 'replace');
  });
}
export const setColumn = (column: Column, on: boolean) => setColumns(withColumn(columns.peek(), column, on));

/** How many characters of a host's name the list has room for: those of the longest short name, within bounds. */
export const hostChars = computed(() => Math.min(14, Math.max(4, place.value.v === 'all' ? 8 : 0, ...book.value.all.map((h) => h.short.length))));
/** That in pixels. */
export const hostWidth = computed(() => Math.ceil(hostChars.value * 8.1));
/** How wide the list is, and from which width on it has all columns. */
export const listWidth = signal(innerWidth);
export const fullWidth = computed(() => 1090 + 2 * hostWidth.value);
/** The usual widths in pixels. The sentence and the request share what the others leave. */
export const WIDTHS: Record<Column, number> = { kind: 100, request: 110, status: 60, took: 64, body: 66, signature: 72 };
/** How many characters the column of requests has room for: its own width, or its share of what the others leave. */
export const requestChars = computed(() => {
  const all = columns.value;
  const own = all.find((c) => c.name === 'request')?.width ?? null;
  // Padding, time, hosts, gutter, marks, the gaps between, a scroll bar.
  const others = 24 + 92 + 74 + 2 * hostWidth.value + 38 + 34 + 10 * (all.length + 3) + 36;
  const fixed = all.reduce((sum, c) => sum + (c.name === 'meaning' || c.name === 'request' ? 0 : (c.width ?? WIDTHS[c.name])), others);
  return Math.floor((own ?? Math.max(110, ((listWidth.value - fixed) * 0.85) / 2.15)) / 6.95);
});
/** The first and the last row that can be seen, for the strip. */
export const inSight = signal<{ from: string; to: string } | null>(null);
/** `down` carries when it will be tried again, in milliseconds of `performance.now()`. */
export const connection = signal<{ state: 'connecting' | 'up' } | { state: 'down'; retryAt: number }>({ state: 'connecting' });
export const lastEvent = signal<string | null>(null);
/** A capture file has been read to its end: nothing more will come. */
export const done = signal(false);
/** A reason why nothing can be shown at all. */
export const fatal = signal<ApiError | null>(null);
/** Counts up when the strip should be fetched again. */
export const stripTick = signal(0);
export const feed = new Feed();
/** What has been asked and is not answered whole yet, while a node is watched. */
export const inFlight = signal<InFlightNow>({ exchanges: [], total: 0 });

let hostsTimer = 0;
/** Names that hosts were asked for already: a client is in no book, and must not make us ask at each row. */
const asked = new Set<string>();
async function loadHosts(): Promise<void> {
  try {
    book.value = new HostBook((await api.hosts()).hosts);
  } catch {
    // Hosts stay as they were; rows show full names.
  }
}
function hostsSoon(row: Row): void {
  const anew = [row.from, row.to].filter((name) => !book.peek().has(name) && !asked.has(name));
  if (anew.length === 0) return;
  anew.forEach((name) => asked.add(name));
  if (!hostsTimer)
    hostsTimer = window.setTimeout(() => {
      hostsTimer = 0;
      void loadHosts();
    }, 500);
}

/** Those that have come as rows: what is told of them as unfinished was on its way before. */
const finished = new Set<string>();
const FINISHED_KEPT = 500;

let events: Events | null = null;
export const retryNow = () => events?.retry();
function listen(view: View): void {
  events?.close();
  connection.value = { state: 'connecting' };
  inFlight.value = { exchanges: [], total: 0 };
  events = new Events(view, {
    row(row) {
      lastEvent.value = new Date().toISOString();
      hostsSoon(row);
      feed.live(row);
      // It is finished; the node says so of all together a moment later.
      finished.add(row.id);
      if (finished.size > FINISHED_KEPT) finished.delete(finished.values().next().value!);
      const { exchanges, total } = inFlight.peek();
      const left = exchanges.filter((one) => one.id !== row.id);
      if (left.length < exchanges.length) inFlight.value = { exchanges: left, total: total - 1 };
    },
    status(next) {
      lastEvent.value = new Date().toISOString();
      status.value = next;
    },
    inflight(now) {
      const left = now.exchanges.filter((one) => !finished.has(one.id));
      inFlight.value = { exchanges: left, total: now.total - (now.exchanges.length - left.length) };
    },
    resync() {
      feed.resync();
      void loadHosts();
      stripTick.value++;
    },
    done() {
      done.value = true;
      void loadHosts();
      stripTick.value++;
      feed.recount(0);
    },
    up() {
      connection.value = { state: 'up' };
    },
    down(retryAt) {
      // Whether they still go on is not known any more.
      inFlight.value = { exchanges: [], total: 0 };
      connection.value = { state: 'down', retryAt };
    },
  });
}

/** Speaks to a screen reader, at most once in 10 s (README, Accessibility). */
export const announcement = signal('');
let spoken = 0;
let unspoken = 0;
feed.onRows = (n) => {
  unspoken += n;
  stripSoon();
  const now = performance.now();
  if (now - spoken < 10_000) return;
  announcement.value = t.peek().live1(unspoken);
  spoken = now;
  unspoken = 0;
};
let stripTimer = 0;
function stripSoon(): void {
  if (!stripTimer)
    stripTimer = window.setTimeout(() => {
      stripTimer = 0;
      stripTick.value++;
    }, 2000);
}

/** What is around the open exchange. */
export const around = signal<readonly Row[] | null>(null);

// --- the list -----------------------------------------------------------------------------------------------------

/** At the end, and going along with what arrives. */
export const following = signal(true);
feed.atEnd = () => following.peek();
/** The row that the keys act on. */
export const active = signal('');
/** Asks the list to show a row: `middle` when it should stand in the middle, `top` at the top. */
export const reveal = signal<{ id: string; where: 'near' | 'middle' | 'top' } | 'end' | 'start' | null>(null);

const query = computed(() => {
  const { q, v, from, to } = place.value;
  return JSON.stringify({ q, v, from, to });
});
const currentQuery = () => {
  const { q, v, from, to } = place.peek();
  return { q, v, from, to };
};

export const chips = computed<Chip[]>(() => chipsOf(place.value.q));
export const setChips = (next: readonly Chip[]) => go({ q: expression(next), at: '' });
/** Adds chips that are not there yet. */
export const addChips = (more: readonly Chip[]) => {
  const now = chips.peek();
  const anew = more.filter((chip) => !now.some((c) => JSON.stringify(c) === JSON.stringify(chip)));
  if (anew.length > 0) setChips([...now, ...anew]);
};
export const addChip = (chip: Chip) => addChips([chip]);

export async function openList(): Promise<void> {
  const { at, sel } = place.peek();
  const anchor = at || sel;
  await feed.open(currentQuery(), anchor ? { around: anchor } : {});
  if (feed.error.peek()?.code === 'unauthorized') fatal.value = feed.error.peek();
  const rows = feed.rows.peek();
  rows.forEach(hostsSoon);
  if (!active.peek() || indexOf(rows, active.peek()) < 0) active.value = sel && indexOf(rows, sel) >= 0 ? sel : (rows.at(-1)?.id ?? '');
  if (anchor) reveal.value = { id: anchor, where: at ? 'top' : 'middle' };
  else reveal.value = 'end';
}

export async function toEnd(): Promise<void> {
  following.value = true;
  go({ at: '' }, 'replace');
  if (feed.moreAfter.peek()) await feed.open(currentQuery(), {});
  reveal.value = 'end';
  const last = feed.rows.peek().at(-1);
  if (last) focusRow(last.id, false);
}

export async function toStart(): Promise<void> {
  if (feed.moreBefore.peek()) await feed.open(currentQuery(), { oldest: true });
  following.value = false;
  reveal.value = 'start';
  const first = feed.rows.peek()[0];
  if (first) focusRow(first.id, false);
}

/** Makes a row the active one; with the detail open it is shown there too. */
export function focusRow(id: string, show = true): void {
  active.value = id;
  if (show) reveal.value = { id, where: 'near' };
  if (place.peek().page === 'list' && place.peek().sel && place.peek().sel !== id) go({ sel: id }, 'replace');
}

export function openDetail(id: string): void {
  active.value = id;
  reveal.value = { id, where: 'near' };
  if (place.peek().sel !== id) go({ sel: id });
}
/** With the detail open, the row that is pressed is shown at once; the list does not move under the pointer. */
export function selectPressed(id: string): void {
  if (place.peek().sel !== id) go({ sel: id });
}
export const closeDetail = () => go({ sel: '', at: place.peek().at }, 'push');
export const openPage = (id: string, panel: Panel | null = null) => go({ page: 'exchange', id, panel });
export const leavePage = () => {
  const { id } = place.peek();
  active.value = id;
  go({ page: 'list', sel: id, at: '', id: '', panel: null });
};

/** Moves by one row, or to the next that `wanted` says; loads further as it goes, within bounds. */
export async function move(by: 1 | -1, wanted: (row: Row) => boolean = () => true): Promise<void> {
  for (let loads = 0; loads < 8; loads++) {
    const rows = feed.rows.peek();
    const here = indexOf(rows, active.peek());
    for (let i = here < 0 ? (by > 0 ? 0 : rows.length - 1) : here + by; i >= 0 && i < rows.length; i += by) {
      const row = rows[i];
      if (row && wanted(row)) {
        following.value = false;
        return focusRow(row.id);
      }
    }
    if (by > 0 ? !feed.moreAfter.peek() : !feed.moreBefore.peek()) return;
    await (by > 0 ? feed.loadAfter() : feed.loadBefore());
    if (feed.rows.peek() === rows) return;
  }
}
export const moveDelivery = (by: 1 | -1) => move(by, isDelivery);
export const moveProblem = (by: 1 | -1) => move(by, (row) => trouble(row) !== 'none' || row.gaps > 0);

/** What made what necessary, among the rows at hand. */
export const causes = computed(() => causesOf([...feed.rows.value, ...(around.value ?? [])]));
/** A row that is at hand, in the list or around the open exchange. */
export function rowOf(id: string): Row | null {
  const rows = feed.rows.value;
  const i = indexOf(rows, id);
  return i >= 0 ? (rows[i] ?? null) : (around.value?.find((row) => row.id === id) ?? (detail.value?.row.id === id ? detail.value.row : null));
}

/** Goes along the chain of causes: to what came before, or after, in it. */
export function moveChain(by: 1 | -1): void {
  const onPage = place.peek().page === 'exchange';
  const here = onPage ? place.peek().id : active.peek();
  const seen = new Map([...feed.rows.peek(), ...(around.peek() ?? [])].map((row) => [row.id, row]));
  const rows = [...seen.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const chain = chainOf(rows, causes.peek(), here);
  const next = chain[chain.findIndex((row) => row.id === here) + by]?.id ?? (by < 0 ? causes.peek().get(here)?.id : undefined);
  if (!next) return;
  if (onPage) return go({ id: next, panel: null }, 'replace');
  following.value = false;
  if (indexOf(feed.rows.peek(), next) >= 0) focusRow(next);
  else openDetail(next);
}

export const setView = (v: View) => go({ v, at: '' });
export const setPaused = (on: boolean) => feed.pause(on);

// --- the open exchange --------------------------------------------------------------------------------------------

export const openId = computed(() => (place.value.page === 'exchange' ? place.value.id : place.value.sel));
export const detail = signal<Detail | null>(null);
export const detailError = signal<ApiError | null>(null);
let detailAbort = new AbortController();

effect(() => {
  const id = openId.value;
  detailAbort.abort();
  if (!id) {
    detail.value = null;
    detailError.value = null;
    return;
  }
  if (detail.peek()?.row.id === id) return;
  const abort = (detailAbort = new AbortController());
  batch(() => {
    detailError.value = null;
    around.value = null;
  });
  // Running along with j or k must not ask for every row on the way.
  window.setTimeout(
    () => {
      if (abort.signal.aborted) return;
      api.exchange(id, abort.signal).then(
        (found) => !abort.signal.aborted && (detail.value = found),
        (error: unknown) => {
          if (!abort.signal.aborted) detailError.value = error instanceof ApiError ? error : new ApiError('answer', String(error));
        },
      );
      api.around(id, abort.signal).then(
        (found) => !abort.signal.aborted && (around.value = found.rows),
        () => {},
      );
    },
    detail.peek() ? 60 : 0,
  );
});

/** The row of the open exchange: known at once from the list, before the rest is loaded. */
export const openRow = computed<Row | null>(() => {
  const id = openId.value;
  if (!id) return null;
  if (detail.value?.row.id === id) return detail.value.row;
  const rows = feed.rows.value;
  const i = indexOf(rows, id);
  return i < 0 ? null : (rows[i] ?? null);
});

/** The list has been loading for more than 200 ms. */
export const slow = signal(false);
effect(() => {
  if (!feed.loading.value && !feed.searching.value) {
    slow.value = false;
    return;
  }
  const timer = window.setTimeout(() => (slow.value = true), 200);
  return () => clearTimeout(timer);
});

/** The loss that the reader has dismissed: the banner goes, the number and the marks stay. */
export const lossDismissed = signal('');

/** Which rows at hand an address was seen in. */
export const mentions = computed(() => index([...feed.rows.value, ...(around.value ?? [])]));

/** Going back selects another row: the list follows. */
effect(() => {
  const { sel } = place.value;
  untracked(() => {
    if (!sel || sel === active.peek() || indexOf(feed.rows.peek(), sel) < 0) return;
    active.value = sel;
    reveal.value = { id: sel, where: 'near' };
  });
});

// --- dialogs ------------------------------------------------------------------------------------------------------

export const dialog = signal<'keys' | 'find' | null>(null);
/** Single keys act (WCAG 2.1.4: they can be switched off). */
export const singleKeys = signal(localStorage.getItem('fedisniff.keys') !== 'off');
effect(() => localStorage.setItem('fedisniff.keys', singleKeys.value ? 'on' : 'off'));

/** A line that is shown for a moment where something was copied. */
export const notice = signal('');
let noticeTimer = 0;
export function say(text: string): void {
  notice.value = text;
  clearTimeout(noticeTimer);
  noticeTimer = window.setTimeout(() => (notice.value = ''), 1800);
}

export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(t.peek().copied);
  } catch {
    // Without a secure context (http and not loopback) there is no clipboard; the old way needs a selection.
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'off-screen';
    document.body.append(area);
    area.select();
    say(document.execCommand('copy') ? t.peek().copied : t.peek().copyFailed);
    area.remove();
  }
}

export function start(): void {
  const view = computed(() => place.value.v);
  effect(() => {
    const now = view.value;
    untracked(() => listen(now));
  });
  // Without the right to ask there is nothing to listen to.
  effect(() => {
    if (fatal.value) events?.close();
  });
  void loadHosts();
  api.status().then(
    (s) => (status.value = s),
    (error: unknown) => error instanceof ApiError && error.code === 'unauthorized' && (fatal.value = error),
  );
  let known = '';
  effect(() => {
    const now = query.value;
    if (now === known || place.value.page !== 'list') return;
    known = now;
    following.value = !place.peek().at && !place.peek().sel;
    untracked(() => void openList());
  });
}
