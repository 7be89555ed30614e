// The vocabulary of shapes: icons, status, signature and mark symbols, and server badges, as inline SVG in
// currentColor, so that forced colours keep them. A shape that says something has a label for screen readers.

import type { JSX } from 'preact';
import type { Row, SignatureVerdict, Digest } from './api';
import type { Drawn, Silhouette } from './hosts';
import { statusClass } from './list/window';
import { t } from './state';

const ICONS = {
  filter: 'M2 3h12L9.5 8.5V13l-3-1.5v-3z',
  x: 'M4 4l8 8M12 4l-8 8',
  left: 'M10 3L5 8l5 5',
  right: 'M6 3l5 5-5 5',
  down: 'M8 3v9M4 8.5L8 12.5l4-4',
  arrow: 'M2 8h11M9.5 4.5L13 8l-3.5 3.5',
  delivery: 'M8 2v7M5 6.2L8 9l3-2.8M2.5 8.5v4.8h11V8.5',
  export: 'M8 2v7.5M4.8 6.6L8 9.8l3.2-3.2M2.5 13.5h11',
  columns: 'M2.2 3h11.6v10H2.2zM6.1 3v10M9.900 3v10',
  at: 'M10.6 8a2.6 2.6 0 1 1-5.2 0 2.6 2.6 0 0 1 5.2 0zm0-2.6V9c0 2.2 3.4 1.9 3.4-1a6 6 0 1 0-2.4 4.8',
  person: 'M10.6 5.2a2.6 2.6 0 1 1-5.2 0 2.6 2.6 0 0 1 5.2 0zM3 13.6c.3-2.8 2.2-4.2 5-4.2s4.7 1.4 5 4.2',
  key: 'M7.2 10.6a2.6 2.6 0 1 1-1.8-1.8L12.6 2M10 4.6l2 2',
  page: 'M4 2.2h8v11.6H4zM6.2 5.4h3.6M6.2 8h3.6M6.2 10.6h3.6',
  info: 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0zM8 7.4v3.4M8 5v.2',
  list: 'M2.5 4h11M2.5 8h11M2.5 12h11',
  image: 'M2.2 3.2h11.6v9.6H2.2zM2.6 11.4l3.2-3.2 2.4 2.2 2.2-2 3.2 3M6.8 5.9a.7.7 0 1 1-1.4 0 .7.7 0 0 1 1.4 0z',
  code: 'M5.5 4.5L2 8l3.5 3.5M10.5 4.5L14 8l-3.5 3.5',
  stream: 'M9 2L4 9h3.4L7 14l5-7H8.6z',
  globe: 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0zM2 8h12M8 2c4 4 4 8 0 12M8 2C4 6 4 10 8 14',
  pulse: 'M1.5 8h3l1.5-4.5 2.6 9L10.4 8h4.1',
  dots: 'M3.5 8h.1M8 8h.1M12.5 8h.1',
  server: 'M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.1M5 11h.1',
  file: 'M4 2h5.5L12.5 5v9H4zM9.2 2.2V5.4h3',
  check: 'M3 8.6l3.2 3.2L13 5',
  plug: 'M5.5 2v3M10.5 2v3M4 5h8v2.5a4 4 0 0 1-8 0zM8 11.5V14.5',
  search: 'M10.8 6.8a4 4 0 1 1-8 0 4 4 0 0 1 8 0zM9.8 9.8l3.8 3.8',
  sun: 'M10.6 8a2.6 2.6 0 1 1-5.2 0 2.6 2.6 0 0 1 5.2 0zM8 1.4v1.8M8 12.8v1.8M1.4 8h1.8M12.8 8h1.8M3.3 3.3l1.3 1.3M11.4 11.4l1.3 1.3M3.3 12.7l1.3-1.3M11.4 4.6l1.3-1.3',
  moon: 'M13.4 9.6A5.8 5.8 0 0 1 6.4 2.6a5.8 5.8 0 1 0 7 7z',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  play: 'M5 3.2l7.5 4.8L5 12.8z',
  copy: 'M5.5 5.5h8v8h-8zM3.5 10.5h-1v-8h8v1',
  link: 'M6.6 9.4l2.8-2.8M7 4.8l1.6-1.6a3 3 0 0 1 4.2 4.2L11.2 9M9 11.2l-1.6 1.6a3 3 0 0 1-4.2-4.2L4.8 7',
  terminal: 'M2 3h12v10H2zM4.5 6l2 2-2 2M8 10.2h3.2',
  external: 'M6.5 3.5H3v9.5h9.5V9.5M9 2.5h4.5V7M13.2 2.8L7.5 8.5',
  lock: 'M3.8 7h8.4v6.4H3.8zM5.4 7V5a2.6 2.6 0 0 1 5.2 0v2',
  clock: 'M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0zM8 4.8V8l2.4 1.6',
} as const;
export type IconName = keyof typeof ICONS;

