// The strip of time: what was delivered and fetched, failures in a lane of their own at the top, gaps hatched. Dragging
// makes a span of time; its two ends are sliders for the keyboard.

import { signal, useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { api, type Strip as StripData } from '../api';
import { clock, clockText, nanos, timeOf } from '../format';
import { connection, feed, go, inSight, local, narrow, place, stripTick, t } from '../state';
import { ticks } from './ticks';

const data = signal<StripData | null>(null);
const BARS = 240;

export function Strip(): JSX.Element {
  const w = t.value;
  const box = useRef<HTMLDivElement>(null);
  const drag = useSignal<[number, number] | null>(null);
  const over = useSignal(-1);
  const tick = stripTick.value;
  useEffect(() => {
    const abort = new AbortController();
    api.strip(BARS, undefined, undefined, abort.signal).then(
      (found) => (data.value = found),
      () => {},
    );
    return () => abort.abort();
  }, [tick]);

  const strip = data.value;
  const from = strip?.from ? nanos(strip.from) : 0n;
  const to = strip?.to ? nanos(strip.to) : 0n;
  const span = to - from;
  const usable = strip !== null && span > 0n && strip.bars.length > 0;
  const at = (ns: bigint) => (usable ? Math.min(1, Math.max(0, Number(ns - from) / Number(span))) : 0);
  const timeAt = (x: number) => timeOf(from + BigInt(Math.round(Number(span) * Math.min(1, Math.max(0, x)))));
  const chosen: [number, number] | null = drag.value ?? (place.value.from || place.value.to ? [place.value.from ? at(nanos(place.value.from)) : 0, place.value.to ? at(nanos(place.value.to)) : 1] : null);

  const set = (a: number, b: number, how: 'push' | 'replace' = 'push') => {
    const [x, y] = a <= b ? [a, b] : [b, a];
    go({ from: x <= 0 ? '' : timeAt(x), to: y >= 1 ? '' : timeAt(y), at: '' }, how);
  };
  const place_ = (event: PointerEvent) => {
    const r = box.current?.getBoundingClientRect();
    return r && r.width > 0 ? (event.clientX - r.left) / r.width : 0;
  };

  const max = Math.max(1, ...(strip?.bars.map((b) => b.deliveries + b.fetches) ?? []));
  const height = (n: number) => (n === 0 ? 0 : Math.max(2, Math.round((23 * Math.sqrt(n)) / Math.sqrt(max))));
  const sight = feed.rows.value.length > 0 ? inSight.value : null;
  const seen = usable && sight ? [at(nanos(sight.from)), at(nanos(sight.to))] : null;
  const bars = strip?.bars ?? [];
  const n = bars.length || 1;
  const hovered = over.value >= 0 ? bars[over.value] : undefined;
  const label = (i: number) => clockText(timeAt(i / n), local.value).slice(0, 8);

  const thumb = (end: 0 | 1): JSX.Element | null => {
    if (!usable) return null;
    const span_ = chosen ?? [0, 1];
    const x = span_[end];
    return (
      <span
        class={`thumb ${chosen ? 'on' : ''}`}
        role="slider"
        tabIndex={0}
        aria-label={end === 0 ? w.stripFrom : w.stripTo}
        aria-valuemin={0}
        aria-valuemax={n}
        aria-valuenow={Math.round(x * n)}
        aria-valuetext={clockText(timeAt(x), local.value)}
        style={{ left: `${x * 100}%` }}
        onKeyDown={(event) => {
          const step = event.shiftKey ? 10 : 1;
          const by = event.key === 'ArrowRight' || event.key === 'ArrowUp' ? step : event.key === 'ArrowLeft' || event.key === 'ArrowDown' ? -step : 0;
          if (event.key === 'Escape' && chosen) {
            event.preventDefault();
            event.stopPropagation();
            go({ from: '', to: '', at: '' });
            return;
          }
          if (by === 0) return;
          event.preventDefault();
          const next = Math.min(1, Math.max(0, x + by / n));
          if (end === 0) set(Math.min(next, span_[1] - 1 / n), span_[1], 'replace');
          else set(span_[0], Math.max(next, span_[0] + 1 / n), 'replace');
        }}
      />
    );
  };

  return (
    <section class="strip" aria-label={w.strip}>
      <div
        class="bars"
        ref={box}
        onPointerDown={(event) => {
          if (!usable || event.button !== 0 || (event.target as Element).closest('.thumb, button')) return;
          (event.currentTarget as Element).setPointerCapture(event.pointerId);
          const x = place_(event);
          drag.value = [x, x];
        }}
        onPointerMove={(event) => {
          const x = place_(event);
          over.value = Math.min(n - 1, Math.max(0, Math.floor(x * n)));
          if (drag.value) drag.value = [drag.value[0], x];
        }}
        onPointerLeave={() => (over.value = -1)}
        onPointerCancel={() => (drag.value = null)}
        onPointerUp={() => {
          const d = drag.value;
          drag.value = null;
          if (!d) return;
          if (Math.abs(d[0] - d[1]) < 0.003) {
            if (place.value.from || place.value.to) go({ from: '', to: '', at: '' });
          } else set(d[0], d[1]);
        }}
      >
        <svg viewBox={`0 0 ${n * 4} 30`} preserveAspectRatio="none" aria-hidden="true">
          <defs>
            <pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
              <rect width="2.500" height="6" class="hatchline" />
            </pattern>
          </defs>
          {bars.map((b, i) => {
            const all = height(b.deliveries + b.fetches);
            const deliveries = b.deliveries + b.fetches === 0 ? 0 : Math.round((all * b.deliveries) / (b.deliveries + b.fetches));
            return (
              <>
                {b.gaps > 0 && <rect x={i * 4} y="0" width="4" height="30" class="gapbar" />}
                {all > 0 && <rect x={i * 4} y={30 - all} width="3.200" height={all - deliveries} class="fetches" />}
                {deliveries > 0 && <rect x={i * 4} y={30 - deliveries} width="3.200" height={deliveries} class="deliveries" />}
                {b.failures > 0 && <rect x={i * 4} y="0" width="3.200" height={b.failures > max / 3 ? 5 : 3} class="failures" />}
              </>
            );
          })}
        </svg>
        {connection.value.state === 'down' && <span class="future" />}
        {seen && seen[1]! - seen[0]! < 0.98 && <span class="seen" style={{ left: `${seen[0]! * 100}%`, width: `${(seen[1]! - seen[0]!) * 100}%` }} />}
        {chosen && <span class="chosen" style={{ left: `${Math.min(...chosen) * 100}%`, width: `${Math.abs(chosen[1] - chosen[0]) * 100}%` }} />}
        {thumb(0)}
        {thumb(1)}
        {hovered && (
          <span class={`tip ${over.value > n / 2 ? 'left' : ''}`} style={over.value > n / 2 ? { right: `${100 - (100 * over.value) / n}%` } : { left: `${(100 * (over.value + 1)) / n}%` }}>
            {w.stripBar(label(over.value), hovered.deliveries, hovered.fetches, hovered.failures, hovered.gaps)}
          </span>
        )}
      </div>
      <div class="axis" aria-hidden="true">
        {usable &&
          ticks(from, to, local.value ? -new Date(Number(from / 1_000_000n)).getTimezoneOffset() : 0, narrow.value ? 5 : 14).map((tick) => (
            <span style={{ left: `${at(tick.ns) * 100}%` }}>{tick.day ? clock(timeOf(tick.ns), local.value).day.slice(5) : clockText(timeOf(tick.ns), local.value).slice(0, tick.seconds ? 8 : 5)}</span>
          ))}
      </div>
    </section>
  );
}
