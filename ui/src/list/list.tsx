// The virtual list: a grid with roving focus over the rows in memory, which loads further at both ends, keeps its place
// when rows come in before it, and follows the end until the reader scrolls up.

import { computed, signal, useComputed, useSignalEffect } from '@preact/signals';
import type { JSX } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { duration, grouped } from '../format';
import { Icon } from '../shapes';
import { active, causes, columns, draftColumns, feed, following, go, fullWidth, hostWidth, inSight, lang, listWidth, local, narrow, openDetail, openPage, place, reveal, selectPressed, setColumns, t, toEnd, WIDTHS } from '../state';
import { Mark } from '../shapes';
import { moved, NARROWEST, WIDEST, type Chosen } from '../url';
import { along, gutter } from './gutter';
import { NotFinished } from './inflight';
import { RowView, type RowProps } from './row';
import { indexOf, itemAt, layout, type Layout } from './window';

const OVERSCAN = 12;
/** Rows from an end at which more is loaded. */
const NEAR_END = 80;

export const listLayout = computed<'full' | 'beside' | 'phone'>(() => (narrow.value ? 'phone' : listWidth.value >= fullWidth.value ? 'full' : 'beside'));
const sizes = computed(() => (narrow.value ? { row: 64, quiet: 20, loss: 30 } : { row: 27, quiet: 18, loss: 27 }));
const laid = computed<Layout>(() => layout(feed.rows.value, sizes.value));
/** What the list has beside an open detail. */
const BESIDE: Record<string, string> = { status: '56px', took: '56px', signature: '15px' };
/** The columns' widths; the heads and all rows have the same. Japanese kinds are 14 px wider. */
const tracks = computed(() => {
  const full = listLayout.value === 'full';
  const ja = lang.value === 'ja' ? 14 : 0;
  const track = ({ name, width }: Chosen): string => {
    if (name === 'meaning') return full ? '38px minmax(240px, 1.3fr)' : '36px minmax(120px, 1fr)';
    if (!full) return name === 'kind' ? `${92 + ja}px` : (BESIDE[name] ?? '');
    if (width !== null) return `${width}px`;
    return name === 'request' ? 'minmax(110px, 0.85fr)' : `${WIDTHS[name] + (name === 'kind' ? ja : 0)}px`;
  };
  const ends = full ? ['92px', 'calc(74px + 2 * var(--host))', '34px'] : ['90px', '58px', '15px'];
  return [ends[0], ends[1], ...columns.value.map(track), ends[2]].filter(Boolean).join(' ');
});
const lanes = computed(() => gutter(feed.rows.value, causes.value));
/** The row that is pointed at; what it hangs together with is brought forward. */
const pointed = signal('');
const scroll = signal({ top: 0, height: 600 });
/** The last row that can be seen. */
const lastSeen = signal(-1);

/** The sentence gives way. What stands behind it grows to the left, and is held at that edge. */
const behindMeaning = (name: Chosen['name']) => {
  const all = columns.peek();
  return all.findIndex((c) => c.name === 'meaning') < all.findIndex((c) => c.name === name);
};

/** Heads can be dragged to another place, and their edge to another width; the menu of columns does both by keys. */
function dragHead(event: PointerEvent, name: Chosen['name'], resize: boolean): void {
  if (event.button !== 0 || !event.isPrimary) return;
  event.preventDefault();
  const heads = (event.currentTarget as Element).closest('.heads');
  const head = heads?.querySelector(`[data-col="${name}"]`);
  const x = event.clientX;
  const width = head?.getBoundingClientRect().width ?? 0;
  const leftEdge = behindMeaning(name);
  let began = resize;
  const move = (now: PointerEvent) => {
    const dx = now.clientX - x;
    if (!began && Math.abs(dx) < 6) return;
    began = true;
    if (resize) {
      const wide = Math.round(Math.min(WIDEST, Math.max(NARROWEST, width + (leftEdge ? -dx : dx))));
      draftColumns.value = columns.peek().map((c) => (c.name === name ? { ...c, width: wide } : c));
      return;
    }
    const others = [...(heads?.querySelectorAll<HTMLElement>('[data-col]') ?? [])].filter((el) => el.dataset.col !== name);
    const passed = others.filter((el) => {
      const box = el.getBoundingClientRect();
      return now.clientX > box.left + box.width / 2;
    });
    const last = passed.at(-1)?.dataset.col;
    const rest = columns.peek().filter((c) => c.name !== name);
    draftColumns.value = moved(columns.peek(), name, last === undefined ? 0 : rest.findIndex((c) => c.name === last) + 1);
  };
  const end = (last: PointerEvent) => {
    removeEventListener('pointermove', move);
    removeEventListener('pointerup', end);
    removeEventListener('pointercancel', end);
    if (last.type === 'pointerup' && draftColumns.peek()) setColumns(draftColumns.peek());
    draftColumns.value = null;
  };
  addEventListener('pointermove', move);
  addEventListener('pointerup', end);
  addEventListener('pointercancel', end);
}

