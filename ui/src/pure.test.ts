// Tests of the pure parts: addresses, numbers, hosts, sentences, chips, the window of rows, JSON and the rest.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { backoff, type Row } from './api';
import { chipsTyped, chipsOf, expression, celOf, microseconds, typed, type Chip, type Field } from './filter/chips';
import { clock, clockText, duration, grouped, keepEnd, microsBetween, nanos, shortTarget, size, timeOf, timeOfId } from './format';
import { curl, quote } from './detail/curl';
import { hexLines } from './detail/hex';
import { foldedAtFirst, lines, parseJson, path, textOf } from './detail/json';
import { pieces } from './detail/pieces';
import { covered, signingString } from './detail/signing';
import type { Exchange } from './api';
import { HostBook, letters, release, shortNames, silhouette } from './hosts';
import { en } from './i18n/en';
import { ja } from './i18n/ja';
import { asked, nouns, plain as own } from './i18n/templates';
import { along, causesOf, chainOf, gutter } from './list/gutter';
import { indexOf, isDelivery, itemAt, layout, merge, place, quietFrom, statusClass, trouble } from './list/window';
import { dissect, fill, plain, sentence, template } from './sentence';
import { ticks } from './strip/ticks';
import { chosenOf, COLUMNS, HOME, moved, parse, print, tokensOf, withColumn, type Place } from './url';

const A = '0otadu5s91c8c0lsrru5hag6qe';
const B = '0otadu5qhha8s0t6n1b43l6g3t';

function row(change: Partial<Row>): Row {
  return {
    id: A, started: '2026-11-23T07:26:40.470000000Z', from: 'gts1.fediverse.test', from_software: 'GoToSocial 0.20.0', to: 'gts2.fediverse.test', kind: 'inbox-delivery',
    activity: 'Follow', activity_id: null, sentence: '', template: 'follow.ask', slots: [], excerpt: null, visibility: null, method: 'POST', target: '/users/bob/inbox',
    status: 202, took_us: 13600, sent: 293, answered: 21, scheme: 'cavage', signature: 'valid', digest: 'match', reason: null, federation: true, gaps: 0, lint_errors: 0,
    lint_warnings: 0, anomalies: 0, websocket: false, caused_by: null, caused: [], ...change,
  };
}
const at = (id: string, us = 0, change: Partial<Row> = {}) => row({ id, started: timeOf(1_795_419_495_000_000_000n + BigInt(us) * 1000n), ...change });

describe('the address', () => {
  const full: Place = { page: 'list', id: '', panel: null, v: 'all', q: 'response.status >= 400 && response.status < 500', from: '2026-11-23T07:26:40Z', to: '2026-11-23T07:27:00.5Z', sel: A, at: B, lang: 'ja', theme: 'dark', local: true, cols: ['took:80', 'meaning', 'status'] };
  test('says everything and reads itself back, below any base', () => {
    for (const base of ['/', '/sniff/', '/a/b/']) {
      expect(parse(`http://h${base}${print(full)}`, base)).toEqual(full);
      const page: Place = { ...full, page: 'exchange', id: B, panel: 'signature' };
      expect(parse(`http://h${base}${print(page)}`, base)).toEqual(page);
      expect(parse(`http://h${base}${print(HOME)}`, base)).toEqual(HOME);
    }
  });
  test('leaves out what is as usual', () => expect(print(HOME)).toBe(''));
  test('ignores what it does not understand', () => {
    expect(parse('http://h/?v=x&sel=../..&from=yesterday&lang=de&theme=pink&at=zz', '/')).toEqual(HOME);
    expect(parse('http://h/e/nonsense/request', '/').page).toBe('list');
    expect(parse(`http://h/e/${A}/nonsense`, '/')).toMatchObject({ page: 'exchange', id: A, panel: null });
  });
});

