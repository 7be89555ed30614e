// A small stand-in for `fedisniff read --serve`: it speaks `ui/API.md` over exchanges of the real captures s01, s02 and
// s09 (`traffic.json.gz`) and can be brought into states that a healthy backend does not show: empty, live rows, loss,
// a broken connection, a million exchanges. For development and the browser tests; it never reads a capture itself.
//
//   node tests/browser/mock.mjs [--port 4173] [--dist ui/dist] [--live MS] [--empty] [--lost] [--many N] [--hold N]
import { createServer } from 'node:http';
import { readFileSync, existsSync, statSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const here = fileURLToPath(new URL('.', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.woff2': 'font/woff2', '.svg': 'image/svg+xml', '.json': 'application/json' };
const BASE32 = '0123456789abcdefghijklmnopqrstuv';
export const traffic = () => JSON.parse(gunzipSync(readFileSync(join(here, 'traffic.json.gz'))).toString());

// --- the filter: just enough CEL for what the viewer writes -------------------------------------------------------
const FIELDS = {
  'request.method': 'string', 'request.target': 'string', 'request.path': 'string', 'request.host': 'string', 'response.status': 'int', 'timing.total_us': 'int',
  'reading.kind': 'string', 'reading.sentence': 'string', 'reading.reason': 'string', 'activity.type': 'string', 'activity.id': 'string', 'activity.actor': 'string', 'activity.object': 'string', 'activity.inner': 'string',
  'signature.verdict': 'string', 'signature.scheme': 'string', 'signature.key_id': 'string', digest: 'string', 'origin.host': 'string', 'origin.address': 'string', 'client.address': 'string', 'body.text': 'string', 'id': 'string',
};
class FilterError extends Error {
  constructor(message, column, help) { super(message); this.column = column; this.help = help; }
}
function compile(text) {
  const tokens = [];
  const re = /\s*(?:(&&|\|\||==|!=|<=|>=|[<>!()[\],.?:])|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?)|([A-Za-z_]\w*))/gy;
  let at = 0;
  while (at < text.length && text.slice(at).trim() !== '') {
    re.lastIndex = at;
    const m = re.exec(text);
    if (!m) throw new FilterError(`unexpected ${JSON.stringify(text[at] === ' ' ? text.slice(at).trim()[0] : text[at])}`, at + 1);
    tokens.push({ at: m.index + m[0].length - (m[1] ?? m[2] ?? m[3] ?? m[4]).length, op: m[1], str: m[2], num: m[3], name: m[4] });
    at = re.lastIndex;
  }
  let i = 0;
  const peek = (op) => tokens[i]?.op === op;
  const eat = (op) => { if (!peek(op)) throw new FilterError(`expected ${op}`, (tokens[i]?.at ?? text.length) + 1); i++; };
  const or = () => { let a = and(); while (peek('||')) { i++; const l = a, r = and(); a = (x) => l(x) === true || r(x) === true; } return a; };
  const and = () => { let a = rel(); while (peek('&&')) { i++; const l = a, r = rel(); a = (x) => l(x) === true && r(x) === true; } return a; };
  const rel = () => {
    const a = unary();
    const t = tokens[i];
    if (t?.name === 'in') { i++; const b = unary(); return (x) => { const v = a(x); return v != null && b(x).includes(v); }; }
    const ops = { '==': (l, r) => l === r, '!=': (l, r) => l != null && l !== r, '<': (l, r) => l != null && l < r, '>': (l, r) => l != null && l > r, '<=': (l, r) => l != null && l <= r, '>=': (l, r) => l != null && l >= r };
    if (t?.op in ops) { i++; const b = unary(); return (x) => ops[t.op](a(x), b(x)); }
    return a;
  };
  const unary = () => { if (peek('!')) { i++; const a = unary(); return (x) => !a(x); } return primary(); };
  const primary = () => {
    const t = tokens[i++];
    if (!t) throw new FilterError('the expression ends too early', text.length + 1);
    if (t.str) { const v = JSON.parse(t.str); return () => v; }
    if (t.num) { const v = Number(t.num); return () => v; }
    if (t.op === '(') { const a = or(); eat(')'); return a; }
    if (t.op === '[') { const list = []; while (!peek(']')) { list.push(or()); if (peek(',')) i++; } eat(']'); return (x) => list.map((f) => f(x)); }
    if (t.name === 'true' || t.name === 'false') return () => t.name === 'true';
    if (t.name === 'null') return () => null;
    if (t.name === 'size') { eat('('); if (tokens[i++]?.name !== 'gaps') throw new FilterError('size of what?', t.at + 1); eat(')'); return (x) => x.row.gaps; }
    if (!t.name) throw new FilterError(`unexpected ${t.op}`, t.at + 1);
    let path = t.name;
    while (peek('.') && tokens[i + 1]?.name && tokens[i + 2]?.op !== '(') { path += '.' + tokens[i + 1].name; i += 2; }
    if (!(path in FIELDS)) throw new FilterError(`unknown field ${path}`, t.at + 1, `did you mean ${nearest(path)}?`);
    const get = (x) => field(x, path);
    if (peek('.') && tokens[i + 2]?.op === '(') {
      const method = tokens[i + 1].name; i += 3; const arg = or(); eat(')');
      const f = { contains: (a, b) => a.includes(b), startsWith: (a, b) => a.startsWith(b), endsWith: (a, b) => a.endsWith(b), matches: (a, b) => new RegExp(b).test(a) }[method];
      if (!f) throw new FilterError(`no function ${method}`, tokens[i - 4]?.at + 1);
      return (x) => { const v = get(x); return v != null && f(v, arg(x)); };
    }
    return get;
  };
  if (!tokens.length) return () => true;
  const f = or();
  if (i < tokens.length) throw new FilterError('expected && or ||', tokens[i].at + 1);
  return f;
}
function nearest(path) {
  const d = (a, b) => { const m = [...Array(b.length + 1).keys()]; for (let i = 1; i <= a.length; i++) { let p = m[0]; m[0] = i; for (let j = 1; j <= b.length; j++) { const t = m[j]; m[j] = Math.min(m[j] + 1, m[j - 1] + 1, p + (a[i - 1] !== b[j - 1])); p = t; } } return m[b.length]; };
  return Object.keys(FIELDS).sort((a, b) => d(path, a) - d(path, b))[0];
}
function field({ row, exchange, request, response }, path) {
  switch (path) {
    case 'request.path': return row.target?.split('?')[0] ?? null;
    case 'body.text': return `${request}\n${response}`;
    case 'digest': return row.digest;
    case 'id': return row.id;
  }
  const [head, ...rest] = path.split('.');
  let v = head === 'activity' ? exchange.reading.activity : head === 'signature' ? exchange.reading.signature : exchange[head];
  for (const p of rest) v = v?.[p];
  return v ?? null;
}

// --- the store ----------------------------------------------------------------------------------------------------
function idOf(ns, hash) {
  let n = (ns << 64n) | hash, text = '';
  for (let i = 0; i < 26; i++) { text = BASE32[Number(n & 31n)] + text; n >>= 5n; }
  return text;
}
const nsOf = (text) => { const [, s, f] = /^(.*?)(?:\.(\d+))?Z$/.exec(text); return BigInt(Date.parse(s + 'Z')) * 1000000n + BigInt((f ?? '').padEnd(9, '0')); };
const textOf = (ns) => new Date(Number(ns / 1000000n)).toISOString().slice(0, 19) + '.' + String(ns % 1000000000n).padStart(9, '0') + 'Z';

/** Exchanges of the kinds that s01, s02 and s09 lack, modelled on s03, s04, s11 and s14: a WebSocket, a picture, one that lost bytes, one alone. */
function odd(after) {
  const ns = nsOf(after.row.started);
  const body = (size, more = {}) => ({ wire_size: size, size, encoding: null, complete: true, stored: size, sha256: null, ...more });
  const make = (i, row, exchange, request = '', response = '') => {
    const id = idOf(ns + BigInt(i) * 100_000_000n, BigInt(i));
    const started = textOf(ns + BigInt(i) * 100_000_000n);
    for (const side of ['request', 'response']) if (exchange[side]) exchange[side] = { first_byte: started, last_byte: textOf(nsOf(started) + 300_000n), ...exchange[side] };
    return {
      row: { ...after.row, id, started, activity: null, activity_id: null, excerpt: null, visibility: null, reason: null, slots: [], scheme: null, signature: 'unsigned', digest: 'absent', ...row },
      exchange: { ...after.exchange, id, started, ...exchange, reading: { ...after.exchange.reading, activity: null, lints: [], signature: { scheme: null, key_id: null, algorithm: null, covered: [], verdict: 'unsigned', explanation: null }, digest: 'absent', ...exchange.reading } },
      request, response,
    };
  };
  const message = (direction, i, opcode, text, more = {}) => ({ direction, time: textOf(ns + BigInt(400 + i * 37) * 1_000_000n), opcode, frames: 1, size: text?.length ?? 2, complete: true, sha256: null, text, ...more });
  const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAJ0lEQVR42mNgwAH+4wBMyBwGBgYGBgZGRkYmJiYmJgYGBgYGBgYGABVfAgxL7Cq0AAAAAElFTkSuQmCC', 'base64');
  return [
    make(1, { kind: 'streaming', template: 'streaming', slots: [['stream', 'user'], ['to', 'gts1.fediverse.test']], sentence: 'a client listens to user on gts1.fediverse.test', method: 'GET', target: '/api/v1/streaming?stream=user', status: 101, websocket: true, sent: 0, answered: 0 },
      { request: { method: 'GET', target: '/api/v1/streaming?stream=user', host: 'gts1.fediverse.test', version: '1.1', headers: [['Upgrade', 'websocket'], ['Sec-WebSocket-Extensions', 'permessage-deflate']], trailers: [], body: body(0) }, response: { status: 101, reason: 'Switching Protocols', version: '1.1', headers: [['Upgrade', 'websocket']], trailers: [], body: body(0) }, websocket: { frames: 5, messages: [message('to-client', 1, 1, '{"event":"update","payload":"{\\"id\\":\\"01\\"}"}'), message('to-server', 2, 9, null), message('to-client', 3, 10, null), message('to-client', 4, 1, '{"event":"notif', { complete: false }), message('to-server', 5, 8, null)], messages_dropped: 3, extensions: 'permessage-deflate', close_code: 1000 } }),
    make(2, { kind: 'media', template: 'media.picture', slots: [['from', 'gts1.fediverse.test'], ['to', 'fed1.fediverse.test']], sentence: 'gts1.fediverse.test fetches a picture from fed1.fediverse.test', method: 'GET', target: '/media/avatar.png', status: 200, answered: png.length },
      { request: { method: 'GET', target: '/media/avatar.png', host: 'fed1.fediverse.test', version: '1.1', headers: [['Accept', 'image/*']], trailers: [], body: body(0) }, response: { status: 200, reason: 'OK', version: '1.1', headers: [['Content-Type', 'image/png']], trailers: [['X-Trailer', 'after the body']], body: body(png.length) }, interim: [{ status: 103, time: textOf(ns), headers: [['Link', '</style.css>; rel=preload']] }] }, '', png),
    make(3, { kind: 'inbox-delivery', activity: 'Create', template: 'create.note', slots: [['actor', 'carol@gts1.fediverse.test'], ['recipient', 'fred@fed1.fediverse.test']], sentence: 'carol@gts1.fediverse.test posts a note to fred@fed1.fediverse.test', gaps: 1, anomalies: 1, lint_warnings: 1, signature: 'not-checkable', scheme: 'cavage', digest: 'not-checkable' },
      { gaps: [{ direction: 'to-server', offset: 812, length: 1448, cause: 'acked-unseen' }], anomalies: [{ id: 'conflicting-retransmission', detail: '12 octets at 300 came again with other values' }], request: { ...after.exchange.request, headers: [['Content-Type', 'application/activity+json'], [null, null], ['Date', null]], body: body(4200, { complete: false, stored: 812 }) }, reading: { lints: [{ id: 'date-skew', severity: 'warn', detail: 'Date is 40 minutes off' }], signature: { scheme: 'cavage', key_id: 'https://gts1.fediverse.test/users/carol#main-key', algorithm: 'hs2019', covered: ['(request-target)', 'host', 'date', 'digest'], verdict: 'not-checkable', explanation: 'bytes of the body are missing' }, digest: 'not-checkable' } }, '{"type":"Create","object":{"conte', '{"status":"Accepted"}'),
    make(4, { kind: 'unknown', template: 'response.lone', slots: [['to', 'gts2.fediverse.test'], ['status', '200']], sentence: 'gts2.fediverse.test answers 200; the request was not seen', method: null, target: null, status: 200, took_us: null, sent: null },
      { request: null, origin: null, timing: { request_us: null, wait_us: null, response_us: 300, total_us: null } }, '', '{}'),
    make(5, { kind: 'actor', template: 'actor.unanswered', slots: [['from', 'gts1.fediverse.test'], ['actor', 'fred@fed1.fediverse.test']], sentence: 'gts1.fediverse.test fetches the actor fred@fed1.fediverse.test, but no answer comes', reason: 'no answer', method: 'GET', target: '/users/fred', status: null, took_us: null, answered: null },
      { response: null, timing: { request_us: 80, wait_us: null, response_us: null, total_us: null } }),
  ];
}

/** Starts a mock; answers `{ url, close, push(n), cut(), mend(), ... }`. */
export async function start(options = {}) {
  const dist = options.dist ?? join(here, '../../ui/dist');
  const all = options.empty ? [] : traffic();
  if (options.odd) all.push(...odd(all.at(-1)));
  // Loss: a span of rows that bytes are missing from.
  if (options.lost) for (const e of all.slice(100, 106)) { e.row.gaps = 1; e.row.signature = e.exchange.reading.signature.verdict = 'not-checkable'; e.exchange.gaps = [{ direction: 'to-server', offset: 812, length: 1448, cause: 'capture-loss' }]; }
  let held = options.hold ? all.splice(all.length - options.hold) : [];
  const template = all.slice();
  // A million exchanges are made on demand from the real ones, a second apart.
  const many = options.many ?? 0;
  const t0 = all.length ? nsOf(all[0].row.started) : 0n;
  const made = (i) => {
    const from = template[i % template.length];
    const ns = t0 + BigInt(i) * 250_000_000n;
    const id = idOf(ns, BigInt(i + 1));
    return { ...from, row: { ...from.row, id, started: textOf(ns) }, exchange: { ...from.exchange, id, started: textOf(ns) } };
  };
  const size = () => (many || all.length);
  const at = (i) => (many ? made(i) : all[i]);
  const find = (id) => { // the first place whose id is not less
    let lo = 0, hi = size();
    while (lo < hi) { const mid = (lo + hi) >> 1; if (at(mid).row.id < id) lo = mid + 1; else hi = mid; }
    return lo;
  };
  const listeners = new Set();
  let down = false, eventId = 0, lost = { frames: 0, gap_bytes: 0, gaps: 0, exchanges: 0, from: null, to: null, interfaces: [] };
  if (options.lost) lost = { frames: 1204, gap_bytes: 41877, gaps: 6, exchanges: 6, from: all[100].row.started, to: all[105].row.started, interfaces: [{ name: 'veth15b6483c', frames: 1204, exchanges: 6 }] };
  const kind = options.kind ?? (options.live || options.hold ? 'live' : 'file');
  const counts = () => { let federation = 0; if (many) federation = many; else for (const e of all) if (e.row.federation) federation++; return { exchanges: size(), federation }; };
  const status = () => ({
    version: '0.1.0', node: kind === 'live' ? 'node1' : null, source: { kind, name: options.empty || kind === 'live' ? 'veth*' : 's01+s02+s09.pcap', reading: kind === 'live', percent: null },
    store: { path: '/tmp/mock.redb', ...counts(), file_bytes: 1_400_000, oldest: size() ? at(0).row.started : null, newest: size() ? at(size() - 1).row.started : null },
    counters: { flow: { frames: 1825, flows: 9 }, http: { other_flows: { tls: 5 } } }, lost, interfaces: [{ name: 'veth0a17f1d7', frames: 60 }, { name: 'veth15b6483c', frames: 54 }, { name: 'veth161c5697', frames: 0 }, { name: 'veth1f15a83a', frames: 22 }],
    started: '2026-11-23T07:26:00.000000000Z', error: null,
  });
  const send = (event, data) => { eventId++; for (const res of listeners) if (event !== 'row' || res.view === 'all' || data.federation) res.write(`event: ${event}\nid: ${eventId}\ndata: ${JSON.stringify(data)}\n\n`); };
  const push = (n = 1) => {
    for (let k = 0; k < n; k++) {
      let e = held.shift();
      if (!e) { const last = all.at(-1); const ns = nsOf(last.row.started) + 300_000_000n; const from = template[(all.length * 7) % template.length]; const id = idOf(ns, BigInt(all.length)); e = { ...from, row: { ...from.row, id, started: textOf(ns) }, exchange: { ...from.exchange, id, started: textOf(ns) } }; }
      all.push(e);
      send('row', e.row);
    }
    send('status', status());
  };

  const json = (res, value, code = 200) => { res.writeHead(code, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' }); res.end(JSON.stringify(value)); };
  const refuse = (res, code, error) => json(res, { error }, code);
  const prefix = options.prefix ?? '/';

  const server = createServer((req, res) => {
    const url = new URL(req.url, 'http://x');
    if (down) { req.socket.destroy(); return; }
    if (!url.pathname.startsWith(prefix)) { res.writeHead(404); res.end(); return; }
    const path = url.pathname.slice(prefix.length);
    const p = url.searchParams;
    if (path.startsWith('api/')) {
      let filter = () => true;
      try { filter = compile(p.get('q') ?? ''); } catch (e) {
        if (!(e instanceof FilterError)) throw e;
        return refuse(res, 400, { code: 'bad-filter', message: e.message, line: 1, column: e.column, help: e.help ?? null });
      }
      const view = (e) => p.get('v') === 'all' || e.row.federation || many > 0;
      const from = p.get('from') ? nsOf(p.get('from')) : null, to = p.get('to') ? nsOf(p.get('to')) : null;
      const inTime = (e) => { if (from === null && to === null) return true; const ns = nsOf(e.row.started); return (from === null || ns >= from) && (to === null || ns <= to); };
      const match = (e) => view(e) && inTime(e) && filter(e) === true;
      const rest = path.slice(4);
      const one = /^exchanges\/(\w+)(?:\/(request|response)\/body)?$/.exec(rest);
      if (rest === 'status') return json(res, status());
      if (rest === 'filter') return json(res, { ok: true });
      if (rest === 'fields') return json(res, { fields: Object.entries(FIELDS).map(([name, type]) => ({ name, type, help: null, values: name === 'signature.verdict' ? ['valid', 'invalid', 'key-not-seen', 'not-checkable', 'unsigned'] : null })) });
      if (rest === 'exchanges') {
        const limit = Math.min(Number(p.get('limit') ?? 200), 1000);
        // With a filter, only so many are looked at in one request.
        let stopped = null;
        const look = (i, by, n) => {
          const rows = [];
          let looked = 0;
          for (; i >= 0 && i < size() && rows.length <= n; i += by) {
            if (options.scan && p.get('q') && looked++ >= options.scan) { stopped = at(i - by).row.id; return [rows, true]; }
            const e = at(i);
            if (match(e)) rows.push(e.row);
          }
          return [rows.slice(0, n), rows.length > n];
        };
        const back = (i, n) => { const [rows, more] = look(i, -1, n); return [rows.reverse(), more]; };
        const forth = (i, n) => look(i, 1, n);
        let rows, before = false, after = false;
        if (p.get('before')) { [rows, before] = back(find(p.get('before')) - 1, limit); after = true; }
        else if (p.get('after')) { let i = find(p.get('after')); if (i < size() && at(i).row.id === p.get('after')) i++; [rows, after] = forth(i, limit); before = true; }
        else if (p.get('around')) { const i = find(p.get('around')); const [a, mb] = back(i - 1, limit >> 1); const [b, ma] = forth(i, limit - (limit >> 1)); rows = [...a, ...b]; before = mb; after = ma; }
        else if (p.get('oldest')) [rows, after] = forth(0, limit);
        else [rows, before] = back(size() - 1, limit);
        return json(res, { rows, more_before: before, more_after: after, scanned_to: stopped });
      }
      if (rest === 'count') {
        if (many && !p.get('q')) { let n = many; if (to !== null) n = Math.max(0, Math.min(many, Number((to - t0) / 250_000_000n) + 1)); if (from !== null) n -= Math.max(0, Number((from - t0) / 250_000_000n)); return json(res, { matched: n, exact: true, total: many, hidden: 0 }); }
        let matched = 0, hidden = 0;
        for (const e of all) { if (match(e)) matched++; if (!view(e)) hidden++; }
        return json(res, { matched, exact: true, total: size(), hidden });
      }
      if (one) {
        const i = find(one[1]);
        const e = i < size() ? at(i) : null;
        if (e?.row.id !== one[1]) return refuse(res, 404, { code: 'not-found', message: `no exchange ${one[1]}` });
        if (one[2]) {
          const bytes = Buffer.from(e[one[2]]);
          const range = /^bytes=(\d+)-(\d*)$/.exec(req.headers.range ?? '');
          const image = bytes[0] === 0x89;
          const head = { 'Content-Type': image ? 'image/png' : 'application/octet-stream', 'X-Body-Complete': 'true', 'Cache-Control': 'no-store' };
          if (range) { const a = Number(range[1]), b = Math.min(range[2] ? Number(range[2]) : bytes.length - 1, bytes.length - 1); if (a >= bytes.length) { res.writeHead(416); return res.end(); } res.writeHead(206, { ...head, 'Content-Range': `bytes ${a}-${b}/${bytes.length}` }); return res.end(bytes.subarray(a, b + 1)); }
          res.writeHead(200, head);
          return res.end(bytes);
        }
        const text = (t) => { if (typeof t !== 'string') return { text: null, truncated: false, json: false, image: true }; let ok = false; try { JSON.parse(t); ok = true; } catch { /* not JSON */ } return { text: t === '' ? null : t, truncated: false, json: ok, image: false }; };
        return json(res, { exchange: e.exchange, row: e.row, request_text: text(e.request), response_text: text(e.response) });
      }
      if (rest.startsWith('around/')) {
        const id = rest.slice(7), i = find(id), me = at(i), rows = [];
        const alike = (e) => [e.row.from, e.row.to].sort().join() === [me.row.from, me.row.to].sort().join();
        for (let k = i - 1; k >= 0 && rows.length < 4; k--) if (alike(at(k))) rows.unshift(at(k).row);
        rows.push(me.row);
        for (let k = i + 1; k < size() && rows.length < 8; k++) if (alike(at(k))) rows.push(at(k).row);
        return json(res, { rows });
      }
      if (rest === 'strip') {
        if (!size()) return json(res, { from: null, to: null, bars: [] });
        const a = from ?? nsOf(at(0).row.started), b = to ?? nsOf(at(size() - 1).row.started) + 1n, n = Math.min(Number(p.get('bars') ?? 240), 2000);
        const bars = Array.from({ length: n }, () => ({ deliveries: 0, fetches: 0, failures: 0, gaps: 0 }));
        const step = many > 5000 ? Math.floor(many / 5000) : 1;
        for (let k = 0; k < size(); k += step) {
          const e = at(k).row, ns = nsOf(e.started); if (ns < a || ns > b) continue;
          const bar = bars[Math.min(n - 1, Number(((ns - a) * BigInt(n)) / (b - a + 1n)))];
          if (e.kind === 'inbox-delivery') bar.deliveries += step; else bar.fetches += step;
          if (e.reason) bar.failures += step; if (e.gaps) bar.gaps += step;
        }
        return json(res, { from: textOf(a), to: textOf(b), bars });
      }
      if (rest === 'hosts') {
        const hosts = new Map();
        const see = (h, s) => { if (!h || /^[\d.]+$/.test(h)) return null; if (!hosts.has(h)) hosts.set(h, { host: h, slot: hosts.size % 8, software: null, sent: 0, answered: 0 }); const x = hosts.get(h); x.software ??= s; return x; };
        for (const e of template) { const f = see(e.row.from, e.row.from_software); if (f) f.sent++; const t = see(e.row.to, null); if (t) t.answered++; }
        return json(res, { hosts: [...hosts.values()] });
      }
      if (rest === 'events') {
        res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
        res.view = p.get('v') ?? 'federation';
        listeners.add(res);
        req.on('close', () => listeners.delete(res));
        eventId++;
        res.write(`event: status\nid: ${eventId}\ndata: ${JSON.stringify(status())}\n\n`);
        if (kind === 'file') res.write(`event: done\nid: ${++eventId}\ndata: {}\n\n`);
        return;
      }
      if (rest === 'export') { res.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Disposition': `attachment; filename="fedisniff.${p.get('format')}"` }); for (let k = 0; k < size(); k++) if (match(at(k))) res.write(JSON.stringify(at(k).exchange) + '\n'); return res.end(); }
      return refuse(res, 404, { code: 'not-found', message: `no ${path}` });
    }
    let file = join(dist, normalize(path));
    const page = !path || !existsSync(file) || !statSync(file).isFile();
    if (page && path.startsWith('assets/')) { res.writeHead(404); return res.end(); }
    if (page) file = join(dist, 'index.html');
    let bytes = readFileSync(file);
    if (page) bytes = Buffer.from(bytes.toString().replace(/<base href="[^"]*"/, `<base href="${prefix}"`));
    res.writeHead(200, {
      'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream',
      'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    });
    res.end(bytes);
  });
  const sockets = new Set();
  server.on('connection', (s) => { sockets.add(s); s.on('close', () => sockets.delete(s)); });
  await new Promise((ok) => server.listen(options.port ?? 0, '127.0.0.1', ok));
  const timer = options.live ? setInterval(() => push(1), options.live) : null;
  return {
    url: `http://127.0.0.1:${server.address().port}${prefix}`,
    push,
    traffic: all,
    resync: () => send('resync', {}),
    /** A row that came before comes again. */
    again: (row) => send('row', row),
    flight: (exchanges, total = exchanges.length) => send('inflight', { exchanges, total }),
    lose: (frames) => { lost = { ...lost, frames, gap_bytes: frames * 1448, gaps: 3 }; send('status', status()); },
    /** The node is gone: open connections break, new ones are refused. */
    cut: () => { down = true; for (const s of sockets) s.destroy(); },
    mend: () => { down = false; },
    close: async () => { clearInterval(timer); for (const s of sockets) s.destroy(); await new Promise((ok) => server.close(ok)); },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const arg = (name) => { const i = process.argv.indexOf(`--${name}`); return i < 0 ? undefined : process.argv[i + 1]; };
  const flag = (name) => process.argv.includes(`--${name}`);
  const mock = await start({ port: Number(arg('port') ?? 4173), dist: arg('dist'), live: arg('live') && Number(arg('live')), empty: flag('empty'), lost: flag('lost'), odd: flag('odd'), many: arg('many') && Number(arg('many')), hold: arg('hold') && Number(arg('hold')), prefix: arg('prefix'), kind: arg('kind') });
  console.log(mock.url);
}
