// Where an axis of time has its ticks: round times, not too many. Pure.

export interface Tick {
  ns: bigint;
  seconds: boolean;
  day: boolean;
}

const SECOND = 1_000_000_000n;
const STEPS = [1n, 2n, 5n, 10n, 15n, 30n, 60n, 120n, 300n, 600n, 900n, 1800n, 3600n, 7200n, 10800n, 21600n, 43200n, 86400n, 172800n, 604800n].map((s) => s * SECOND);

/** Ticks from `from` to `to`; `zone` is the offset of the clock shown from UTC in minutes. */
export function ticks(from: bigint, to: bigint, zone = 0, most = 14): Tick[] {
  const span = to - from;
  if (span <= 0n) return [];
  let step = STEPS.find((s) => span / s <= BigInt(most)) ?? STEPS.at(-1)!;
  while (span / step > BigInt(most)) step *= 2n;
  const shift = BigInt(zone) * 60n * SECOND;
  const first = ((from + shift + step - 1n) / step) * step - shift;
  const found: Tick[] = [];
  for (let ns = first; ns < to && found.length < 40; ns += step) found.push({ ns, seconds: step < 60n * SECOND, day: step >= 86400n * SECOND });
  return found;
}