describe('numbers and times', () => {
  test.each([[0, '0 µs'], [999, '999 µs'], [1000, '1.0 ms'], [13_640, '13.6 ms'], [82_900, '82.9 ms'], [137_856, '138 ms'], [999_949, '1000 ms'], [2_006_000, '2.0 s'], [119_000_000, '119 s'], [442_000_000, '7 min'], [9_000_000_000, '3 h']])('a duration of %i µs is %s', (us, text) => expect(duration(us).join(' ')).toBe(text));
  test.each([[0, '0 B'], [293, '293 B'], [1500, '1.5 kB'], [77_300, '77.3 kB'], [2_500_000, '2.5 MB'], [3_200_000_000, '3.2 GB']])('a size of %i octets is %s', (bytes, text) => expect(size(bytes).join(' ')).toBe(text));
  test('digits are grouped', () => expect([7, 999, 2851, 1_000_000].map(grouped)).toEqual(['7', '999', '2\u202f851', '1\u202f000\u202f000']));
  test('nanoseconds are kept', () => {
    expect(nanos('2026-11-23T07:26:40.123456789Z')).toBe(1_795_418_800_123_456_789n);
    expect(timeOf(nanos('2026-11-23T07:26:40.123456789Z'))).toBe('2026-11-23T07:26:40.123456789Z');
    expect(timeOf(nanos('2026-11-23T07:26:40Z'))).toBe('2026-11-23T07:26:40Z');
    expect(nanos('2026-11-23T08:26:40.5+01:00')).toBe(nanos('2026-11-23T07:26:40.500000000Z'));
    expect(nanos('nonsense')).toBe(0n);
    expect(timeOfId('0otadu5s91c8c0lsrru5hag6qe').slice(0, 23)).toBe('2026-11-23T07:26:40.470');
    expect(microsBetween('2026-11-23T07:26:40.000001Z', '2026-11-23T07:26:39Z')).toBe(-1_000_001);
  });
  test('a clock comes in parts', () => {
    expect(clock('2026-11-23T07:26:40.354999999Z')).toEqual({ day: '2026-11-23', minute: '07:26:', second: '40', milli: '.354' });
    expect(clockText('2026-11-23T07:26:40.354Z')).toBe('07:26:40.354');
  });
  test('names and paths keep their end', () => {
    expect(keepEnd('short', 10)).toBe('short');
    expect(keepEnd('/users/carol/statuses/01M83N0PW8C19QYSHEX0V8JWDG', 20)).toBe('…PW8C19QYSHEX0V8JWDG');
    expect(shortTarget('/.well-known/webfinger?resource=acct%3Abob%40gts2.test', 40)).toBe('acct:bob@gts2.test');
    expect(shortTarget('/users/a?page=1&min=2', 40)).toBe('/users/a?…');
  });
});

describe('hosts', () => {
  test('short names are the fewest labels that tell them apart', () => {
    const names = shortNames(['gts1.fediverse.test', 'gts2.fediverse.test', 'social.a.org', 'social.b.org', '10.0.0.1', 'gts1.other.test']);
    expect(Object.fromEntries(names)).toEqual({ 'gts1.fediverse.test': 'gts1.fediverse', 'gts2.fediverse.test': 'gts2', 'social.a.org': 'social.a', 'social.b.org': 'social.b', '10.0.0.1': '10.0.0.1', 'gts1.other.test': 'gts1.other' });
  });
  test.each([['gts1.fediverse.test', 'G1'], ['mastodon12.x', 'M2'], ['bovine.x', 'BV'], ['aeio.x', 'AE'], ['4chan', 'CH'], ['10.42.0.190', '90'], ['fd00:42::1f', '1F']])('letters of %s are %s', (host, two) => expect(letters(host)).toBe(two));
  test('letters are unique', () => {
    const hosts = ['gts1.a', 'gte1.a', 'gtx1.a', 'bovine.a', 'bivona.a'].map((host, slot) => ({ host, slot, software: null, sent: 0, answered: 0 }));
    const book = new HostBook(hosts);
    expect(new Set(book.all.map((h) => h.letters)).size).toBe(hosts.length);
    expect(book.all.map((h) => h.slot)).toEqual([1, 2, 3, 4, 5]);
  });
  test('the silhouette is the software', () => expect(['Mastodon 4.3', 'GoToSocial 0.20', 'Fedify 2', 'Sharkey', 'Lemmy', 'Pleroma', null].map(silhouette)).toEqual(['circle', 'square', 'hexagon', 'diamond', 'pentagon', 'octagon', 'octagon']));
  test('a build is not a release', () => expect(['GoToSocial 0.20.0-snapshot+57cb4fe74', 'Mastodon 4.3.0+glitch', 'Fedify', 'Misskey 2025.1.0-beta.2'].map(release)).toEqual(['GoToSocial 0.20.0', 'Mastodon 4.3.0', 'Fedify', 'Misskey 2025.1.0']));
  test('what is not a server is a client', () => expect(new HostBook([]).get('10.42.0.90')).toMatchObject({ slot: 0, silhouette: 'client', letters: 'C', short: '10.42.0.90' }));
});

