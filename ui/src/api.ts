// The typed client of the viewer's API (`ui/API.md`): every endpoint, its errors as values of one class, and the
// server-sent events with reconnect and resync. It holds no state of the page.

export type SignatureVerdict = 'valid' | 'invalid' | 'key-not-seen' | 'not-checkable' | 'unsigned';
export type Digest = 'match' | 'mismatch' | 'absent' | 'not-checkable';
export type Visibility = 'public' | 'unlisted' | 'followers' | 'direct';
export type View = 'federation' | 'all';
export type Scheme = 'cavage' | 'rfc9421';

/** A link to what made an exchange necessary, or to what it made necessary. */
export interface Link {
  id: string;
  /** An id says so; else time, hosts and keys do. */
  proven: boolean;
}

/** One row of the list. */
export interface Row {
  id: string;
  started: string;
  from: string;
  from_software: string | null;
  to: string;
  kind: string;
  activity: string | null;
  activity_id: string | null;
  sentence: string;
  template: string;
  slots: [string, string][];
  excerpt: string | null;
  visibility: Visibility | null;
  method: string | null;
  target: string | null;
  status: number | null;
  took_us: number | null;
  sent: number | null;
  answered: number | null;
  scheme: Scheme | null;
  signature: SignatureVerdict;
  digest: Digest;
  reason: string | null;
  federation: boolean;
  gaps: number;
  lint_errors: number;
  lint_warnings: number;
  anomalies: number;
  websocket: boolean;
  caused_by: Link | null;
  caused: Link[];
}

/** A header field; a part is `null` where HPACK state was lost. */
export type Header = [string | null, string | null];

export interface BodyFacts {
  wire_size: number;
  size: number;
  encoding: string | null;
  complete: boolean;
  stored: number;
  sha256: string | null;
}

export interface Message {
  version: string;
  headers: Header[];
  trailers: Header[];
  body: BodyFacts;
  first_byte: string;
  last_byte: string;
}

export interface WsMessage {
  direction: 'to-server' | 'to-client';
  time: string;
  opcode: number;
  frames: number;
  size: number;
  complete: boolean;
  sha256: string | null;
  text: string | null;
}

export interface Lint {
  id: string;
  severity: 'info' | 'warn' | 'error';
  detail: string;
}

/** `fedisniff.exchange/1`. */
export interface Exchange {
  schema: string;
  id: string;
  started: string;
  node: string | null;
  interface: string | null;
  protocol: string;
  client: { address: string; name: string | null };
  server: { address: string; name: string | null };
  origin: {
    address: string | null;
    address_from: string | null;
    name: string | null;
    host: string | null;
    host_from: string | null;
    software: string | null;
    software_from: string | null;
  } | null;
  request: (Message & { method: string | null; target: string | null; host: string | null }) | null;
  response: (Message & { status: number | null; reason: string | null }) | null;
  interim: { status: number; time: string; headers: Header[] }[];
  timing: { request_us: number | null; wait_us: number | null; response_us: number | null; total_us: number | null };
  websocket: { frames: number; messages: WsMessage[]; messages_dropped: number; extensions: string | null; close_code: number | null } | null;
  gaps: { direction: 'to-server' | 'to-client'; offset: number; length: number; cause: string }[];
  anomalies: { id: string; detail: string }[];
  reading: {
    kind: string;
    sentence: string;
    template: string;
    slots: Record<string, string>;
    activity: {
      id: string | null;
      type: string | null;
      actor: string | null;
      object: string | null;
      object_type: string | null;
      inner: string | null;
      target: string | null;
      to: string[];
      cc: string[];
      visibility: Visibility | null;
    } | null;
    signature: {
      scheme: Scheme | null;
      key_id: string | null;
      algorithm: string | null;
      covered: string[];
      verdict: SignatureVerdict;
      explanation: string | null;
    };
    digest: Digest;
    reason: string | null;
    federation: boolean;
    lints: Lint[];
  };
}

