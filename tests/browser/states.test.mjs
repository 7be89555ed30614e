// The states that a healthy node does not show, over the mock: live rows, a lost connection, loss, empty, a million
// exchanges, a prefix, a fast stream.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { at, axeSource, browser, ready, rows, until } from './harness.mjs';
import { start } from './mock.mjs';

let chrome, page, mock;
before(async () => {
  chrome = await browser();
});
after(async () => chrome?.close());
afterEach(async () => {
  const wrong = page?.wrong ?? [];
  await page?.close();
  await mock?.close();
  page = mock = undefined;
  assert.deepEqual(wrong, []);
});
const open = async (options, path, query, pageOptions) => {
  mock = await start(options);
  page = await chrome.page(at(mock.url, path, query), pageOptions);
  return page;
};
const query = () => new URL(page.url()).searchParams;
const BROKEN = { allow: [/ERR_|Failed to load|net::/] };
const counted = async () => Number((await page.locator('.counted b').innerText()).replace(/\D/g, ''));

test('a live row arrives by itself, and the list follows the end', async () => {
  await open({ hold: 40 });
  await ready(page);
  await page.locator('.state', { hasText: 'Live' }).waitFor();
  const last = await rows(page).evaluateAll((all) => all.map((el) => el.dataset.id).sort().at(-1));
  const before = await counted();
  mock.push(3);
  await until(async () => (await rows(page).evaluateAll((all) => all.map((el) => el.dataset.id).sort().at(-1))) > last, 'the new row');
  await until(async () => (await counted()) > before, 'the count');
  const gap = await page.locator('.scroller').evaluate((el) => el.scrollHeight - el.clientHeight - el.scrollTop);
  assert.ok(gap < 5);
});

test('the row that was pressed is opened, however many arrive before the button is let go', async () => {
  await open({ hold: 120 });
  await ready(page);
  await page.locator('.state', { hasText: 'Live' }).waitFor();
  const pressed = rows(page).last();
  const id = await pressed.getAttribute('data-id');
  const box = await pressed.boundingBox();
  const before = await counted();
  await page.mouse.move(box.x + 300, box.y + 10);
  await page.mouse.down();
  mock.push(100);
  await until(async () => (await counted()) >= before + 50, 'the rows that arrive meanwhile');
  await page.mouse.up();
  await until(() => query().get('sel') === id, 'the row that was pressed');
  await page.locator('.detail h1').waitFor();
});

test('dragging over a row selects its text, and opens nothing', async () => {
  await open({});
  await ready(page);
  const box = await rows(page).last().locator('.sentence').boundingBox();
  await page.mouse.move(box.x + 2, box.y + 8);
  await page.mouse.down();
  await page.mouse.move(box.x + 90, box.y + 8, { steps: 5 });
  await page.mouse.up();
  assert.ok((await page.evaluate(() => getSelection().toString())).length > 3);
  assert.equal(query().get('sel'), null);
});

test('scrolling up stops following, the bar counts what is newer, End returns', async () => {
  await open({ hold: 60 });
  await ready(page);
  await page.locator('.scroller').hover();
  await page.mouse.wheel(0, -600);
  await page.locator('.newer').waitFor();
  const newer = async () => Number((await page.locator('.newer').innerText()).replace(/\D/g, ''));
  const before = await newer();
  const top = await page.locator('.scroller').evaluate((el) => el.scrollTop);
  const federation = mock.traffic.length;
  mock.push(20);
  await until(async () => (await newer()) > before, 'more newer');
  assert.equal(await page.locator('.scroller').evaluate((el) => el.scrollTop), top, 'the reader’s place must not move');
  assert.ok(mock.traffic.length === federation + 20);
  await page.keyboard.press('End');
  await until(async () => (await page.locator('.newer').count()) === 0, 'the end');
});

test('a filtered list takes only live rows that match', async () => {
  await open({ hold: 40 }, '', { q: 'reading.kind == "inbox-delivery"' });
  await ready(page);
  const before = await counted();
  mock.push(40);
  await until(async () => (await counted()) > before, 'the count');
  const kinds = await rows(page).evaluateAll((all) => [...new Set(all.map((el) => el.classList.contains('delivery')))]);
  assert.deepEqual(kinds, [true]);
});