describe('sentences', () => {
  const book = new HostBook(['gts1.fediverse.test', 'gts2.fediverse.test'].map((host, slot) => ({ host, slot, software: null, sent: 0, answered: 0 })));
  const slots: [string, string][] = [['actor', 'alice@gts1.fediverse.test'], ['object', 'bob@gts2.fediverse.test']];
  test('fill a template whole, hosts shortened', () => {
    expect(sentence(row({ slots }), 'en', book)).toEqual([['name', 'alice'], ['host', '@gts1'], ['text', ' asks to follow '], ['name', 'bob'], ['host', '@gts2']]);
    expect(plain(sentence(row({ slots }), 'ja', book))).toBe('alice@gts1 が bob@gts2 にフォローを申請');
  });
  test('an unknown template falls back to the sentence that came', () => {
    const r = row({ template: 'from.the.future', sentence: 'alice@gts1.fediverse.test waves at gts2.fediverse.test', slots: [['actor', 'alice@gts1.fediverse.test'], ['to', 'gts2.fediverse.test']] });
    expect(plain(sentence(r, 'ja', book))).toBe('alice@gts1 waves at gts2');
    expect(plain(dissect('nothing in slots', [], book))).toBe('nothing in slots');
  });
  test('a slot without a value stays visible', () => expect(plain(fill('{actor} moves to {target}', [], book))).toBe('? moves to ?'));
  test('tails and nouns are whole templates too', () => {
    expect(template('webfinger.absent', 'en')).toBe('{from} asks {to} who {account} is, but it is not found ({status})');
    expect(template('like.note', 'ja')).toBe('{actor} が {author} の投稿にいいね');
    expect(template('nonsense.tail', 'en')).toBeNull();
  });
  test('both languages have the same slots', () => {
    const of = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    for (const table of [own, asked, nouns]) for (const [name, [english, japanese]] of Object.entries(table)) expect(of(japanese), name).toEqual(of(english));
  });
  test('the table is the one of the node', async () => {
    // The one source is sniffer/src/activitypub/sentence.rs; when this fails: node scripts/templates.mjs
    // @ts-expect-error a script without types
    const { read, write } = (await import('../scripts/templates.mjs')) as { read(text: string): unknown; write(tables: unknown): string };
    const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
    expect(readFileSync(here('./i18n/templates.ts'), 'utf8')).toBe(write(read(readFileSync(here('../../sniffer/src/activitypub/sentence.rs'), 'utf8'))));
  });
});

describe('words', () => {
  test('both languages have the same keys', () => {
    const keys = (value: object, under = ''): string[] => Object.entries(value).flatMap(([k, v]) => (v && typeof v === 'object' && !Array.isArray(v) && k !== 'reasons' ? keys(v as object, `${under}${k}.`) : [`${under}${k}`]));
    expect(keys(ja).sort()).toEqual(keys(en).sort());
  });
});