export interface BodyText {
  text: string | null;
  truncated: boolean;
  json: boolean;
  image: boolean;
}

export interface Detail {
  exchange: Exchange;
  row: Row;
  request_text: BodyText | null;
  response_text: BodyText | null;
}

export interface Status {
  version: string;
  node: string | null;
  source: { kind: 'file' | 'live' | 'store'; name: string; reading: boolean; percent: number | null };
  store: { path: string; exchanges: number; federation: number; file_bytes: number; oldest: string | null; newest: string | null };
  /** What the stages have counted; only what the page shows is named here. */
  counters: { flow: { frames: number; flows: number }; http: { other_flows: Record<string, number> } } | null;
  lost: {
    frames: number;
    gap_bytes: number;
    gaps: number;
    /** Exchanges with gaps. */
    exchanges: number;
    from: string | null;
    to: string | null;
    interfaces: { name: string | null; frames: number; exchanges: number }[];
  };
  interfaces: { name: string; frames: number }[];
  started: string | null;
  error: string | null;
}

/** An exchange whose request was seen and that is not finished. */
export interface InFlight {
  id: string;
  started: string;
  ends: { client: string; server: string };
  method: string | null;
  target: string | null;
  host: string | null;
  status: number | null;
  websocket: boolean;
}

/** What is not finished: those that began first of `total`. */
export interface InFlightNow {
  exchanges: InFlight[];
  total: number;
}

export interface Page {
  rows: Row[];
  more_before: boolean;
  more_after: boolean;
  scanned_to: string | null;
}

export interface Count {
  matched: number;
  exact: boolean;
  total: number;
  hidden: number;
}

export interface Strip {
  from: string | null;
  to: string | null;
  bars: { deliveries: number; fetches: number; failures: number; gaps: number }[];
}

export interface Host {
  host: string;
  slot: number;
  software: string | null;
  sent: number;
  answered: number;
}

export interface Field {
  name: string;
  type: string;
  help: string | null;
  values: string[] | null;
}

/** What is listed: a filter in CEL, a view and a span of time. */
export interface Query {
  q: string;
  v: View;
  from: string;
  to: string;
}

export type Cursor = { before: string } | { after: string } | { around: string } | { oldest: true } | Record<string, never>;

/** Why a request failed. `code` is the API's, or `network` when no answer came, or `answer` when it was not JSON. */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly line: number | null = null,
    readonly column: number | null = null,
    readonly help: string | null = null,
  ) {
    super(message);
  }
}