test('Space pauses the page, and resuming shows what came meanwhile', async () => {
  await open({ hold: 40 });
  await ready(page);
  await page.keyboard.press('Space');
  await page.locator('.state', { hasText: 'Paused' }).waitFor();
  const before = await counted();
  mock.push(10);
  await page.waitForTimeout(500);
  assert.equal(await counted(), before);
  await page.keyboard.press('Space');
  await until(async () => (await counted()) > before, 'the rows that came meanwhile');
});

test('many rows a second come in batches and none is lost', async () => {
  await open({ hold: 1 }, '', { v: 'all' });
  await ready(page);
  const before = await counted();
  for (let i = 0; i < 30; i++) {
    mock.push(30);
    await page.waitForTimeout(15);
  }
  await until(async () => (await counted()) === before + 900, 'all of them counted');
  assert.ok((await rows(page).count()) < 120, 'only what is in sight is on the page');
});

test('resync fetches what was missed', async () => {
  await open({ hold: 60 });
  await ready(page);
  const before = await counted();
  mock.traffic.push(...(await import('./mock.mjs')).traffic().slice(-60));
  mock.resync();
  await until(async () => (await counted()) > before, 'the rows that were missed');
});

test('a lost connection is said, nothing is dimmed, and it comes back by itself', async () => {
  await open({ hold: 20 }, '', {}, BROKEN);
  await ready(page);
  await page.locator('.state', { hasText: 'Live' }).waitFor();
  mock.cut();
  await page.getByRole('alert').filter({ hasText: 'Connection to the node lost' }).waitFor();
  assert.match(await page.locator('.banner.err').innerText(), /trying again/);
  assert.equal(await page.locator('.row').first().evaluate((el) => getComputedStyle(el).opacity), '1');
  assert.match(await page.locator('.footer').innerText(), /not live/);
  mock.mend();
  const before = await counted();
  mock.push(20);
  await page.getByRole('button', { name: 'Try now' }).click();
  await until(async () => (await page.locator('.banner.err').count()) === 0, 'the banner to go');
  await until(async () => (await counted()) > before, 'what came meanwhile');
});

test('loss has a number, a banner that goes, marks and a band that stay', async () => {
  await open({ lost: true }, '', { q: 'reading.kind == "inbox-delivery" || reading.kind != "x"' });
  await ready(page);
  await page.locator('.banner.warn').waitFor();
  assert.match(await page.locator('.banner.warn').innerText(), /1\s?204 packets lost on veth15b6483c, \d\d:\d\d:\d\d\.\d+ to \d\d:\d\d:\d\d\.\d+, as the capture says\. 6 exchanges have gaps/);
  await page.getByRole('button', { name: 'What to change' }).click();
  await page.getByRole('note').getByText('tcpdump -B').waitFor();
  await page.getByRole('button', { name: 'Show them' }).click();
  await until(async () => (await counted()) === 6, 'the exchanges that are touched, the last among them');
  assert.equal(await page.locator('.row:not(.lossy)').count(), 0);
  await page.goBack();
  await until(async () => (await counted()) > 6, 'the others');
  await page.getByRole('button', { name: 'Dismiss' }).click();
  await until(async () => (await page.locator('.banner.warn').count()) === 0, 'the banner to go');
  assert.match(await page.locator('.facts').innerText(), /1\s?204\s+lost/);
  await page.keyboard.press('Home');
  for (let i = 0; i < 4 && (await page.locator('.loss').count()) === 0; i++) {
    await page.keyboard.press('n');
    await page.waitForTimeout(150);
  }
  await page.locator('.loss').waitFor();
  assert.ok((await page.locator('.row.lossy').count()) > 1);
});