interface IconProps {
  name: IconName;
  class?: string;
  label?: string;
}

/** An icon; decoration unless it has a label. */
export function Icon({ name, label, class: c }: IconProps): JSX.Element {
  return (
    <svg class={`icon ${c ?? ''}`} viewBox="0 0 16 16" {...(label ? { role: 'img', 'aria-label': label } : { 'aria-hidden': true })}>
      <path d={ICONS[name]} />
    </svg>
  );
}

export function Logo(): JSX.Element {
  return (
    <svg class="logo" viewBox="0 0 20 20" aria-hidden="true">
      <path d="M1 13.5h5.4M13.6 13.5H19M10 4.2v5.6M6.2 3.8h7.6" />
      <circle cx="10" cy="13.5" r="3.5" />
    </svg>
  );
}

const KIND_ICONS: Record<string, IconName> = {
  'inbox-delivery': 'delivery',
  'outbox-post': 'delivery',
  actor: 'person',
  key: 'key',
  object: 'page',
  collection: 'list',
  'followers-synchronization': 'list',
  webfinger: 'at',
  'host-meta': 'info',
  'nodeinfo-discovery': 'info',
  nodeinfo: 'info',
  'well-known': 'info',
  robots: 'page',
  context: 'code',
  oembed: 'globe',
  'link-preview': 'globe',
  media: 'image',
  'instance-api': 'info',
  'client-api': 'code',
  streaming: 'stream',
  page: 'globe',
  asset: 'globe',
  probe: 'pulse',
};
export const KindIcon = ({ kind }: { kind: string }) => <Icon name={KIND_ICONS[kind] ?? 'dots'} />;

const SILHOUETTES: Record<Silhouette, string> = {
  circle: 'M9 1a8 8 0 1 1 0 16A8 8 0 0 1 9 1z',
  client: 'M9 1a8 8 0 1 1 0 16A8 8 0 0 1 9 1z',
  square: 'M5 1.2h8A3.8 3.8 0 0 1 16.8 5v8a3.8 3.8 0 0 1-3.8 3.8H5A3.8 3.8 0 0 1 1.2 13V5A3.8 3.8 0 0 1 5 1.2z',
  hexagon: 'M9 .8l7.2 4.1v8.2L9 17.2l-7.2-4.1V4.9z',
  diamond: 'M9 .4L17.6 9 9 17.6.4 9z',
  pentagon: 'M9 .8l8.3 6.1-3.2 9.8H3.9L.7 6.9z',
  octagon: 'M5.6 1h6.8L17 5.6v6.8L12.4 17H5.6L1 12.4V5.6z',
};

/** A server: its slot's colour, its software's silhouette, its letters. The name stands beside it or in the label. */
export function Badge({ host, label, large }: { host: Drawn; label?: boolean; large?: boolean }): JSX.Element {
  const title = host.software ? `${host.host}, ${host.software}` : host.host;
  return (
    <svg class={`badge slot${host.slot} ${host.silhouette} ${large ? 'large' : ''}`} viewBox="0 0 18 18" {...(label ? { role: 'img', 'aria-label': title } : { 'aria-hidden': true })}>
      <path d={SILHOUETTES[host.silhouette]} />
      <text x="9" y="11.9" text-anchor="middle">
        {host.letters}
      </text>
    </svg>
  );
}

const SEAL = 'M8 1.3l1.7 1.2 2-.1.7 2 1.8 1L13.6 7.500l.6 2-1.8 1.100-.7 2-2-.1L8 13.700l-1.700-1.200-2 .1-.7-2-1.800-1.100.6-2-.6-2.100 1.800-1 .7-2 2 .1z';
const DIAMOND = 'M8 1.6L14.4 8 8 14.4 1.6 8z';
const OCTAGON = 'M5.4 1.8h5.2l3.6 3.600v5.200l-3.600 3.600H5.400L1.800 10.600V5.400z';

type Seal = SignatureVerdict | 'mismatch';
export const sealOf = (signature: SignatureVerdict, digest: Digest): Seal => (signature === 'valid' && digest === 'mismatch' ? 'mismatch' : signature);

