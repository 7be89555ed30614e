// Numbers, times and names as the reader sees them. Pure; numbers and units stay Latin in every language.

/** A number and its unit, apart, because the unit is set one step back. */
export type Measured = [string, string];

const three = (n: number) => (n < 10 ? n.toFixed(1) : n < 100 ? n.toFixed(1) : String(Math.round(n)));

/** A duration: µs, ms, s, min, h. */
export function duration(us: number): Measured {
  if (us < 1000) return [String(Math.round(us)), 'µs'];
  if (us < 999_950) return [three(us / 1000), 'ms'];
  if (us < 119_950_000) return [three(us / 1_000_000), 's'];
  if (us < 7_200_000_000) return [String(Math.round(us / 60_000_000)), 'min'];
  if (us < 172_800_000_000) return [String(Math.round(us / 3_600_000_000)), 'h'];
  return [String(Math.round(us / 86_400_000_000)), 'd'];
}

/** A size in decimal units: B, kB, MB, GB. */
export function size(bytes: number): Measured {
  if (bytes < 1000) return [String(bytes), 'B'];
  if (bytes < 999_950) return [three(bytes / 1e3), 'kB'];
  if (bytes < 999_950_000) return [three(bytes / 1e6), 'MB'];
  return [three(bytes / 1e9), 'GB'];
}

/** Digits in groups of three, by a thin space: 2 851. */
export function grouped(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

/** Nanoseconds since 1970 of an RFC 3339 time; NaN-free: 0n when it is not one. */
export function nanos(text: string): bigint {
  const m = /^(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (!m) return 0n;
  const ms = Date.parse(`${m[1]}${m[1]!.length === 16 ? ':00' : ''}${m[3]}`);
  if (Number.isNaN(ms)) return 0n;
  return BigInt(ms) * 1_000_000n + BigInt((m[2] ?? '').padEnd(9, '0'));
}

/** The RFC 3339 time of nanoseconds since 1970, without needless zeros. */
export function timeOf(ns: bigint): string {
  const ms = ns / 1_000_000n;
  const text = new Date(Number(ms)).toISOString().slice(0, 19);
  const rest = (ns % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  return `${text}${rest ? `.${rest}` : ''}Z`;
}

/** When an exchange started, from its id: the first 64 of its 128 bits, in base 32 (RFC 4648's extended hex alphabet). */
export function timeOfId(id: string): string {
  let n = 0n;
  for (const c of id) n = (n << 5n) | BigInt(Number.parseInt(c, 32));
  return timeOf(n >> 64n);
}

/** Microseconds from `a` to `b`, both RFC 3339. */
export function microsBetween(a: string, b: string): number {
  return Number((nanos(b) - nanos(a)) / 1000n);
}

/** A clock time in parts: `07:26:`, `40`, `.354`, and the day `2026-11-23`. */
export interface Clock {
  day: string;
  minute: string;
  second: string;
  milli: string;
}

export function clock(time: string, local = false): Clock {
  const ns = nanos(time);
  const ms = Number(ns / 1_000_000n);
  const shift = local ? -new Date(ms).getTimezoneOffset() * 60_000 : 0;
  const text = new Date(ms + shift).toISOString();
  return { day: text.slice(0, 10), minute: text.slice(11, 17), second: text.slice(17, 19), milli: text.slice(19, 23) };
}

/** `07:26:40.354`. */
export function clockText(time: string, local = false): string {
  const c = clock(time, local);
  return c.minute + c.second + c.milli;
}

/** Cuts at the start, so that the end is kept: `…tuses/01M8`. */
export function keepEnd(text: string, most: number): string {
  const all = [...text];
  return all.length <= most ? text : `…${all.slice(all.length - most + 1).join('')}`;
}

/** A request target for the list: WebFinger shows its resource, other queries fold to `?…`, the end is kept. */
export function shortTarget(target: string, most: number): string {
  const mark = target.indexOf('?');
  if (mark < 0) return keepEnd(target, most);
  const path = target.slice(0, mark);
  if (path === '/.well-known/webfinger') {
    const resource = new URLSearchParams(target.slice(mark + 1)).get('resource');
    if (resource) return keepEnd(resource, most);
  }
  return keepEnd(`${path}?…`, most);
}
