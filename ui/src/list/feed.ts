// What is listed and how it grows: loads pages at the cursor, keeps a bounded piece in memory, takes live rows in
// batches, and says how many there are. It draws nothing and knows no address of the page.

import { batch, signal } from '@preact/signals';
import { api, ApiError, type Count, type Cursor, type Page, type Query, type Row } from '../api';
import { nanos } from '../format';
import { merge, place } from './window';

const PAGE = 400;
/** Rows after which an unfinished search rests until it is asked for more. */
const ENOUGH = 60;
/** Rows kept at most; the far side goes first. */
const KEEP = 4000;
/** Live rows that a paused page holds before it fetches anew instead. */
const HELD = 2000;

export class Feed {
  readonly rows = signal<readonly Row[]>([]);
  readonly moreBefore = signal(false);
  readonly moreAfter = signal(false);
  /** Place of the first row among all that match, where it is known. */
  readonly base = signal<number | null>(null);
  readonly count = signal<Count | null>(null);
  readonly loading = signal(false);
  /** Loaded at least once since the query was set. */
  readonly ready = signal(false);
  readonly error = signal<ApiError | null>(null);
  readonly paused = signal(false);
  /** Ids that arrived live a moment ago, to let their dots glow once. */
  readonly fresh = signal<ReadonlySet<string>>(new Set());
  /** Rows a second, over the last seconds. */
  readonly rate = signal(0);
  /** Whether the reader stands at the end and goes along. */
  atEnd: () => boolean = () => false;
  /** Called with the number of rows after each batch. */
  onRows: (n: number) => void = () => {};

  /** How far an unfinished search has looked: an id. The node looks at so many exchanges a request and then says where. */
  readonly scanned = signal<string | null>(null);
  /** A search is going on that one request did not finish. */
  readonly searching = signal(false);
  /** Where to go on before and after: the row at that end, or where a search stopped. */
  private edgeBefore: string | null = null;
  private edgeAfter: string | null = null;

  private query: Query = { q: '', v: 'federation', from: '', to: '' };
  private abort = new AbortController();
  private busyBefore = false;
  private busyAfter = false;
  private incoming: Row[] = [];
  private flushTimer = 0;
  private recountTimer = 0;
  private overflow = false;
  private arrivals: number[] = [];
  private rateTimer = 0;

  /** Lists a query at a cursor. The rows of before stay until the new ones are there, or for good if it fails. */
  async open(query: Query, cursor: Cursor): Promise<void> {
    this.abort.abort();
    const abort = (this.abort = new AbortController());
    this.query = query;
    this.loading.value = true;
    this.busyBefore = this.busyAfter = false;
    this.searching.value = false;
    try {
      const [page, count] = await Promise.all([api.exchanges(query, cursor, PAGE, abort.signal), api.count(query, abort.signal)]);
      if (abort.signal.aborted) return;
      batch(() => {
        this.error.value = null;
        this.rows.value = page.rows;
        this.moreBefore.value = page.more_before;
        this.moreAfter.value = page.more_after;
        this.count.value = count;
        this.base.value = !page.more_before ? 0 : !page.more_after && count.exact ? Math.max(0, count.matched - page.rows.length) : null;
        this.ready.value = true;
        const { scanned_to: stopped } = page;
        const [first, last] = [page.rows[0]?.id ?? null, page.rows.at(-1)?.id ?? null];
        const anchor = 'around' in cursor ? cursor.around : null;
        const backwards = stopped !== null && (anchor === null ? !('oldest' in cursor) : stopped < anchor);
        this.edgeBefore = stopped !== null && backwards ? stopped : (first ?? anchor);
        this.edgeAfter = stopped !== null && !backwards ? stopped : (last ?? anchor);
        this.scanned.value = stopped;
      });
      if (this.base.value === null) void this.locate(abort.signal);
      if (page.scanned_to !== null && page.rows.length < ENOUGH) {
        if (this.moreBefore.value) void this.loadBefore();
        if (this.moreAfter.value) void this.loadAfter();
      }
    } catch (error) {
      if (abort.signal.aborted) return;
      this.error.value = error instanceof ApiError ? error : new ApiError('answer', String(error));
    } finally {
      if (this.abort === abort) this.loading.value = false;
    }
  }