describe('chips', () => {
  const chip = (field: Field, values: string[], change: Partial<Chip> = {}): Chip => ({ field, op: 'is', values, not: false, ...change });
  const table: [Chip, string][] = [
    [chip('between', ['fed1.x', 'gts1.x']), 'origin.host in ["fed1.x", "gts1.x"] && request.host in ["fed1.x", "gts1.x"]'],
    [chip('kind', ['key']), 'reading.kind == "key"'],
    [chip('kind', ['key', 'actor']), 'reading.kind in ["key", "actor"]'],
    [chip('activity', ['Follow']), 'activity.type == "Follow"'],
    [chip('status', ['4xx']), 'response.status >= 400 && response.status < 500'],
    [chip('status', ['404']), 'response.status == 404'],
    [chip('status', ['404', '5xx']), '(response.status == 404 || response.status >= 500 && response.status < 600)'],
    [chip('took', ['1 s'], { op: 'over' }), 'timing.total_us > 1000000'],
    [chip('took', ['250 ms'], { op: 'under' }), 'timing.total_us < 250000'],
    [chip('signature', ['invalid']), 'signature.verdict == "invalid"'],
    [chip('digest', ['mismatch']), 'digest == "mismatch"'],
    [chip('path', ['/users/bob/'], { op: 'contains' }), 'request.path.contains("/users/bob/")'],
    [chip('actor', ['https://gts2/users/bob']), 'activity.actor == "https://gts2/users/bob"'],
    [chip('actor', ['bob'], { op: 'contains' }), 'activity.actor.contains("bob")'],
    [chip('body', ['cof"fee'], { op: 'contains' }), 'body.text.contains("cof\\"fee")'],
    [chip('word', ['coffee'], { op: 'contains' }), '(reading.sentence.contains("coffee") || request.target.contains("coffee") || activity.id.contains("coffee"))'],
    [chip('server', ['gts1.x']), '(origin.host == "gts1.x" || request.host == "gts1.x")'],
    [chip('method', ['POST']), 'request.method == "POST"'],
    [chip('kind', ['key'], { not: true }), '!(reading.kind == "key")'],
    [chip('status', ['4xx'], { not: true }), '!(response.status >= 400 && response.status < 500)'],
    [chip('word', ['x'], { op: 'contains', not: true }), '!(reading.sentence.contains("x") || request.target.contains("x") || activity.id.contains("x"))'],
    [chip('cel', ['timing.total_us % 2 == 0']), 'timing.total_us % 2 == 0'],
  ];
  test.each(table)('%j is written and read back', (c, text) => {
    expect(celOf(c)).toBe(text);
    expect(chipsOf(text)).toEqual([c]);
  });
  test('any two of them stand side by side', () => {
    for (const [a] of table) for (const [b] of table) {
      if (a.field === 'cel' || b.field === 'cel') continue;
      expect(chipsOf(expression([a, b])), expression([a, b])).toEqual([a, b]);
    }
  });
  test('an expression without a chip form stays as it is', () => {
    for (const text of ['response.status == 200 || response.status == 404', 'size(request.headers) > 3', 'a.b ? c : d', '((', 'a == "x', '"x" in y', 'reading.kind == "key" && (a || b)']) {
      const chips = chipsOf(text);
      expect(chips.some((c) => c.field === 'cel')).toBe(true);
      expect(expression(chips)).toBe(text);
    }
  });
  test('spacing does not matter', () => expect(chipsOf(' response.status>=400&&response.status<500 ')).toEqual([chip('status', ['4xx'])]));
  test('values that do not fit make no chip', () => {
    expect(celOf(chip('status', ['many']))).toBeNull();
    expect(celOf(chip('took', ['long'], { op: 'over' }))).toBeNull();
    expect(expression([])).toBe('');
  });
  test('durations', () => expect(['1 s', '250ms', '80 µs', '2 min', '5', 'x'].map(microseconds)).toEqual([1_000_000, 250_000, 80, 120_000_000, 5000, null]));
  const typing = (text: string) => chipsTyped(text, en.fields);
  test('typing makes chips', () => {
    expect(typing('kind is key')).toEqual([chip('kind', ['key'])]);
    expect(typing('status:4xx')).toEqual([chip('status', ['4xx'])]);
    expect(typing('-kind key, actor')).toEqual([chip('kind', ['key', 'actor'], { not: true })]);
    expect(typing('took > 1 s')).toEqual([chip('took', ['1 s'], { op: 'over' })]);
    expect(typing('took under 20 ms')).toEqual([chip('took', ['20 ms'], { op: 'under' })]);
    expect(typing('actor @bob@gts2.x')).toEqual([chip('actor', ['bob'], { op: 'contains' })]);
    expect(typing('coffee')).toEqual([chip('word', ['coffee'], { op: 'contains' })]);
    expect(typing('"kind of blue"')).toEqual([chip('word', ['kind of blue'], { op: 'contains' })]);
    expect(typing('response.status == 404')).toEqual([chip('status', ['404'])]);
    expect(typing('nosuch.field == 1')).toEqual([chip('cel', ['nosuch.field == 1'])]);
    expect(typing('  ')).toEqual([]);
    expect(typing('status is many')).toEqual([]);
    expect(typing('response.status == 404 && reading.kind == "key"')).toEqual([chip('status', ['404']), chip('kind', ['key'])]);
    expect(chipsTyped('種類 key', ja.fields)).toEqual([chip('kind', ['key'])]);
    expect(typed('kind', en.fields)).toEqual({ not: false, field: null, op: null, rest: 'kind' });
  });
});