function Heads({ full }: { full: boolean }): JSX.Element {
  const w = t.value;
  const zone = local.value ? w.timeZone.local : w.timeZone.utc;
  const names: Record<Chosen['name'], [string, string]> = {
    kind: ['kind', w.kind],
    meaning: ['meaning', w.meaning],
    request: ['request', w.requestColumn],
    status: ['num', w.status],
    took: ['num took', w.took],
    body: ['num body', w.body],
    signature: ['sig', full ? w.signature : w.sig],
  };
  const head = ({ name }: Chosen) => (
    <span role="columnheader" key={name} class={names[name][0]} data-col={name} title={full ? w.columnDrag : undefined} onPointerDown={full ? (event) => dragHead(event, name, false) : undefined}>
      <span class="cutend">{names[name][1]}</span>
      {full && name !== 'meaning' && (
        <i
          class={`edge ${behindMeaning(name) ? 'before' : ''}`}
          aria-hidden="true"
          onPointerDown={(event) => {
            event.stopPropagation();
            dragHead(event, name, true);
          }}
          onDblClick={() => setColumns(columns.peek().map((c) => (c.name === name ? { ...c, width: null } : c)))}
        />
      )}
    </span>
  );
  return (
    <div role="row" aria-rowindex={1} class="heads">
      <span role="columnheader" class="time">
        <button type="button" class="zone" title={w.timeSwitch} onClick={() => go({ local: !local.value }, 'replace')}>
          {w.time}
          {full && ` (${zone})`}
        </button>
      </span>
      <span role="columnheader" class="hosts">
        {full ? w.fromTo : w.fromToShort}
      </span>
      {columns.value.map((c) => {
        if (c.name === 'meaning') return [<span class="gutter" key="gutter" />, head(c)];
        return full || c.name === 'kind' || c.name in BESIDE ? head(c) : null;
      })}
      <span role="columnheader" class="marks">
        <span class="off-screen">{w.marks}</span>
      </span>
    </div>
  );
}

interface Drawn {
  props: RowProps;
  element: JSX.Element;
}