/** Absolute address of an API path below the page's base. */
export function address(path: string, query: Record<string, string | number | undefined> = {}): string {
  const url = new URL(`api/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== '') url.searchParams.set(name, String(value));
  return url.href;
}

async function get<T>(path: string, query: Record<string, string | number | undefined>, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(address(path, query), { credentials: 'same-origin', ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('network', String(error));
  }
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    throw new ApiError('answer', `${response.status} ${response.statusText}`);
  }
  if (response.ok) return body as T;
  const e = (body as { error?: Partial<ApiError> }).error ?? {};
  throw new ApiError(e.code ?? 'answer', e.message ?? `${response.status}`, e.line ?? null, e.column ?? null, e.help ?? null);
}

const listed = (query: Query) => ({ q: query.q, v: query.v === 'federation' ? undefined : query.v, from: query.from, to: query.to });

export const api = {
  status: (signal?: AbortSignal) => get<Status>('status', {}, signal),
  exchanges: (query: Query, cursor: Cursor, limit: number, signal?: AbortSignal) =>
    get<Page>('exchanges', { ...listed(query), ...('oldest' in cursor ? { oldest: 1 } : cursor), limit }, signal),
  count: (query: Query, signal?: AbortSignal) => get<Count>('count', listed(query), signal),
  exchange: (id: string, signal?: AbortSignal) => get<Detail>(`exchanges/${id}`, {}, signal),
  around: (id: string, signal?: AbortSignal) => get<{ rows: Row[] }>(`around/${id}`, {}, signal),
  strip: (bars: number, from?: string, to?: string, signal?: AbortSignal) => get<Strip>('strip', { bars, from, to }, signal),
  hosts: (signal?: AbortSignal) => get<{ hosts: Host[] }>('hosts', {}, signal),
  filter: (q: string, signal?: AbortSignal) => get<{ ok: true }>('filter', { q }, signal),
  fields: (signal?: AbortSignal) => get<{ fields: Field[] }>('fields', {}, signal),
  exportAddress: (format: 'har' | 'jsonl' | 'pcapng', query: Query) => address('export', { format, ...listed(query) }),
  bodyAddress: (id: string, side: 'request' | 'response', download = false) =>
    address(`exchanges/${id}/${side}/body`, download ? { download: 1 } : {}),
  /** Octets of a body from `from`, at most `length` of them; empty beyond its end. */
  async body(id: string, side: 'request' | 'response', from: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const response = await fetch(api.bodyAddress(id, side), {
      headers: { Range: `bytes=${from}-${from + length - 1}` },
      credentials: 'same-origin',
      ...(signal ? { signal } : {}),
    });
    if (response.status === 416) return new Uint8Array();
    if (!response.ok) throw new ApiError('answer', `${response.status} ${response.statusText}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    return response.status === 206 ? bytes : bytes.subarray(from, from + length);
  },
};

export interface Listener {
  row(row: Row): void;
  status(status: Status): void;
  /** What is not finished, in place of what was told before. */
  inflight(now: InFlightNow): void;
  /** Rows were missed: fetch again. */
  resync(): void;
  /** A file has been read to its end. */
  done(): void;
  /** The connection is up. */
  up(): void;
  /** It is down; the next attempt is at `retryAt` (milliseconds of `performance.now()`). */
  down(retryAt: number): void;
}

/** How long to wait before attempt `n` (0 is the first after a failure), in milliseconds: 1, 2, 4, 8, then 15 s. */
export function backoff(attempt: number): number {
  return Math.min(15_000, 1000 * 2 ** attempt);
}

/**
 * The event stream of a view. The browser's own retry gives up on some errors and hides when it will try again, so it
 * is done here: a closed stream is opened again after `backoff`, and every reconnect asks for a resync, because
 * what was missed in between is unknown.
 */
export class Events {
  private source: EventSource | null = null;
  private timer = 0;
  private attempt = 0;
  private wasDown = false;
  private stopped = false;

  constructor(
    private readonly view: View,
    private readonly listener: Listener,
  ) {
    this.open();
  }

  /** Tries at once. */
  retry(): void {
    clearTimeout(this.timer);
    if (!this.stopped) this.open();
  }

  close(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.source?.close();
  }

  private open(): void {
    this.source?.close();
    const source = new EventSource(address('events', { v: this.view === 'federation' ? undefined : this.view }), { withCredentials: false });
    this.source = source;
    source.onopen = () => {
      this.attempt = 0;
      this.listener.up();
      if (this.wasDown) this.listener.resync();
      this.wasDown = false;
    };
    source.onerror = () => {
      if (this.stopped || this.source !== source) return;
      source.close();
      const wait = backoff(this.attempt++);
      this.wasDown = true;
      this.listener.down(performance.now() + wait);
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.open(), wait);
    };
    const on = (name: string, act: (data: string) => void) => source.addEventListener(name, (event) => act((event as MessageEvent<string>).data));
    on('row', (data) => this.listener.row(JSON.parse(data) as Row));
    on('status', (data) => this.listener.status(JSON.parse(data) as Status));
    on('inflight', (data) => this.listener.inflight(JSON.parse(data) as InFlightNow));
    on('resync', () => this.listener.resync());
    on('done', () => this.listener.done());
  }
}
