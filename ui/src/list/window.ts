// The rows in memory: a sorted piece of what is listed, and where each of them stands on the page, quiet spans and
// losses between them included. Pure.

import type { Row } from '../api';
import { nanos } from '../format';

/** When rows started, in microseconds: read from their text once. */
const starts = new WeakMap<Row, number>();
function start(row: Row): number {
  let us = starts.get(row);
  if (us === undefined) starts.set(row, (us = Number(nanos(row.started) / 1000n)));
  return us;
}

/** Two sorted lists into one, each id once; of the same id the newer copy wins. */
export function merge(rows: readonly Row[], more: readonly Row[]): Row[] {
  const last = rows.at(-1);
  const sorted = [...more].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  const first = sorted[0];
  if (!first) return [...rows];
  if (!last || last.id < first.id) return [...rows, ...dedup(sorted)];
  const out: Row[] = [];
  let i = 0;
  let j = 0;
  while (i < rows.length || j < sorted.length) {
    const a = rows[i];
    const b = sorted[j];
    if (a && (!b || a.id < b.id)) {
      out.push(a);
      i++;
    } else if (b) {
      out.push(b);
      j++;
      if (a?.id === b.id) i++;
    }
  }
  return dedup(out);
}

function dedup(sorted: Row[]): Row[] {
  return sorted.filter((row, i) => row.id !== sorted[i + 1]?.id);
}

/** Where an id is, or would be. */
export function place(rows: readonly Row[], id: string): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rows[middle]?.id ?? '') < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

export const indexOf = (rows: readonly Row[], id: string): number => {
  const i = place(rows, id);
  return rows[i]?.id === id ? i : -1;
};

/** Something with a height: a row, a quiet span before the next row, or a span with losses. */
export type Item = { kind: 'row'; row: number } | { kind: 'quiet' | 'loss'; us: number; row: number };

export interface Layout {
  items: Item[];
  /** Top of each item; one more at the end: the height of all. */
  tops: number[];
  /** The item of each row. */
  itemOfRow: number[];
}

export interface Sizes {
  row: number;
  quiet: number;
  loss: number;
}

/** A pause this long is said (README of the viewer): 1.4 s, or twice the median spacing when traffic is slow. */
export function quietFrom(spacings: readonly number[]): number {
  if (spacings.length === 0) return 1_400_000;
  const sorted = [...spacings].sort((a, b) => a - b);
  return Math.max(1_400_000, 2 * (sorted[sorted.length >> 1] ?? 0));
}

export function layout(rows: readonly Row[], sizes: Sizes): Layout {
  const spacings: number[] = [];
  for (let i = 1; i < rows.length; i++) spacings.push(start(rows[i]!) - start(rows[i - 1]!));
  const quiet = quietFrom(spacings);
  const items: Item[] = [];
  const tops: number[] = [];
  const itemOfRow: number[] = [];
  let top = 0;
  let lossy = false;
  const add = (item: Item, height: number) => {
    items.push(item);
    tops.push(top);
    top += height;
  };
  rows.forEach((row, i) => {
    const us = i === 0 ? 0 : (spacings[i - 1] ?? 0);
    if (i > 0 && us >= quiet) add({ kind: 'quiet', us, row: i }, sizes.quiet);
    const before = rows[i - 1];
    if (row.gaps > 0 && before && before.gaps > 0 && !lossy) {
      let end = i;
      while ((rows[end + 1]?.gaps ?? 0) > 0) end++;
      add({ kind: 'loss', us: start(rows[end]!) - start(before), row: i }, sizes.loss);
      lossy = true;
    }
    if (row.gaps === 0) lossy = false;
    itemOfRow.push(items.length);
    add({ kind: 'row', row: i }, sizes.row);
  });
  tops.push(top);
  return { items, tops, itemOfRow };
}

/** The item at height `y`: the last whose top is not below it. */
export function itemAt(tops: readonly number[], y: number): number {
  let low = 0;
  let high = Math.max(0, tops.length - 2);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((tops[middle] ?? 0) <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Whether a 404 means nothing: things that a server need not have. */
const OPTIONAL = new Set(['robots', 'nodeinfo', 'nodeinfo-discovery', 'instance-api', 'host-meta', 'well-known', 'oembed', 'link-preview', 'followers-synchronization', 'context']);

export type StatusClass = 'ok' | 'redirect' | 'refused' | 'absent' | 'failed' | 'none';

export function statusClass(row: Pick<Row, 'status' | 'kind'>): StatusClass {
  const { status } = row;
  if (status === null) return 'none';
  if (status >= 500) return 'failed';
  if (status >= 400) return (status === 404 || status === 410) && OPTIONAL.has(row.kind) ? 'absent' : 'refused';
  return status >= 300 && status !== 304 ? 'redirect' : 'ok';
}

export type Trouble = 'none' | 'warn' | 'err';

/** How much a row needs a look: it colours the row's edge, and `n` goes from one to the next. */
export function trouble(row: Row): Trouble {
  const status = statusClass(row);
  if (status === 'failed' || status === 'refused' || status === 'none') return 'err';
  if (row.signature === 'invalid' || row.digest === 'mismatch' || row.lint_errors > 0) return 'err';
  if (row.reason !== null) return row.lint_warnings > 0 ? 'warn' : status === 'absent' ? 'none' : 'err';
  return row.lint_warnings > 0 ? 'warn' : 'none';
}

export const isDelivery = (row: Pick<Row, 'kind'>): boolean => row.kind === 'inbox-delivery' || row.kind === 'outbox-post';