test('nothing yet is not nothing matches', async () => {
  await open({ empty: true, kind: 'live' });
  await page.getByRole('heading', { name: 'Listening. No federation traffic yet.' }).waitFor();
  assert.match(await page.locator('.table').innerText(), /veth0a17f1d7/);
  assert.match(await page.locator('.blank').innerText(), /fedisniff doctor/);
});

test('an empty capture says so', async () => {
  await open({ empty: true, kind: 'file' });
  await page.getByRole('heading', { name: 'No HTTP exchange in this capture.' }).waitFor();
  assert.match(await page.locator('.blank').innerText(), /1\s?825 frames in 9 flows, 5 flows of TLS/);
});

test('WebSocket messages, pictures, gaps, oddities and lone halves are shown as what they are', async () => {
  await open({ odd: true }, '', { v: 'all' });
  await ready(page);
  const ids = mock.traffic.slice(-5).map((e) => e.row.id);
  const show = async (i) => {
    await page.locator(`[data-id="${ids[i]}"]`).click();
    await page.locator('#panel-bytes').waitFor();
    await until(() => query().get('sel') === ids[i], 'the selection');
  };
  await show(0);
  const table = page.locator('#panel-websocket');
  assert.equal(await table.locator('tbody tr').count(), 5);
  assert.match(await table.innerText(), /ping[\s\S]*incomplete[\s\S]*close[\s\S]*3 more messages not kept/);
  await show(1);
  await until(() => page.locator('img.picture').evaluate((el) => el.complete && el.naturalWidth > 0).catch(() => false), 'the picture');
  assert.match(await page.locator('#panel-response').innerText(), /X-Trailer[\s\S]*103/);
  await show(2);
  assert.match(await page.locator('.trouble.warn').innerText(), /Bytes of this exchange are missing/);
  assert.match(await page.locator('#panel-bytes').innerText(), /to the server\s+missing \(acked-unseen, at byte 812\)\s+1\s?448/);
  assert.match(await page.locator('#panel-bytes').innerText(), /conflicting-retransmission/);
  assert.match(await page.locator('.lints').innerText(), /date-skew/);
  assert.equal(await page.locator('#panel-request .unknown').count(), 3);
  await show(3);
  assert.match(await page.locator('#panel-request').innerText(), /The request was not seen/);
  await show(4);
  assert.match(await page.locator('#panel-response').innerText(), /No answer was seen/);
  assert.match(await page.locator('.trouble').innerText(), /fed2|gts1|did not answer/);
});

test('a search goes on where a request stopped, and its first hits come at once', async () => {
  await open({ scan: 7 }, '', { q: 'activity.type == "Follow"', v: 'all' });
  await ready(page);
  const want = mock.traffic.filter((e) => e.row.activity === 'Follow').length;
  await until(async () => (await rows(page).count()) === want, `all ${want} of them`);
});

test('a search without an end in sight says how far it looked, then that nothing matches', async () => {
  await open({ scan: 20 }, '', { q: 'activity.type == "Nonsense"' });
  await page.getByRole('heading', { name: 'Nothing matches' }).waitFor();
});

test('a million exchanges scroll, and the ends are reached', async () => {
  await open({ many: 1_000_000 });
  await ready(page);
  assert.equal(await page.getByRole('grid').getAttribute('aria-rowcount'), '1000001');
  await page.locator('.scroller').hover();
  for (let i = 0; i < 40; i++) {
    await page.mouse.wheel(0, -4000);
    await page.waitForTimeout(25);
  }
  await until(async () => Number(await rows(page).first().getAttribute('aria-rowindex')) < 999_000, 'rows further up');
  const order = await rows(page).evaluateAll((all) => all.map((el) => [parseFloat(el.style.top), el.dataset.id, Number(el.getAttribute('aria-rowindex'))]).sort((a, b) => a[0] - b[0]));
  order.forEach((row, i) => i > 0 && assert.equal(row[2], order[i - 1][2] + 1, 'no row may be missing'));
  await page.keyboard.press('Home');
  await until(async () => (await page.locator('[aria-rowindex="2"]').count()) === 1, 'the first row');
  await page.keyboard.press('End');
  await until(async () => (await page.locator('[aria-rowindex="1000001"]').count()) === 1, 'the last row');
  assert.ok((await page.evaluate(() => document.querySelectorAll('*').length)) < 5000, 'the page must stay small');
});