describe('the window of rows', () => {
  const ids = (rows: readonly Row[]) => rows.map((r) => r.id).join('');
  test('merging keeps order and each id once, the newer copy', () => {
    const a = ['b', 'd', 'f'].map((id) => at(id));
    expect(ids(merge(a, [at('e'), at('a'), at('d', 0, { status: 500 }), at('g'), at('g')]))).toBe('abdefg');
    expect(merge(a, [at('d', 0, { status: 500 })])[1]?.status).toBe(500);
    expect(ids(merge([], [at('b'), at('a')]))).toBe('ab');
    expect(ids(merge(a, []))).toBe('bdf');
  });
  test('merging is what a stupid twin says', () => {
    let seed = 7;
    const random = (n: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
    for (let round = 0; round < 200; round++) {
      const some = () => Array.from({ length: random(12) }, () => at(String.fromCharCode(97 + random(20))));
      const a = merge([], some());
      const b = some();
      const twin = [...new Set([...a, ...b].map((r) => r.id))].sort().join('');
      expect(ids(merge(a, b))).toBe(twin);
    }
  });
  test('places are found', () => {
    const rows = ['b', 'd'].map((id) => at(id));
    expect(['a', 'b', 'c', 'd', 'e'].map((id) => place(rows, id))).toEqual([0, 0, 1, 1, 2]);
    expect(['a', 'b', 'd'].map((id) => indexOf(rows, id))).toEqual([-1, 0, 1]);
  });
  test('a pause is said, and its height counts', () => {
    const rows = [at('a', 0), at('b', 10_000), at('c', 2_000_000), at('d', 2_010_000)];
    const l = layout(rows, { row: 27, quiet: 18, loss: 27 });
    expect(l.items.map((i) => i.kind)).toEqual(['row', 'row', 'quiet', 'row', 'row']);
    expect(l.tops).toEqual([0, 27, 54, 72, 99, 126]);
    expect(l.itemOfRow).toEqual([0, 1, 3, 4]);
    expect([0, 26, 27, 60, 72, 500].map((y) => itemAt(l.tops, y))).toEqual([0, 0, 1, 2, 3, 4]);
  });
  test('slow traffic is not one long pause', () => expect(quietFrom([5e6, 6e6, 5e6])).toBe(1e7));
  test('losses make one band a span', () => {
    const lossy = { gaps: 1 };
    const rows = [at('a', 0), at('b', 1000, lossy), at('c', 2000, lossy), at('d', 3000, lossy), at('e', 4000), at('f', 5000, lossy)];
    const l = layout(rows, { row: 27, quiet: 18, loss: 27 });
    expect(l.items.filter((i) => i.kind === 'loss')).toEqual([{ kind: 'loss', us: 2000, row: 2 }]);
  });
  test('an empty window has no height', () => expect(layout([], { row: 27, quiet: 18, loss: 27 })).toEqual({ items: [], tops: [0], itemOfRow: [] }));
  test('statuses have classes', () => {
    const c = (status: number | null, kind = 'actor') => statusClass({ status, kind });
    expect([c(200), c(304), c(301), c(404), c(404, 'robots'), c(500), c(null)]).toEqual(['ok', 'ok', 'redirect', 'refused', 'absent', 'failed', 'none']);
  });
  test('trouble is what needs a look', () => {
    expect(trouble(row({}))).toBe('none');
    expect(trouble(row({ digest: 'mismatch' }))).toBe('err');
    expect(trouble(row({ lint_warnings: 1, reason: 'Date off' }))).toBe('warn');
    expect(trouble(row({ kind: 'robots', status: 404, reason: 'not found' }))).toBe('none');
    expect(trouble(row({ status: null }))).toBe('err');
    expect(isDelivery(row({ kind: 'actor' }))).toBe(false);
  });
});

describe('JSON', () => {
  const of = (text: string) => parseJson(text);
  test('agrees with JSON.parse on what is JSON', () => {
    const good = ['{}', '[]', '1', '"a"', 'null', ' {"a":[1,{"b":[]},"x\\u00e9\\n"],"c":{"d":-1.5e+3}} ', '[[[]],[[]]]', '{"a":{}}', '[1,2]', '{"":0}'];
    const bad = ['', '{', '}', '[1,]', '{"a":1,}', '{"a"}', '{a:1}', '01', '1.', '"\n"', 'nul', '[1 2]', '{"a":1}x', '[}', '{"a":1]', ',', '[,1]', '"\\x"'];
    for (const text of good) expect(of(text), text).not.toBeNull();
    for (const text of bad) expect(of(text), text).toBeNull();
    for (const text of [...good, ...bad]) {
      let parses = true;
      try {
        JSON.parse(text);
      } catch {
        parses = false;
      }
      expect(of(text) !== null, text).toBe(parses);
    }
  });
  test('writes a node back as the same value', () => {
    const text = '{"a":[1,{"b":[],"e":{}},"x"],"c":{"d":-1.5e+3},"f":true}';
    expect(JSON.parse(textOf(of(text)!, 0))).toEqual(JSON.parse(text));
    expect(JSON.parse(textOf(of(text)!, 1))).toEqual([1, { b: [], e: {} }, 'x']);
  });
  test('numbers keep their digits, doubles and order stay', () => {
    const nodes = of('{"2":12345678901234567890.10,"1":0,"1":1}')!;
    expect(nodes.map((n) => [n.key, n.value])).toEqual([[null, ''], ['2', '12345678901234567890.10'], ['1', '0'], ['1', '1']]);
  });
  test('depth costs nothing', () => {
    const deep = '['.repeat(200_000) + ']'.repeat(200_000);
    expect(of(deep)).toHaveLength(200_000);
    expect(lines(of(deep)!, new Set([5]))).toHaveLength(11);
  });
  test('paths are those of jq', () => {
    const nodes = of('{"object":{"tag":[{"href":"x"}]},"@context":1}')!;
    expect(nodes.map((_, i) => path(nodes, i))).toEqual(['.', '.object', '.object.tag', '.object.tag[0]', '.object.tag[0].href', '.["@context"]']);
  });
  test('folding hides what is inside', () => {
    const nodes = of('{"@context":["a","b"],"b":{"c":1}}')!;
    expect(foldedAtFirst(nodes)).toEqual(new Set([1]));
    expect(lines(nodes, new Set([1])).map((l) => (l.closes ? `/${l.node}` : l.node))).toEqual([0, 1, 4, 5, '/4', '/0']);
  });
});

describe('an exchange taken away', () => {
  const exchange = {
    request: { method: 'POST', target: '/users/bob/inbox', host: 'gts2.test', headers: [['Host', 'gts2.test'], ['Date', 'Mon'], ['Digest', 'SHA-256=x'], ['X-Forwarded-Proto', 'https'], ['X-Note', "it's"], ['Accept-Encoding', 'gzip'], ['Content-Length', '2']] },
    server: { address: '10.0.0.1:80' },
    reading: { signature: { scheme: 'cavage', covered: ['(request-target)', 'host', 'date', 'digest'] } },
  } as unknown as Exchange;
  test('as cURL, quoted for a shell', () => {
    expect(curl(exchange, '{}')).toBe(`curl -i https://gts2.test/users/bob/inbox -H 'Date: Mon' -H 'Digest: SHA-256=x' -H 'X-Note: it'\\''s' --compressed --data-binary '{}'`);
    expect(quote('$(rm -rf /)')).toBe(`'$(rm -rf /)'`);
    expect(curl({ ...exchange, request: null }, null)).toBeNull();
  });
  test('as the string that was signed', () => {
    expect(signingString(exchange)).toBe('(request-target): post /users/bob/inbox\nhost: gts2.test\ndate: Mon\ndigest: SHA-256=x');
    expect(covered(exchange).map((c) => c.value)).toEqual(['post /users/bob/inbox', 'gts2.test', 'Mon', 'SHA-256=x']);
  });
  test('not when a part is missing', () => expect(signingString({ ...exchange, reading: { signature: { scheme: 'cavage', covered: ['x-not-there'] } } } as unknown as Exchange)).toBeNull());
});

describe('the rest', () => {
  test('octets in lines of sixteen', () => {
    const bytes = Uint8Array.from([...Array(17).keys()].map((i) => i + 0x41));
    expect(hexLines(bytes, 16)).toEqual([
      { offset: '00000010', hex: '41 42 43 44 45 46 47 48  49 4a 4b 4c 4d 4e 4f 50', text: 'ABCDEFGHIJKLMNOP' },
      { offset: '00000020', hex: `51${' '.repeat(46)}`, text: 'Q' },
    ]);
    expect(hexLines(Uint8Array.from([0, 255]))[0]?.text).toBe('··');
  });
  test('waiting grows and ends at 15 s', () => expect([0, 1, 2, 3, 4, 20].map(backoff)).toEqual([1000, 2000, 4000, 8000, 15_000, 15_000]));
  test('ticks are round and few', () => {
    const from = nanos('2026-11-23T07:26:00Z');
    for (const seconds of [1n, 60n, 780n, 86_400n, 3_000_000n, 400_000_000n]) {
      const found = ticks(from, from + seconds * 1_000_000_000n);
      expect(found.length).toBeLessThanOrEqual(15);
      expect(found.length).toBeGreaterThan(0);
    }
    expect(ticks(from, from + 780n * 1_000_000_000n).map((tick) => clockText(timeOf(tick.ns)).slice(0, 5)).slice(0, 3)).toEqual(['07:26', '07:27', '07:28']);
    expect(ticks(from, from)).toEqual([]);
  });
});

describe('causes and the gutter', () => {
  const name = (n: number) => A.slice(0, -2) + String(n).padStart(2, '0');
  const fetch = (n: number, change: Partial<Row> = {}) => at(name(n), n * 1000, { kind: 'key', activity: null, ...change });
  const by = (n: number, proven = false) => ({ id: name(n), proven });
  test('what held a request outranks a guess, and what an id proves is no guess', () => {
    const rows = [at(name(0)), at(name(1), 1000, { caused: [by(2), by(3)] }), fetch(2, { caused_by: by(0) }), fetch(3, { caused_by: by(0, true) }), fetch(4, { caused_by: by(0) })];
    expect([2, 3, 4].map((n) => causesOf(rows).get(name(n)))).toEqual([by(1), by(0, true), by(0)]);
  });
  test('a chain is the first cause and all that came of it', () => {
    const rows = [at(name(0)), fetch(1, { caused_by: by(0) }), fetch(2), fetch(3, { caused_by: by(1) }), at(name(4), 4000, { caused_by: by(0, true) })];
    const causes = causesOf(rows);
    for (const n of [0, 1, 3, 4]) expect(chainOf(rows, causes, name(n)).map((r) => r.id)).toEqual([0, 1, 3, 4].map(name));
    expect(chainOf(rows, causes, name(2)).map((r) => r.id)).toEqual([name(2)]);
  });
  test('rails go from a request to its last effect, each on a lane of its own', () => {
    const rows = [at(name(0)), fetch(1, { caused_by: by(0) }), fetch(2, { caused_by: by(1) }), at(name(3), 3000), fetch(4, { caused_by: by(0) }), fetch(5, { caused_by: by(3) }), at(name(6), 6000, { caused_by: by(0, true) })];
    const { cells, rails, railOf } = gutter(rows, causesOf(rows));
    expect(cells.map((cell) => cell.lane)).toEqual([0, 1, 2, 0, 1, 2, 0]);
    expect([...rails.values()].map((rail) => [rail.cause, rail.lane, ...rail.effects])).toEqual([[0, 1, 1, 4], [1, 2, 2], [3, 2, 5]]);
    // Lane 1 runs past rows 2 and 3, and ends at 4.
    expect(cells.map((cell) => (cell.up & 2) !== 0)).toEqual([false, false, true, true, true, false, false]);
    expect(cells.map((cell) => (cell.down & 2) !== 0)).toEqual([false, true, true, true, false, false, false]);
    expect(cells.map((cell) => [cell.from, cell.into])).toEqual([[-1, -1], [0, 1], [1, 2], [-1, -1], [0, 2], [-1, -1], [-1, -1]]);
    expect(along(railOf.get(4), 2, cells)).toBe(2);
    expect(along(railOf.get(4), 0, cells)).toBe(1);
    expect(along(railOf.get(4), 5, cells)).toBe(0);
  });
  test('where there is no room for a line there is none', () => {
    const causes = Array.from({ length: 6 }, (_, n) => at(name(n), n * 1000));
    const effects = Array.from({ length: 6 }, (_, n) => fetch(10 + n, { caused_by: by(n) }));
    const { cells } = gutter([...causes, ...effects], causesOf([...causes, ...effects]));
    expect(cells.map((cell) => cell.lane)).toEqual([0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0]);
    const far = [at(name(0)), ...Array.from({ length: 200 }, (_, n) => at(`${A}${n}`, n)), fetch(99, { caused_by: by(0) })];
    expect(gutter(far, causesOf(far)).rails.size).toBe(0);
  });
});

describe('what came on the wire', () => {
  const T = (n: number) => `2026-11-23T07:26:40.00000000${n}Z`;
  const facts = (wire_size: number) => ({ wire_size, size: wire_size, encoding: null, complete: true, stored: 0, sha256: null });
  const message = (first: number, last: number, wire: number) => ({ version: '1.1', headers: [], trailers: [], body: facts(wire), first_byte: T(first), last_byte: T(last) });
  const exchange = (change: object) => ({ request: { ...message(1, 3, 293), method: 'POST', target: '/', host: 'h' }, response: { ...message(4, 4, 0), status: 202, reason: '' }, interim: [], websocket: null, gaps: [], ...change }) as unknown as Exchange;
  test('stands in the order of time, gaps last, and nothing is made up', () => {
    const all = pieces(exchange({ interim: [{ status: 103, time: T(2), headers: [] }], gaps: [{ direction: 'to-server', offset: 812, length: 1448, cause: 'acked-unseen' }, { direction: 'to-client', offset: 2 ** 32 + 5, length: 1, cause: 'budget' }] }));
    expect(all.map((p) => [p.what, p.octets, p.note])).toEqual([['requestBegins', null, null], ['interim', null, '103'], ['requestEnds', 293, null], ['response', null, null], ['gap', 1448, 'acked-unseen, 812'], ['gap', 1, 'budget']]);
  });
  test('a half that was not seen has no line', () => expect(pieces(exchange({ request: null })).map((p) => p.what)).toEqual(['response']));
  test('messages of a WebSocket are lines with their frames', () => {
    const messages = [{ direction: 'to-client', time: T(5), opcode: 1, frames: 2, size: 7, complete: true, sha256: null, text: 'x' }];
    expect(pieces(exchange({ websocket: { frames: 2, messages, messages_dropped: 0, extensions: null, close_code: null } })).at(-1)).toMatchObject({ what: 'frames', octets: 7, note: '2', direction: 'to-client' });
  });
});

describe('columns', () => {
  const names = (tokens: readonly string[]) => chosenOf(tokens).map((c) => c.name).join(' ');
  test('are chosen, ordered and sized, and what is not understood is left out', () => {
    expect(names(COLUMNS)).toBe('kind meaning request status took body signature');
    expect(names(['status', 'kind:90', 'nonsense', 'status:20'])).toBe('meaning status kind');
    expect(chosenOf(['took:80', 'meaning:9', 'body:5', 'status:9999'])).toEqual([{ name: 'took', width: 80 }, { name: 'meaning', width: null }, { name: 'body', width: 40 }, { name: 'status', width: 800 }]);
    expect(names([''])).toBe('meaning');
  });
  test('say no more than must be said', () => {
    for (const tokens of [[...COLUMNS], ['took:80', 'meaning', 'status'], ['kind', 'status'], ['meaning', 'kind'], []]) expect(tokensOf(chosenOf(tokens))).toEqual(tokens);
  });
  test('come back where they usually stand', () => {
    for (const name of COLUMNS) expect(tokensOf(withColumn(withColumn(chosenOf(COLUMNS), name, false), name, true))).toEqual([...COLUMNS]);
    expect(tokensOf(withColumn(chosenOf(['took', 'status']), 'body', true))).toEqual(['took', 'body', 'status']);
  });
  test('move', () => {
    expect(tokensOf(moved(chosenOf(COLUMNS), 'took', 0))).toEqual(['took', 'kind', 'meaning', 'request', 'status', 'body', 'signature']);
    expect(tokensOf(moved(chosenOf(['kind', 'status']), 'meaning', 2))).toEqual(['kind', 'status', 'meaning']);
  });
});
