// What made what necessary, among the rows in memory, and how the lane beside the sentences draws it: a rail from a
// request down to what was fetched because of it. Deliveries stay on the first lane: what people do is nobody's
// plumbing. Pure.

import type { Link, Row } from '../api';
import { isDelivery } from './window';

/** The cause of each row that has one. What held a request outranks a guess, and what an id proves is no guess. */
export function causesOf(rows: readonly Row[]): Map<string, Link> {
  const causes = new Map<string, Link>();
  for (const row of rows) if (row.caused_by) causes.set(row.id, row.caused_by);
  for (const row of rows)
    for (const effect of row.caused) {
      const known = causes.get(effect.id);
      if (!known || effect.proven || !known.proven) causes.set(effect.id, { id: row.id, proven: effect.proven });
    }
  return causes;
}

/** All that one row hangs together with, in order of time: its first cause, and everything that came of that. */
export function chainOf(rows: readonly Row[], causes: ReadonlyMap<string, Link>, id: string): Row[] {
  let root = id;
  for (let up = causes.get(root); up && up.id < root; up = causes.get(root)) root = up.id;
  const members = new Set([root]);
  // A cause starts before its effect, and so do the rows.
  for (const row of rows) {
    const cause = causes.get(row.id);
    if (cause && members.has(cause.id)) members.add(row.id);
  }
  return rows.filter((row) => members.has(row.id));
}

/** From a request to the last row that it made necessary. */
export interface Rail {
  lane: number;
  /** Rows, as places in the list. */
  cause: number;
  effects: number[];
}

/** What the gutter draws beside one row. Lanes are bits, the first is 1. */
export interface Cell {
  /** The dot's. */
  lane: number;
  /** Lines above and below the middle. */
  up: number;
  down: number;
  /** A curve from the lane of the row before into the second; both -1 without. */
  from: number;
  into: number;
}

export interface Gutter {
  cells: Cell[];
  /** By the row that a rail begins at, and by each row at its end. */
  rails: Map<number, Rail>;
  railOf: Map<number, Rail>;
}

export const LANES = 4;
/** A line that runs past so many rows says nothing any more. */
const LONGEST = 120;

export function gutter(rows: readonly Row[], causes: ReadonlyMap<string, Link>): Gutter {
  const cells: Cell[] = rows.map(() => ({ lane: 0, up: 0, down: 0, from: -1, into: -1 }));
  const places = new Map(rows.map((row, i) => [row.id, i]));
  const effects = new Map<number, number[]>();
  rows.forEach((row, i) => {
    const cause = causes.get(row.id);
    const at = cause && !isDelivery(row) ? places.get(cause.id) : undefined;
    if (at === undefined || at >= i) return;
    const known = effects.get(at);
    if (i - (known?.at(-1) ?? at) > LONGEST) return;
    if (known) known.push(i);
    else effects.set(at, [i]);
  });
  const rails = new Map<number, Rail>();
  const railOf = new Map<number, Rail>();
  /** Until which row a lane is taken. */
  const taken = new Array<number>(LANES).fill(-1);
  for (const [cause, all] of [...effects].sort((a, b) => a[0] - b[0])) {
    const own = cells[cause]!.lane;
    const last = all.at(-1)!;
    let lane = own + 1;
    while (lane < LANES && taken[lane]! >= cause) lane++;
    // No room for another line: no line is better than one that could be two.
    if (lane >= LANES) continue;
    taken[lane] = last;
    const rail: Rail = { lane, cause, effects: all };
    rails.set(cause, rail);
    cells[cause]!.down |= 1 << own;
    for (let i = cause + 1; i <= last; i++) {
      const cell = cells[i]!;
      if (i === cause + 1) [cell.from, cell.into] = [own, lane];
      else cell.up |= 1 << lane;
      if (i < last) cell.down |= 1 << lane;
    }
    for (const i of all) {
      cells[i]!.lane = lane;
      railOf.set(i, rail);
    }
  }
  return { cells, rails, railOf };
}

/** Lanes of a row whose lines belong to a rail. */
export function along(rail: Rail | undefined, i: number, cells: readonly Cell[]): number {
  if (!rail || i < rail.cause || i > rail.effects.at(-1)!) return 0;
  return i === rail.cause ? 1 << cells[i]!.lane : 1 << rail.lane;
}
