// How a host is drawn: its short name, its two letters, its colour's slot and the silhouette of its software. Pure.

import type { Host } from './api';

export type Silhouette = 'circle' | 'square' | 'hexagon' | 'diamond' | 'pentagon' | 'octagon' | 'client';

export interface Drawn {
  host: string;
  /** The shortest prefix, in whole labels, that no other host has: `gts1`. */
  short: string;
  letters: string;
  /** 1–8; 0 for clients, which have no colour. */
  slot: number;
  silhouette: Silhouette;
  software: string | null;
}

const FAMILIES: [RegExp, Silhouette][] = [
  [/mastodon|glitch|hometown/i, 'circle'],
  [/gotosocial/i, 'square'],
  [/fedify/i, 'hexagon'],
  [/misskey|sharkey|firefish|calckey|foundkey|iceshrimp|cherrypick|catodon/i, 'diamond'],
  [/lemmy/i, 'pentagon'],
];

/** A software without what its build added: `GoToSocial 0.20.0-snapshot+57cb4fe74` → GoToSocial 0.20.0. */
export const release = (software: string): string => software.replace(/(\d+(?:\.\d+)+)[-+~]\S*/, '$1');

/** The silhouette of a software; others are octagons. */
export function silhouette(software: string | null): Silhouette {
  if (software) for (const [pattern, shape] of FAMILIES) if (pattern.test(software)) return shape;
  return 'octagon';
}

const isAddress = (host: string) => /^\d{1,3}(\.\d{1,3}){3}(:\d+)?$/.test(host) || host.startsWith('[') || /^[0-9a-f:]+:[0-9a-f:]*$/i.test(host);

/** Short names: as few leading labels as keep every host apart. An address, or what cannot be told apart, stays whole. */
export function shortNames(hosts: readonly string[]): Map<string, string> {
  const labels = new Map(hosts.map((host) => [host, isAddress(host) ? [host] : host.split('.')]));
  const short = new Map<string, string>();
  for (const [host, mine] of labels) {
    let take = 1;
    for (const [other, theirs] of labels) {
      if (other === host) continue;
      let same = 0;
      while (same < mine.length && same < theirs.length && mine[same] === theirs[same]) same++;
      take = Math.max(take, Math.min(mine.length, same + 1));
    }
    short.set(host, mine.slice(0, take).join('.'));
  }
  return short;
}

/** Two letters of a host: first letter and number of its first label (`gts1` → G1), else first two consonants; of an address its end. */
export function letters(host: string): string {
  if (isAddress(host)) return (host.replace(/:\d+$/, '').split(/[.:\]]/).filter(Boolean).at(-1) ?? '?').slice(-2).toUpperCase();
  const label = (host.split('.')[0] ?? host).toLowerCase();
  const number = /[a-z].*?(\d+)\D*$/.exec(label)?.[1];
  const first = /[a-z]/.exec(label)?.[0] ?? label[0] ?? '?';
  if (number) return (first + number.slice(-1)).toUpperCase();
  const consonants = label.replace(/[^a-z]/g, '').replace(/[aeiou]/g, '');
  const two = consonants.length >= 2 ? consonants.slice(0, 2) : label.replace(/[^a-z0-9]/g, '').slice(0, 2);
  return (two || first).toUpperCase();
}

/** Makes letters unique: a clash takes its first letter with another of the host, then with a digit. */
function unique(host: string, taken: Set<string>): string {
  const wish = letters(host);
  const label = (host.split('.')[0] ?? host).toUpperCase().replace(/[^A-Z0-9]/g, '');
  const candidates = [wish, ...[...label.slice(1)].map((c) => (label[0] ?? '?') + c), ...[...'23456789'].map((c) => (wish[0] ?? '?') + c)];
  const free = candidates.find((c) => !taken.has(c)) ?? wish;
  taken.add(free);
  return free;
}

/** All that the page draws hosts with. */
export class HostBook {
  private readonly drawn = new Map<string, Drawn>();

  constructor(hosts: readonly Host[]) {
    const names = shortNames(hosts.map((h) => h.host));
    const taken = new Set<string>();
    for (const h of hosts) {
      this.drawn.set(h.host, {
        host: h.host,
        short: names.get(h.host) ?? h.host,
        letters: unique(h.host, taken),
        slot: (h.slot % 8) + 1,
        silhouette: silhouette(h.software),
        software: h.software,
      });
    }
  }

  has(host: string): boolean {
    return this.drawn.has(host);
  }

  get all(): Drawn[] {
    return [...this.drawn.values()];
  }

  /** A host as drawn; one that is not a known server is a client: no colour, dashed circle. */
  get(host: string): Drawn {
    const known = this.drawn.get(host);
    if (known) return known;
    const bare = host.replace(/:\d+$/, '');
    const other = this.drawn.get(bare);
    if (other) return other;
    return { host, short: host, letters: isAddress(host) ? 'C' : letters(host), slot: 0, silhouette: 'client', software: null };
  }

  short(host: string): string {
    return this.get(host).short;
  }
}