  /** Finds the place of the first row by counting what is before it. */
  private async locate(signal: AbortSignal): Promise<void> {
    const first = this.rows.value[0];
    if (!first) return;
    try {
      const before = await api.count({ ...this.query, to: first.started }, signal);
      if (!signal.aborted && before.exact && this.rows.value[0] === first) this.base.value = Math.max(0, before.matched - 1);
    } catch {
      // Not knowing the place costs only the row numbers.
    }
  }

  async loadBefore(): Promise<void> {
    if (this.busyBefore || !this.moreBefore.value || this.edgeBefore === null) return;
    this.busyBefore = true;
    const { signal } = this.abort;
    try {
      // A search that found little where it stopped goes on.
      let found = 0;
      do {
        const page: Page = await api.exchanges(this.query, { before: this.edgeBefore }, PAGE, signal);
        if (signal.aborted) return;
        found += page.rows.length;
        this.before(page);
        this.searching.value = this.scanned.value !== null;
      } while (this.scanned.value !== null && this.moreBefore.value && found < ENOUGH);
    } catch (error) {
      this.failed(error, signal);
    } finally {
      if (!signal.aborted) {
        this.busyBefore = false;
        this.searching.value = false;
      }
    }
  }

  private before(page: Page): void {
    batch(() => {
      let rows = merge(this.rows.value, page.rows);
      if (rows.length > KEEP) {
        rows = rows.slice(0, KEEP);
        this.moreAfter.value = true;
        this.edgeAfter = rows.at(-1)?.id ?? null;
      }
      this.moreBefore.value = page.more_before;
      this.edgeBefore = page.scanned_to ?? page.rows[0]?.id ?? this.edgeBefore;
      this.scanned.value = page.more_before ? page.scanned_to : null;
      if (this.base.value !== null) this.base.value = page.more_before ? Math.max(0, this.base.value - page.rows.length) : 0;
      this.rows.value = rows;
    });
  }

  async loadAfter(): Promise<void> {
    if (this.busyAfter || !this.moreAfter.value || this.edgeAfter === null) return;
    this.busyAfter = true;
    const { signal } = this.abort;
    try {
      let found = 0;
      do {
        const page: Page = await api.exchanges(this.query, { after: this.edgeAfter }, PAGE, signal);
        if (signal.aborted) return;
        found += page.rows.length;
        this.after(page);
        this.searching.value = this.scanned.value !== null;
      } while (this.scanned.value !== null && this.moreAfter.value && found < ENOUGH);
    } catch (error) {
      this.failed(error, signal);
    } finally {
      if (!signal.aborted) {
        this.busyAfter = false;
        this.searching.value = false;
      }
    }
  }

  private after(page: Page): void {
    batch(() => {
      this.moreAfter.value = page.more_after;
      this.edgeAfter = page.scanned_to ?? page.rows.at(-1)?.id ?? this.edgeAfter;
      this.scanned.value = page.more_after ? page.scanned_to : null;
      this.append(page.rows);
    });
  }

  /** A connection that is down is said elsewhere, and tried again. */
  private failed(error: unknown, signal: AbortSignal): void {
    if (!signal.aborted && error instanceof ApiError && error.code !== 'network') this.error.value = error;
  }

  private append(more: readonly Row[]): void {
    const rows = merge(this.rows.value, more);
    const over = rows.length - KEEP;
    if (over > 0) {
      this.moreBefore.value = true;
      if (this.base.value !== null) this.base.value += over;
      this.edgeBefore = rows[over]?.id ?? null;
    }
    this.rows.value = over > 0 ? rows.slice(over) : rows;
  }

  /** A row came by the event stream. */
  live(row: Row): void {
    const now = performance.now();
    this.arrivals.push(now);
    if (this.incoming.length >= HELD) {
      this.overflow = true;
      this.incoming = [];
    }
    if (!this.overflow) this.incoming.push(row);
    if (!this.rateTimer) this.rateTimer = window.setInterval(() => this.measure(), 1000);
    if (!this.flushTimer && !this.paused.value) {
      // Over 20 rows a second they come in batches, so that the eye can follow.
      const fast = this.arrivals.length > 20 && now - (this.arrivals.at(-20) ?? 0) < 1000;
      this.flushTimer = window.setTimeout(() => this.flush(), fast ? 250 : 16);
    }
  }