/** What is known of a signature, as a shape. */
export function Signature({ signature, digest, gaps, label }: { signature: SignatureVerdict; digest: Digest; gaps: number; label?: boolean }): JSX.Element {
  const seal = sealOf(signature, digest);
  const text = t.value.signatureIs(seal === 'mismatch' ? t.value.mismatch : t.value.verdicts[seal]);
  const shape: Record<Seal, JSX.Element> = {
    valid: (
      <>
        <path d={SEAL} />
        <path d="M5.400 7.600l1.900 1.900 3.400-3.600" />
      </>
    ),
    invalid: (
      <>
        <path class="fill" d={SEAL} />
        <path class="cut" d="M5.800 5.300l4.400 4.400M10.200 5.300L5.800 9.700" />
      </>
    ),
    mismatch: (
      <>
        <path class="fill" d={DIAMOND} />
        <path class="cut" d="M5.300 6.800h5.400M5.300 9.300h5.400M9.400 5L6.600 11" />
      </>
    ),
    'key-not-seen': (
      <>
        <circle class="dashed" cx="8" cy="8" r="6" />
        <path d="M6.300 6.500c.2-2.300 3.500-2 3.400 0-.1 1.200-1.700 1.200-1.700 2.500M8 11v.1" />
      </>
    ),
    'not-checkable': (
      <>
        <circle class="dashed" cx="8" cy="8" r="6" />
        <path d="M5 8.700c1-1.800 2-1.200 3-.6s2 1 3-.8" />
      </>
    ),
    unsigned: <path d="M4.500 8h7" />,
  };
  // Colour means "look here": what could not be checked is worth a look where bytes are missing.
  const calm = seal === 'unsigned' || (seal === 'not-checkable' && gaps === 0);
  const tone = seal === 'valid' ? 'ok' : seal === 'invalid' || seal === 'mismatch' ? 'err' : calm ? 'dim' : 'warn';
  return (
    <svg class={`icon sign ${tone}`} viewBox="0 0 16 16" {...(label === false ? { 'aria-hidden': true } : { role: 'img', 'aria-label': text })}>
      {label === false ? null : <title>{text}</title>}
      {shape[seal]}
    </svg>
  );
}

/** A status: the number alone for success, else a shape before it. */
export function Status({ row }: { row: Pick<Row, 'status' | 'kind'> }): JSX.Element {
  const c = statusClass(row);
  const words = t.value.statusWords;
  if (c === 'ok') return <span class="status">{row.status}</span>;
  const label = words[c];
  return (
    <span class={`status ${c}`}>
      {c === 'redirect' ? (
        <svg class="icon" viewBox="0 0 16 16" role="img" aria-label={label}>
          <path d="M3 3v3.500a2.500 2.500 0 0 0 2.500 2.500H13M9.800 5.800L13 9l-3.200 3.200" />
        </svg>
      ) : (
        <svg class="icon" viewBox="0 0 16 16" role="img" aria-label={label}>
          {c === 'refused' || c === 'absent' ? <path d="M8 2.800L13.200 8 8 13.200 2.800 8z" /> : <path d={OCTAGON} />}
          {c === 'failed' || c === 'none' ? <path d="M6 6l4 4M10 6l-4 4" /> : null}
        </svg>
      )}
      {row.status ?? '–'}
    </span>
  );
}

export function Mark({ name, label }: { name: 'gap' | 'lint-error' | 'lint-warn' | 'anomaly' | 'websocket'; label: string }): JSX.Element {
  const tone = name === 'lint-error' ? 'err' : name === 'websocket' || name === 'anomaly' ? 'dim' : 'warn';
  const shape = {
    gap: <path d="M1.500 8h2.600l1.600-3.800 1.900 7.600M9.300 9.800L10.600 5l1.200 3h2.700" />,
    'lint-error': <path class="fill" d="M4 14V2.200h8.600L10.800 5.400l1.800 3.200H4" />,
    'lint-warn': <path d="M4 14V2.500h8.300l-1.600 3 1.600 3H4" />,
    anomaly: <path d="M8 2.400L14.400 13.400H1.600zM8 6.400v3.200M8 11.400v.1" />,
    websocket: <path d="M2.500 5.500h10M9.500 2.500l3 3-3 3M13.500 10.500h-10M6.500 7.500l-3 3 3 3" />,
  }[name];
  return (
    <svg class={`icon mark ${tone}`} viewBox="0 0 16 16" role="img" aria-label={label}>
      <title>{label}</title>
      {shape}
    </svg>
  );
}
