// Where an id of a body was seen: the exchange that fetched or delivered it, nearest in time among the rows at hand.

import type { Row } from './api';
import { microsBetween } from './format';
import { isDelivery } from './list/window';

/** The addresses that a row stands for: what was asked for, and the activity that was delivered. */
export function addresses(row: Row): string[] {
  const found: string[] = [];
  if (row.activity_id) found.push(row.activity_id);
  if (!isDelivery(row) && row.target?.startsWith('/')) found.push(`https://${row.to}${row.target.split('?')[0]}`);
  return found;
}

/** Rows by address. */
export function index(rows: readonly Row[]): Map<string, Row[]> {
  const map = new Map<string, Row[]>();
  for (const row of rows)
    for (const address of addresses(row)) {
      const known = map.get(address);
      if (known) known.push(row);
      else map.set(address, [row]);
    }
  return map;
}

/** The row nearest to `here` that an address was seen in, other than `here` itself; a fragment (a key's) is its document's. */
export function seen(map: ReadonlyMap<string, Row[]>, address: string, here: Row): { row: Row; us: number } | null {
  let best: { row: Row; us: number } | null = null;
  for (const row of map.get(address) ?? map.get(address.replace(/#.*$/, '')) ?? []) {
    if (row.id === here.id) continue;
    const us = microsBetween(here.started, row.started);
    if (!best || Math.abs(us) < Math.abs(best.us)) best = { row, us };
  }
  return best;
}

/** How a Follow ended, from what came after it: the Accept or Reject of the same two. */
export function outcome(rows: readonly Row[], here: Row): { row: Row; accepted: boolean; us: number; who: string } | null {
  if (here.template !== 'follow.ask') return null;
  const slots = new Map(here.slots);
  for (const row of rows) {
    if (row.id <= here.id || (row.template !== 'follow.accept' && row.template !== 'follow.reject')) continue;
    const answer = new Map(row.slots);
    if (answer.get('actor') !== slots.get('object') || answer.get('follower') !== slots.get('actor')) continue;
    return { row, accepted: row.template === 'follow.accept', us: microsBetween(here.started, row.started), who: slots.get('object') ?? '' };
  }
  return null;
}