  private measure(): void {
    const now = performance.now();
    this.arrivals = this.arrivals.filter((t) => now - t < 5000);
    this.rate.value = this.arrivals.length / 5;
    if (this.arrivals.length === 0) {
      clearInterval(this.rateTimer);
      this.rateTimer = 0;
    }
  }

  pause(on: boolean): void {
    this.paused.value = on;
    if (!on) this.flush();
  }

  /** Rows were missed: what is at the end is fetched again. */
  resync(): void {
    if (this.paused.value) {
      this.overflow = true;
      return;
    }
    this.incoming = [];
    this.overflow = false;
    // At the end there may be far more than one request gives: the newest are what the reader wants to see.
    if (this.atEnd()) return void this.open(this.query, {});
    void this.catchUp(null);
    this.recount(0);
  }

  private flush(): void {
    clearTimeout(this.flushTimer);
    this.flushTimer = 0;
    if (this.paused.value) return;
    if (this.overflow) return this.resync();
    const rows = this.incoming;
    this.incoming = [];
    if (rows.length === 0) return;
    this.onRows(rows.length);
    const { q, from, to } = this.query;
    if (q !== '') {
      const least = rows.reduce((a, row) => (row.id < a ? row.id : a), rows[0]!.id);
      void this.catchUp(least);
      this.recount(400);
      return;
    }
    const inTime = from || to ? rows.filter((row) => (!from || nanos(row.started) >= nanos(from)) && (!to || nanos(row.started) <= nanos(to))) : rows;
    batch(() => {
      const count = this.count.value;
      const first = this.rows.value[0];
      // A row that finished late may belong before the window, or inside it, or be there already.
      const known = new Set(this.rows.value.map((row) => row.id));
      const anew = inTime.filter((row) => !known.has(row.id));
      if (count) this.count.value = { ...count, matched: count.matched + anew.length, total: count.total + anew.length };
      if (this.base.value !== null && first) this.base.value += this.moreBefore.value ? anew.filter((row) => row.id < first.id).length : 0;
      if (!this.ready.value || this.moreAfter.value) return;
      const mine = anew.filter((row) => !this.moreBefore.value || !first || row.id > first.id);
      this.append(mine);
      this.glow(mine);
    });
    this.recount(2000);
  }

  private glow(rows: readonly Row[]): void {
    if (rows.length === 0 || rows.length > 50) return;
    this.fresh.value = new Set(rows.map((row) => row.id));
    window.setTimeout(() => (this.fresh.value = new Set()), 700);
  }

  /** Fetches what is new from `least` on; without it from the last row. */
  private async catchUp(least: string | null): Promise<void> {
    if (this.moreAfter.value || this.busyAfter) {
      if (!this.moreAfter.value) window.setTimeout(() => void this.catchUp(least), 300);
      return;
    }
    const rows = this.rows.value;
    const at = least === null ? rows.length : place(rows, least);
    const from = rows[Math.max(0, at - 1)];
    const { signal } = this.abort;
    this.busyAfter = true;
    try {
      const page = await api.exchanges(this.query, from ? { after: from.id } : {}, 1000, signal);
      if (signal.aborted) return;
      batch(() => {
        this.error.value = null;
        if (!from) {
          this.moreBefore.value = page.more_before;
          this.edgeBefore = page.rows[0]?.id ?? null;
          this.ready.value = true;
        }
        if (from) this.after(page);
        else this.append(page.rows);
      });
    } catch (error) {
      this.failed(error, signal);
    } finally {
      if (!signal.aborted) this.busyAfter = false;
    }
    if (this.scanned.value !== null && this.moreAfter.value) void this.loadAfter();
  }

  /** Counts again, at most once in `wait` milliseconds. */
  recount(wait: number): void {
    if (this.recountTimer) return;
    this.recountTimer = window.setTimeout(async () => {
      this.recountTimer = 0;
      const { signal } = this.abort;
      try {
        const count = await api.count(this.query, signal);
        if (!signal.aborted) this.count.value = count;
      } catch {
        // The count of before stays.
      }
    }, wait);
  }
}
