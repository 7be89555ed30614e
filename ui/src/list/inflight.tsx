// What has been asked and is not answered yet, below the finished exchanges: who, what, and a running clock. What it
// means is told when it is finished; nothing is guessed here.

import { computed, effect, signal } from '@preact/signals';
import type { JSX } from 'preact';
import type { InFlight } from '../api';
import { duration, grouped, nanos, shortTarget } from '../format';
import { feed, inFlight, place, requestChars, t } from '../state';
import { Time, Unit } from './row';

/** What is answered sooner would only flash. */
const SHOWN_AFTER = 400_000;
/** So many are listed; the others are counted. */
const LISTED = 5;

/** Milliseconds since 1970, ten times a second while something is in flight; once a second for who wants less motion. */
const now = signal(Date.now());
const calm = matchMedia('(prefers-reduced-motion: reduce)');
effect(() => {
  if (inFlight.value.exchanges.length === 0) return;
  now.value = Date.now();
  const timer = setInterval(() => (now.value = Date.now()), calm.matches ? 1000 : 100);
  return () => clearInterval(timer);
});

/** Microseconds that it has been going on; the clocks of the node and of this machine may differ a little. */
const age = (one: InFlight): number => Math.max(0, now.value * 1000 - Number(nanos(one.started) / 1000n));
const slow = computed(() => inFlight.value.exchanges.filter((one) => age(one) >= SHOWN_AFTER));

function Going({ one }: { one: InFlight }): JSX.Element {
  const w = t.value;
  const target = one.target === null ? '?' : shortTarget(one.target, Math.max(24, requestChars.value));
  return (
    <li>
      <span class="time">
        <Time at={one.started} />
      </span>
      <span class="what" title={one.target ?? undefined}>
        <b>{one.method ?? '?'}</b> {target} <span class="at">{one.host ?? one.ends.server}</span>
      </span>
      <span class="from">{w.inFlightFrom(one.ends.client)}</span>
      <span class="going">{one.websocket ? w.inFlightOpen : one.status === null ? '···' : `${one.status} ···`}</span>
      <span class="took" aria-hidden="true">
        <Unit of={duration(age(one))} />
      </span>
    </li>
  );
}

export function NotFinished(): JSX.Element | null {
  const all = slow.value;
  // A list that ends at a time, or stands still, does not go on below.
  if (all.length === 0 || place.value.to || feed.paused.value) return null;
  const w = t.value;
  const more = inFlight.value.total - (inFlight.value.exchanges.length - all.length) - Math.min(all.length, LISTED);
  return (
    <section class="inflight" aria-label={w.inFlight} title={w.inFlightWhy}>
      <ul>
        {all.slice(0, LISTED).map((one) => (
          <Going key={one.id} one={one} />
        ))}
      </ul>
      {more > 0 && <p>{w.inFlightMore(grouped(more))}</p>}
    </section>
  );
}