export function List(): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const anchor = useRef<{ id: string; dy: number } | null>(null);
  /** Where the page itself scrolled to last: a scroll event from there is not the reader's. */
  const own = useRef(-1);
  const atTimer = useRef(0);
  const cache = useRef(new Map<string, Drawn>());
  /** The row that the pointer went down on. Rows may move, and leave the page, before it goes up: no click comes then. */
  const press = useRef<{ id: string; x: number; y: number; down: boolean } | null>(null);

  const remember = () => {
    const el = box.current;
    const rows = feed.rows.peek();
    const l = laid.peek();
    if (!el || rows.length === 0) return;
    let i = itemAt(l.tops, el.scrollTop);
    while (i < l.items.length && l.items[i]?.kind !== 'row') i++;
    const item = l.items[i];
    const row = item ? rows[item.row] : undefined;
    anchor.current = row ? { id: row.id, dy: (l.tops[i] ?? 0) - el.scrollTop } : null;
  };

  const measure = () => {
    const el = box.current;
    if (!el) return;
    const l = laid.peek();
    const rows = feed.rows.peek();
    const now = { top: el.scrollTop, height: el.clientHeight };
    if (scroll.peek().top !== now.top || scroll.peek().height !== now.height) scroll.value = now;
    const bottom = l.items[itemAt(l.tops, now.top + now.height - 14)];
    lastSeen.value = bottom ? bottom.row : -1;
    const top = l.items[itemAt(l.tops, now.top)];
    const firstRow = top && rows[top.row];
    const lastRow = bottom && rows[bottom.row];
    if (firstRow && lastRow && (inSight.peek()?.from !== firstRow.started || inSight.peek()?.to !== lastRow.started)) inSight.value = { from: firstRow.started, to: lastRow.started };
    if (!feed.ready.peek()) return;
    if (top && top.row < NEAR_END) void feed.loadBefore();
    if (bottom && bottom.row > rows.length - NEAR_END) void feed.loadAfter();
  };

  const onScroll = () => {
    const el = box.current;
    if (!el) return;
    measure();
    remember();
    const end = el.scrollTop + el.clientHeight >= el.scrollHeight - 4 && !feed.moreAfter.peek();
    if (Math.abs(el.scrollTop - own.current) >= 1 && end !== following.peek() && feed.ready.peek()) following.value = end;
    clearTimeout(atTimer.current);
    atTimer.current = window.setTimeout(() => {
      const id = following.peek() ? '' : (anchor.current?.id ?? '');
      if (place.peek().page === 'list' && place.peek().at !== id && feed.rows.peek().length > 0) go({ at: id }, 'replace');
    }, 400);
  };

  const scrollTo = (top: number) => {
    const el = box.current;
    if (!el || Math.abs(el.scrollTop - top) < 1) return;
    el.scrollTop = top;
    own.current = el.scrollTop;
  };

  // Rows changed: stay where the reader is, or at the end.
  const rowsNow = feed.rows.value;
  const laidNow = laid.value;
  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    // Under a pointer that is down the list stands still.
    if (following.peek() && !feed.moreAfter.peek() && !press.current?.down) scrollTo(el.scrollHeight);
    else if (anchor.current) {
      const i = indexOf(rowsNow, anchor.current.id);
      if (i >= 0) scrollTo((laidNow.tops[laidNow.itemOfRow[i] ?? 0] ?? 0) - anchor.current.dy);
    }
    measure();
  }, [rowsNow, laidNow, listLayout.value]);

  useSignalEffect(() => {
    const wish = reveal.value;
    if (!wish) return;
    // After the rows of this state are on the page.
    requestAnimationFrame(() => {
      const el = box.current;
      if (!el || reveal.peek() !== wish) return;
      reveal.value = null;
      const l = laid.peek();
      if (wish === 'end') scrollTo(el.scrollHeight);
      else if (wish === 'start') scrollTo(0);
      else {
        const i = indexOf(feed.rows.peek(), wish.id);
        if (i < 0) return;
        const item = l.itemOfRow[i] ?? 0;
        const top = l.tops[item] ?? 0;
        const height = sizes.peek().row;
        if (wish.where === 'top') scrollTo(top);
        else if (wish.where === 'middle') scrollTo(Math.max(0, top - el.clientHeight / 2));
        else if (top < el.scrollTop + height) scrollTo(Math.max(0, top - height));
        else if (top + 2 * height > el.scrollTop + el.clientHeight) scrollTo(top + 2 * height - el.clientHeight);
      }
      measure();
      remember();
      const id = wish === 'end' || wish === 'start' ? active.peek() : wish.id;
      const focused = document.activeElement;
      if (focused?.closest('.grid') || (wish !== 'end' && wish !== 'start' && wish.where === 'near' && (focused === document.body || focused === null))) document.getElementById(`row-${id}`)?.focus({ preventScroll: true });
    });
  });

  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const { sel } = place.peek();
    if (sel && reveal.peek() === null) {
      following.value = false;
      reveal.value = { id: sel, where: 'middle' };
    }
    const measureWidth = () => (listWidth.value = el.clientWidth);
    measureWidth();
    const observer = new ResizeObserver(() => {
      measureWidth();
      if (following.peek()) scrollTo(el.scrollHeight);
      measure();
    });
    observer.observe(el);
    return () => observer.disconnect();
  }, []);

  useLayoutEffect(() => {
    const up = (event: PointerEvent) => {
      const at = press.current;
      if (!at?.down) return;
      at.down = false;
      // Whoever drags selects text, or scrolls.
      const still = Math.hypot(event.clientX - at.x, event.clientY - at.y) < 6 && (getSelection()?.isCollapsed ?? true);
      if (event.type === 'pointerup' && still) openDetail(at.id);
      if (following.peek() && box.current) scrollTo(box.current.scrollHeight);
    };
    addEventListener('pointerup', up);
    addEventListener('pointercancel', up);
    return () => {
      removeEventListener('pointerup', up);
      removeEventListener('pointercancel', up);
    };
  }, []);

  const range = useComputed(() => {
    const { top, height } = scroll.value;
    const l = laid.value;
    return [Math.max(0, itemAt(l.tops, top) - OVERSCAN), Math.min(l.items.length, itemAt(l.tops, top + height) + OVERSCAN + 1)] as const;
  });

  const kind = listLayout.value;
  const w = t.value;
  const rows = rowsNow;
  const [first, last] = range.value;
  const base = feed.base.value;
  const count = feed.count.value;
  const shown: JSX.Element[] = [];
  const drawn = new Map<string, Drawn>();
  const { cells, rails, railOf } = lanes.value;
  const shownFor = indexOf(rows, pointed.value || place.value.sel);
  const [above, below] = shownFor < 0 ? [] : [railOf.get(shownFor), rails.get(shownFor)];
  const drawRow = (item: number, i: number) => {
    const row = rows[i];
    if (!row) return;
    const cell = cells[i] ?? { lane: 0, up: 0, down: 0, from: -1, into: -1 };
    const top = laidNow.tops[item] ?? 0;
    const space = i === 0 ? 0 : top - (laidNow.tops[laidNow.itemOfRow[i - 1] ?? 0] ?? 0) - sizes.value.row;
    const cause = causes.value.get(row.id);
    const causeAt = cause ? indexOf(rows, cause.id) : -1;
    const props: RowProps = {
      row,
      index: base === null ? null : base + i,
      top,
      active: row.id === active.value,
      selected: row.id === place.value.sel,
      fresh: feed.fresh.value.has(row.id),
      layout: kind,
      lines: `${cell.lane} ${cell.up} ${cell.down} ${cell.from} ${cell.into} ${cell.up || cell.into >= 0 ? space : 0}`,
      hot: along(above, i, cells) | along(below, i, cells),
      kin: i !== shownFor && shownFor >= 0 && (causeAt === shownFor || causes.value.get(rows[shownFor]?.id ?? '')?.id === row.id),
      cause: rows[causeAt] ?? null,
      proven: cause?.proven ?? false,
    };
    // A row that is as it was is not drawn again while the list scrolls.
    const before = cache.current.get(row.id);
    const same = before && (Object.keys(props) as (keyof RowProps)[]).every((name) => before.props[name] === props[name]);
    const now = same ? before : { props, element: <RowView key={row.id} {...props} /> };
    drawn.set(row.id, now);
    shown.push(now.element);
  };
  for (let i = first; i < last; i++) {
    const item = laidNow.items[i];
    if (!item) continue;
    if (item.kind === 'row') drawRow(i, item.row);
    else if (item.kind === 'quiet')
      shown.push(
        <div key={`q${rows[item.row]?.id}`} class="quiet" role="presentation" style={{ top: `${laidNow.tops[i]}px` }}>
          <span>{w.quiet(duration(item.us))}</span>
        </div>,
      );
    else
      shown.push(
        <div key={`l${rows[item.row]?.id}`} class="loss" role="presentation" style={{ top: `${laidNow.tops[i]}px` }}>
          <Mark name="gap" label={w.markGap} />
          <b>{w.lossBand(duration(item.us))[0]}</b>
          <span>{w.lossBand(duration(item.us))[1]}</span>
        </div>,
      );
  }
  // The active row stays on the page, however far it is scrolled away, so that the focus is not lost.
  const here = indexOf(rows, active.value);
  const hereItem = here < 0 ? -1 : (laidNow.itemOfRow[here] ?? -1);
  if (hereItem >= 0 && (hereItem < first || hereItem >= last)) drawRow(hereItem, here);

  cache.current = drawn;

  const rowAt = (event: Event) => (event.target as Element).closest<HTMLElement>('[data-id]')?.dataset.id;
  const newer = base !== null && count?.exact ? count.matched - (base + lastSeen.value + 1) : feed.moreAfter.value ? null : rows.length - 1 - lastSeen.value;
  const total = count?.exact && base !== null ? count.matched + 1 : -1;

  return (
    <section class={`list ${kind}`} aria-label={w.exchanges} style={{ '--host': `${hostWidth.value}px`, '--cols': tracks.value }}>
      {!place.value.sel && <h1 class="off-screen">{w.exchanges}</h1>}
      <div class="grid" role="grid" aria-label={w.exchanges} aria-rowcount={total} aria-multiselectable={false} id="list">
        {kind !== 'phone' && <Heads full={kind === 'full'} />}
        <div
          class="scroller"
          ref={box}
          role="rowgroup"
          onScroll={onScroll}
          onPointerDown={(event) => {
            const id = event.button === 0 && event.isPrimary ? rowAt(event) : undefined;
            press.current = id ? { id, x: event.clientX, y: event.clientY, down: true } : null;
            if (!id || event.pointerType !== 'mouse') return;
            // The row that was pressed is meant, whatever is under the pointer when the button is let go.
            active.value = id;
            if (place.peek().sel) selectPressed(id);
          }}
          onClick={(event) => {
            // What has a pointer was dealt with when that went up; a screen reader's click has none.
            const id = event.detail === 0 ? rowAt(event) : undefined;
            if (id) openDetail(id);
          }}
          onDblClick={() => press.current && openPage(press.current.id)}
          onPointerOver={(event) => event.pointerType === 'mouse' && (pointed.value = rowAt(event) ?? '')}
          onPointerLeave={() => (pointed.value = '')}
          onFocusIn={(event) => {
            const id = rowAt(event);
            if (id && id !== active.peek()) active.value = id;
          }}
        >
          <div class="space" role="presentation" style={{ height: `${laidNow.tops.at(-1) ?? 0}px` }}>
            {shown}
          </div>
        </div>
      </div>
      <NotFinished />
      {!following.value && rows.length > 0 && (newer === null || newer > 0) && (
        <button type="button" class="newer" onClick={() => void toEnd()}>
          <Icon name="down" /> {newer === null ? w.newerUnknown : w.newer(grouped(newer))}
        </button>
      )}
    </section>
  );
}