test('a place in the middle survives a reload', async () => {
  await open({ many: 1_000_000 });
  await ready(page);
  await page.locator('.scroller').hover();
  for (let i = 0; i < 6; i++) {
    await page.mouse.wheel(0, -3000);
    await page.waitForTimeout(60);
  }
  await until(() => query().has('at'), 'the place in the address');
  const id = query().get('at');
  await page.reload();
  await page.locator(`[data-id="${id}"]`).waitFor();
  const [row, box] = await Promise.all([page.locator(`[data-id="${id}"]`).boundingBox(), page.locator('.scroller').boundingBox()]);
  assert.ok(Math.abs(row.y - box.y) < 40, `the row stands ${row.y - box.y} px below the top`);
});

test('it works under a prefix, deep links too', async () => {
  await open({ prefix: '/deep/under/' });
  await ready(page);
  await page.locator('.row').last().click();
  await page.locator('.detail h1').waitFor();
  await page.keyboard.press('o');
  await until(() => new URL(page.url()).pathname.startsWith('/deep/under/e/'), 'the page under the prefix');
  await page.reload();
  await page.locator('.page h1').waitFor();
});

test('what moves stands still when asked to', async () => {
  await open({ hold: 5 }, '', {}, { media: { reducedMotion: 'reduce' } });
  await ready(page);
  mock.push(2);
  await until(async () => (await page.locator('.row').count()) > 0, 'rows');
  // A row that arrives between press and release moves the list under the pointer: then the click was on no row.
  await until(async () => {
    await page.locator('.row').last().click();
    return page.locator('.detail').isVisible();
  }, 'the detail');
  assert.equal(await page.locator('.detail').evaluate((el) => getComputedStyle(el).animationName), 'none');
});

test('what is not finished stands below the list with a running clock, and goes when it is finished', async () => {
  await open({ hold: 40 });
  await ready(page);
  await page.locator('.state', { hasText: 'Live' }).waitFor();
  const asked = (id, ago, more = {}) => ({ id, started: new Date(Date.now() - ago).toISOString(), ends: { client: '10.42.0.10:40000', server: '10.42.0.21:8080' }, method: 'POST', target: '/users/bob/inbox', host: 'gts2.fediverse.test', status: null, websocket: false, ...more });
  const list = page.locator('.inflight li');
  mock.flight([asked('a', 2000), asked('b', 1000, { method: 'GET', target: '/api/v1/streaming', status: 101, websocket: true }), asked('c', 0)], 12);
  await until(async () => (await list.count()) >= 2, 'the two that go on for a while');
  assert.match(await list.nth(0).innerText(), /POST \/users\/bob\/inbox gts2\.fediverse\.test[\s\S]*···/);
  assert.match(await list.nth(1).innerText(), /WebSocket open/);
  assert.match(await page.locator('.inflight p').innerText(), /and \d+ more/);
  const clock = () => list.nth(0).locator('.took').innerText();
  const before = await clock();
  await until(async () => (await clock()) !== before, 'the clock runs');
  await until(async () => (await list.count()) === 3, 'what has just begun is shown once it takes long');
  await page.evaluate(readFileSync(axeSource, 'utf8'));
  const { violations } = await page.evaluate(() => window.axe.run(document.querySelector('.inflight'), { resultTypes: ['violations'] }));
  assert.deepEqual(violations.map((v) => [v.id, v.nodes.map((n) => n.html)]), []);
  // The row of one of them comes: it is finished.
  const { row } = mock.traffic.at(-1);
  mock.flight([asked(row.id, 5000), asked('b', 3000)]);
  await until(async () => (await list.count()) === 2, 'two are told');
  mock.again(row);
  await until(async () => (await list.count()) === 1, 'one is finished');
  mock.flight([]);
  await until(async () => (await page.locator('.inflight').count()) === 0, 'none is left');
});
