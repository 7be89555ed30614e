// The HAR export in the importer that it is meant for: the network panel of Chromium's own developer tools. Their front
// end is a page like any other; the file goes in by the panel's own "Import HAR file…" input, and what the panel then
// holds is compared with the archive, and with the exchanges as fedisniff's JSON lines tell them.
//
// FEDISNIFF_BIN is the program. (Made-up answers have no export.)
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { browser } from './harness.mjs';

const binary = process.env.FEDISNIFF_BIN;
const skip = binary ? false : 'FEDISNIFF_BIN is not set';
const trace = (name) => fileURLToPath(new URL(`../traces/${name}`, import.meta.url));
const PANEL = 'devtools://devtools/bundled/inspector.html?panel=network';

let chrome, folder;
before(async () => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), 'fedisniff-har-'));
  chrome = await browser();
});
after(async () => {
  await chrome?.close();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

function fedisniff(...args) {
  const ran = spawnSync(binary, args, { encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, HOME: folder } });
  assert.equal(ran.status, 0, `fedisniff ${args.join(' ')}: ${ran.stderr}`);
  return ran.stdout;
}

/** What the network panel holds after it has imported the file. */
async function imported(file, expected) {
  // The front end is not ours: what it says on its own console is not judged, but its errors are.
  const page = await chrome.page(PANEL, { allow: [/.*/] });
  try {
    await page.getByRole('button', { name: 'Import HAR file…' }).waitFor();
    await page.locator('input[type=file]').setInputFiles(file);
    const count = () => page.evaluate(async () => {
      const { NetworkLog } = await import('devtools://devtools/bundled/models/logs/logs.js');
      return NetworkLog.NetworkLog.instance().requests().length;
    });
    for (const end = Date.now() + 20_000; (await count()) < expected && Date.now() < end;) await page.waitForTimeout(100);
    const requests = await page.evaluate(async () => {
      const { NetworkLog } = await import('devtools://devtools/bundled/models/logs/logs.js');
      const pairs = (headers) => headers.map(({ name, value }) => ({ name, value }));
      return Promise.all(NetworkLog.NetworkLog.instance().requests().map(async (request) => {
        const content = await request.requestContentData();
        return {
          method: request.requestMethod,
          url: request.url(),
          status: request.statusCode,
          statusText: request.statusText,
          started: request.issueTime(),
          type: request.resourceType().name(),
          requestHeaders: pairs(request.requestHeaders()),
          responseHeaders: pairs(request.responseHeaders),
          sent: (await request.requestFormData()) ?? null,
          size: request.resourceSize,
          content: 'error' in content ? content : content.isTextContent ? content.text : { base64: content.base64 },
          frames: request.frames().map(({ type, opCode, text, time }) => ({ type, opCode, text, time })),
        };
      }));
    });
    // The panel draws the rows that fit; each has the name of a request.
    const drawn = await page.locator('.network-log-grid tr .network-cell-name, .network-log-grid .name-column').count();
    // Its own scheme is no origin, by which the harness could know its files.
    const wrong = page.wrong.filter((line) => !line.startsWith('left the origin: devtools://'));
    assert.deepEqual(wrong, [], 'the front end failed, or asked for something else');
    return { requests, drawn };
  } finally {
    await page.close();
  }
}

/** A body's text as the archive has it. */
const content = ({ text, encoding }) => (encoding === 'base64' ? { base64: text } : text ?? '');

for (const [name, file] of [
  ['HTTP/1.1 and WebSocket', 's03-mastoapi-websocket-traefik.pcap.zst'],
  ['h2c', 's05-h2c-fedify-traefik.pcap.zst'],
  ['an answer without its request', 's07-midstream-gts-traefik.pcap.zst'],
  ['signed deliveries, refused and accepted', 's09-signatures-traefik.pcap.zst'],
  ['odd messages, and bodies that are no text', 's11-http-oddities-traefik.pcapng.zst'],
]) {
  test(`the network panel imports ${name}`, { skip }, async () => {
    const [store, har] = [join(folder, `${file}.redb`), join(folder, `${file}.har`)];
    fedisniff('read', trace(file), '--store', store, '--quiet');
    fedisniff('export', '--store', store, '--format', 'har', '-o', har);
    const { entries } = JSON.parse(readFileSync(har, 'utf8')).log;
    const lines = fedisniff('export', '--store', store, '--format', 'jsonl').trim().split('\n').map((line) => JSON.parse(line));
    assert.ok(lines.length > 10, 'the capture is too small to show anything');

    const { requests, drawn } = await imported(har, entries.length);
    assert.equal(requests.length, lines.length, 'each exchange is a request');
    assert.ok(drawn > 0, 'the panel shows rows');

    // As the exchanges were, by the other export.
    const told = (method, status, messages) => `${method} ${status} ${messages}`;
    assert.deepEqual(
      requests.map((r) => told(r.method, r.status, r.frames.length)).sort(),
      lines.map((l) => told(l.request?.method ?? '', l.response?.status ?? 0, l.websocket?.messages.length ?? 0)).sort(),
    );
    // As the archive says, entry by entry.
    for (const [place, { request, response, startedDateTime, _webSocketMessages: messages }] of entries.entries()) {
      const got = requests[place];
      const what = `${request.method} ${request.url}`;
      assert.deepEqual(
        { ...got, started: new Date(Math.round(got.started * 1000)).toISOString() },
        {
          method: request.method,
          url: request.url,
          status: response.status,
          statusText: response.statusText,
          started: new Date(startedDateTime).toISOString(),
          type: messages ? 'websocket' : got.type,
          requestHeaders: request.headers.map(({ name, value }) => ({ name, value })),
          responseHeaders: response.headers.map(({ name, value }) => ({ name, value })),
          sent: request.postData?.text ?? null,
          // Of a body that decodes to nothing the panel takes the coded size.
          size: response.content.size || Math.max(response.bodySize, 0),
          content: content(response.content),
          frames: (messages ?? []).map(({ type, opcode, data, time }) => ({ type, opCode: opcode, text: data, time })),
        },
        what,
      );
    }
  });
}
