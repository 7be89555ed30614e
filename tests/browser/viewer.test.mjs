// The viewer with a real browser, real clicks and real keys: what a reader does with the list and the detail. Runs
// against the program (FEDISNIFF_BIN and FEDISNIFF_CAPTURE, or FEDISNIFF_URL) or, without either, against the mock. The
// capture must hold a delivery with a JSON body, and a fetch of an actor.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { at, axeSource, browser, ready, rows, until, viewer } from './harness.mjs';

let under, chrome, page;
before(async () => {
  under = await viewer();
  chrome = await browser();
});
after(async () => {
  await chrome?.close();
  await under?.close();
});
afterEach(async () => {
  const wrong = page?.wrong ?? [];
  await page?.close();
  page = undefined;
  assert.deepEqual(wrong, [], 'the page logged errors or asked another origin');
});
const open = async (path, query, options) => {
  page = await chrome.page(at(under.url, path, query), options);
  return page;
};
const query = () => new URL(page.url()).searchParams;
const settled = async () => {
  let last = '';
  await until(async () => {
    const now = await page.locator('.space').innerText();
    const same = now === last && now !== '';
    last = now;
    if (!same) await page.waitForTimeout(120);
    return same;
  }, 'the list to settle');
};
/** A delivery, selected by its row. */
const openDelivery = async () => {
  await page.keyboard.press('Home');
  await settled();
  if ((await page.locator('.row.delivery').count()) === 0) await page.keyboard.press('Shift+J');
  const row = page.locator('.row.delivery').first();
  const id = await row.getAttribute('data-id');
  await row.click();
  await page.locator('#panel-request').waitFor();
  return id;
};

test('the list shows rows, and says how many', async () => {
  await open();
  await ready(page);
  assert.ok((await rows(page).count()) > 5);
  const total = Number(await page.getByRole('grid').getAttribute('aria-rowcount')) - 1;
  const counted = Number((await page.locator('.counted b').innerText()).replace(/\D/g, ''));
  assert.equal(total, counted);
  const label = await rows(page).last().getAttribute('aria-label');
  assert.match(label, /^\d\d:\d\d:\d\d, .+ to .+, .+, .*signature/);
  assert.ok((await page.locator('.list svg.badge').count()) > 5);
});

test('rows stand in the order of time, newest at the bottom, at the end', async () => {
  await open();
  await ready(page);
  await settled();
  const ids = await rows(page).evaluateAll((all) => all.map((el) => [el.style.top, el.dataset.id]).sort((a, b) => parseFloat(a[0]) - parseFloat(b[0])).map((x) => x[1]));
  assert.deepEqual(ids, [...ids].sort());
  assert.equal(await page.locator('.newer').count(), 0);
  const { gap } = await page.locator('.scroller').evaluate((el) => ({ gap: el.scrollHeight - el.clientHeight - el.scrollTop }));
  assert.ok(gap < 5, `stands ${gap} px above the end`);
});

test('a click opens the detail, and the address brings it back', async () => {
  await open();
  await ready(page);
  const id = await openDelivery();
  assert.equal(query().get('sel'), id);
  const heading = await page.locator('.detail h1').innerText();
  assert.ok(heading.length > 5);
  assert.ok((await page.locator('#panel-request .headers > div').count()) > 2);
  await page.reload();
  await page.locator('#panel-request').waitFor();
  assert.equal(await page.locator('.detail h1').innerText(), heading);
  await page.locator(`.row.selected[data-id="${id}"]`).waitFor();
  await page.goBack();
  assert.equal(query().get('sel'), null);
});

test('all headers unfold, and the body is a tree that folds, text, and hex', async () => {
  await open();
  await ready(page);
  await openDelivery();
  const request = page.locator('#panel-request');
  const few = await request.locator('.headers > div').count();
  await request.getByRole('button', { name: /all \d+ headers/ }).click();
  const all = await request.locator('.headers > div').count();
  assert.ok(all >= few);
  assert.ok((await request.locator('.headers').innerText()).toLowerCase().includes('content-type'));

  const tree = request.getByRole('tree');
  await tree.waitFor();
  const before = await tree.locator('[role=treeitem]').count();
  await tree.locator('.fold').first().click();
  assert.ok((await tree.locator('[role=treeitem]').count()) < before);
  await tree.locator('.folded').first().click();
  assert.equal(await tree.locator('[role=treeitem]').count(), before);
  assert.match(await tree.innerText(), /type:\s*"/);

  await request.getByRole('button', { name: 'Source' }).click();
  assert.match(await request.locator('pre.source').innerText(), /^\s*\{/);
  await request.getByRole('button', { name: 'Hex' }).click();
  await until(async () => /00000000 7b/.test(await request.locator('pre.hex').innerText()), 'the octets');
});

test('keys y and Y copy the value and the path under the cursor', async () => {
  await open();
  await ready(page);
  await openDelivery();
  const line = page.locator('#panel-request [role=treeitem]', { hasText: /^type: / }).first();
  await line.hover();
  await page.keyboard.press('y');
  const clip = () => page.evaluate(() => navigator.clipboard.readText());
  await until(async () => (await clip()) !== '', 'the clipboard');
  const value = await clip();
  assert.ok((await line.innerText()).includes(`"${value}"`));
  await page.keyboard.press('Shift+Y');
  await until(async () => (await clip()) === '.type', 'the path');
  await page.keyboard.press('u');
  await until(async () => (await clip()).startsWith('curl '), 'the command');
});

test('the keyboard alone reads the list', async () => {
  await open();
  await ready(page);
  await settled();
  await page.keyboard.press('Home');
  await settled();
  const focused = () => page.evaluate(() => document.activeElement?.dataset?.id ?? '');
  await page.keyboard.press('j');
  const second = await until(focused, 'a focused row');
  await page.keyboard.press('j');
  const third = await until(async () => ((await focused()) !== second ? focused() : ''), 'the next row');
  assert.ok(third > second);
  await page.keyboard.press('k');
  await until(async () => (await focused()) === second, 'the row before');
  await page.keyboard.press('Enter');
  await page.locator('.detail h1').waitFor();
  assert.equal(query().get('sel'), second);
  const depth = await page.evaluate(() => history.length);
  await page.keyboard.press('j');
  await until(() => query().get('sel') === third, 'the selection to move along');
  assert.equal(await page.evaluate(() => history.length), depth, 'j must not add to the history');
  await page.keyboard.press('Shift+J');
  await until(async () => (await page.locator('.row.selected.delivery').count()) === 1, 'a delivery');
  await page.keyboard.press('2');
  await until(async () => (await page.evaluate(() => document.activeElement?.id)) === 'title-request', 'the focus on the request');
  await page.keyboard.press('Escape');
  await until(async () => (await page.locator('.detail').count()) === 0, 'the detail to close');
  await page.keyboard.press('End');
  await until(async () => (await page.locator('.newer').count()) === 0, 'the end');
});

test('the gutter ties a fetch to its cause, and h and l go along', async () => {
  await open();
  await ready(page);
  await page.keyboard.press('Home');
  await settled();
  await page.locator('.rails path').first().waitFor({ state: 'attached' });
  // A row that says its cause, which is on the page.
  const effect = page.locator('.row.fetch[aria-label*="caused by"]').first();
  const id = await effect.getAttribute('data-id');
  assert.match(await effect.locator('.gutter').getAttribute('title'), /^caused by: /);
  assert.equal(await effect.locator('.gutter').getAttribute('aria-hidden'), 'true');
  await effect.hover();
  await until(async () => (await page.locator('.rails .hot').count()) > 0, 'the line to be brought forward');
  await until(async () => (await page.locator('.row.kin').count()) >= 1, 'the rows that hang together with it');
  await effect.click();
  const lines = page.locator('.detail .line', { hasText: /^Caused by/ });
  await lines.waitFor();
  await page.keyboard.press('h');
  await until(() => query().get('sel') < id, 'what came before in the chain');
  await page.keyboard.press('l');
  await until(() => query().get('sel') === id, 'the way back');
  await lines.locator('a').click();
  const cause = await until(() => (query().get('sel') !== id ? query().get('sel') : ''), 'the cause');
  await page.locator('.detail .line', { hasText: /^Caused/ }).locator('a').first().waitFor();
  assert.ok(cause < id, 'which began before');
});

test('n goes to the next problem', async () => {
  await open('', { v: 'all' });
  await ready(page);
  await page.keyboard.press('Home');
  await settled();
  const problems = Number(await page.evaluate(async () => (await (await fetch(new URL('api/count?v=all&q=' + encodeURIComponent('response.status >= 400'), document.baseURI))).json()).matched));
  if (problems === 0) return;
  await page.keyboard.press('n');
  await until(() => page.evaluate(() => /\b(err|warn|lossy)\b/.test(document.activeElement?.className ?? '')), 'a row in trouble');
});

test('chips make the filter, and the address keeps it', async () => {
  await open();
  await ready(page);
  const before = await page.locator('.counted b').innerText();
  await page.keyboard.press('/');
  await page.keyboard.type('kind is actor');
  await page.keyboard.press('Enter');
  await until(() => query().get('q') === 'reading.kind == "actor"', 'the expression in the address');
  await until(async () => (await page.locator('.counted b').innerText()) !== before, 'the count to change');
  await settled();
  assert.deepEqual(await page.locator('.row .kind').evaluateAll((all) => [...new Set(all.map((el) => el.innerText.trim()))]), ['actor']);
  assert.match(await page.locator('.chip:not(.view)').innerText(), /kind is\s*actor/);
  await page.reload();
  await ready(page);
  assert.deepEqual(await page.locator('.row .kind').evaluateAll((all) => [...new Set(all.map((el) => el.innerText.trim()))]), ['actor']);
  await page.locator('.chip:not(.view) .chipx').click();
  await until(() => !query().has('q'), 'the chip to go');
  await page.goBack();
  await until(() => query().get('q') === 'reading.kind == "actor"', 'Back to bring the filter');
});

test('a field and a value are offered while typing', async () => {
  await open();
  await ready(page);
  await page.locator('#filter').click();
  await page.keyboard.type('stat');
  await page.getByRole('option', { name: /^status/ }).click();
  const success = page.getByRole('option', { name: '2xx' });
  await until(async () => /2xx\s*\d/.test(await success.innerText()), 'the count of what it would leave');
  await success.click();
  await until(() => query().get('q') === 'response.status >= 200 && response.status < 300', 'the expression');
});

test('an expression can be written, and an error says where', async () => {
  await open('', {}, { allow: [/400/] });
  await ready(page);
  await settled();
  const shown = await rows(page).count();
  await page.getByRole('button', { name: 'CEL' }).click();
  await page.locator('#cel').fill('response.statu == 404');
  await until(async () => /column 1/i.test(await page.locator('.celerror').innerText().catch(() => '')), 'the error with its place');
  assert.match(await page.locator('.celerror').innerText(), /response\.status/);
  await page.keyboard.press('Enter');
  await page.locator('.filtererror').waitFor();
  assert.ok((await rows(page).count()) >= shown - 2, 'the list must keep the last good result');
  await page.locator('#cel').fill('response.status == 200 || response.status == 202');
  await until(async () => (await page.locator('.celerror').count()) === 0, 'the error to go');
  await page.keyboard.press('Enter');
  await until(async () => (await page.locator('.filtererror').count()) === 0, 'the list to be good again');
  await until(async () => (await page.locator('.chip:not(.view)').innerText()).includes('CEL'), 'the CEL chip');
});

test('nothing matches is said, with what to remove', async () => {
  await open('', { q: 'reading.kind == "actor" && request.path.contains("/no/such/path")' });
  await page.getByRole('heading', { name: 'Nothing matches' }).waitFor();
  await until(async () => /\d without it/.test(await page.locator('.guilty').innerText()), 'the counts');
  await page.locator('.guilty li', { hasText: 'path contains' }).getByRole('button').click();
  await ready(page);
  assert.equal(query().get('q'), 'reading.kind == "actor"');
});

test('f keeps only what is like this, F hides it', async () => {
  await open();
  await ready(page);
  await openDelivery();
  await page.keyboard.press('f');
  await until(() => /activity\.id ==|reading\.kind ==/.test(query().get('q') ?? ''), 'the chip');
  await settled();
  await page.keyboard.press('Backspace');
  await until(() => !query().has('q'), 'the chip to go');
  await page.keyboard.press('Shift+F');
  await until(() => (query().get('q') ?? '').startsWith('!('), 'the negated chip');
});

test('the view is a chip, and the footer says what it hides', async () => {
  await open();
  await ready(page);
  const shown = await page.locator('.counted b').innerText();
  if ((await page.locator('.footer .why').count()) > 0) {
    await page.locator('.footer .why .link').click();
    await page.getByRole('button', { name: 'Show everything' }).click();
  } else await page.keyboard.press('v');
  await until(() => query().get('v') === 'all', 'the view in the address');
  await until(async () => Number((await page.locator('.counted b').innerText()).replace(/\D/g, '')) >= Number(shown.replace(/\D/g, '')), 'more rows');
});

test('themes and languages switch, and stay on reload', async () => {
  await open();
  await ready(page);
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(20, 23, 27)');
  await page.getByRole('button', { name: 'Switch to light' }).click();
  await until(async () => (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)) === 'rgb(255, 255, 255)', 'light');
  await page.getByRole('button', { name: /Switch to Japanese/ }).click();
  await until(async () => (await page.locator('nav').innerText()) === 'やりとり', 'Japanese');
  await page.reload();
  await ready(page);
  assert.equal(await page.locator('html').getAttribute('lang'), 'ja');
  assert.equal(await page.locator('nav').innerText(), 'やりとり');
  assert.match(page.url(), /lang=ja/);
  assert.match(page.url(), /theme=light/);
});

test('Japanese sentences are whole sentences', async () => {
  await open('', { lang: 'ja', v: 'all' });
  await ready(page);
  await settled();
  const all = await page.locator('.row .sentence').allInnerTexts();
  const said = all.filter((text) => /[ぁ-ん]/.test(text));
  assert.ok(said.length > all.length / 2 || !under.real, `${said.length} of ${all.length} are Japanese: ${all.find((text) => !/[ぁ-ん]/.test(text))}`);
});

test('the theme follows the browser', async () => {
  await open('', {}, { media: { colorScheme: 'light' } });
  await ready(page);
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(255, 255, 255)');
  await page.emulateMedia({ colorScheme: 'dark' });
  await until(async () => (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)) === 'rgb(20, 23, 27)', 'dark');
});

test('the panel of bytes says what came when, and the page itself never scrolls', async () => {
  await open();
  await ready(page);
  await openDelivery();
  await page.keyboard.press('5');
  const wire = page.locator('#panel-bytes .wire');
  await wire.waitFor();
  await until(async () => (await page.evaluate(() => document.activeElement?.id)) === 'title-bytes', 'the focus on the panel');
  const said = await wire.locator('tbody tr').allInnerTexts();
  assert.ok(said.length >= 2 && /request/.test(said[0]) && /response/.test(said.at(-1)), said.join(' | '));
  const times = said.map((line) => Number(/\d\d\.\d{6}/.exec(line)?.[0]));
  assert.deepEqual(times, [...times].sort((a, b) => a - b));
  await page.waitForTimeout(400);
  assert.deepEqual(await page.evaluate(() => [document.documentElement.scrollTop, document.body.scrollTop]), [0, 0]);
  const file = await page.request.get(await page.locator('#panel-bytes header a').evaluate((a) => a.href));
  assert.equal(file.status(), 200);
});

test('an exchange has a page of its own, with panels in the address', async () => {
  await open();
  await ready(page);
  const id = await openDelivery();
  await page.keyboard.press('o');
  await page.locator('.page h1').waitFor();
  assert.equal(new URL(page.url()).pathname.endsWith(`/e/${id}`), true);
  await page.keyboard.press('4');
  await until(() => page.url().includes(`/e/${id}/signature`), 'the panel in the address');
  await page.reload();
  await until(async () => (await page.evaluate(() => document.activeElement?.id)) === 'title-signature', 'the panel after a reload');
  await page.keyboard.press('Escape');
  await until(() => query().get('sel') === id, 'the list with the exchange open');
  await page.locator(`.row.selected[data-id="${id}"]`).waitFor();
});

test('an exchange that is not there is said so', async () => {
  await open('e/00000000000000000000000000', {}, { allow: [/404/] });
  await page.getByText('not in the store').waitFor();
});

test('before and after lead on', async () => {
  await open();
  await ready(page);
  const id = await openDelivery();
  const other = page.locator('.around li:not(.mine) a').first();
  if ((await other.count()) === 0) return;
  await other.click();
  await until(() => query().get('sel') !== id && query().get('sel') !== null, 'the other exchange');
  await page.goBack();
  await until(() => query().get('sel') === id, 'Back');
});

test('a span of time is dragged in the strip', async () => {
  await open();
  await ready(page);
  const box = await page.locator('.strip .bars').boundingBox();
  await page.mouse.move(box.x + box.width * 0.02, box.y + 15);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, box.y + 15, { steps: 4 });
  await page.mouse.up();
  await until(() => query().has('from') && query().has('to'), 'the span in the address');
  await page.locator('.thumb').first().focus();
  const from = query().get('from');
  await page.keyboard.press('ArrowRight');
  await until(() => query().get('from') !== from, 'the key to move it');
  await page.keyboard.press('Escape');
  await until(() => !query().has('from') && !query().has('to'), 'the whole time again');
});

test('everything can be found with Ctrl+K', async () => {
  await open();
  await ready(page);
  await page.keyboard.press('Control+k');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.type('users');
  await until(async () => (await page.locator('#found li[role=option]').count()) > 4, 'what is found');
  await page.keyboard.press('Enter');
  await until(() => (query().get('q') ?? '').includes('contains("users")'), 'the filter');
  await until(async () => (await page.getByRole('dialog').count()) === 0, 'the dialog to close');
});

test('? shows the keys, and single keys can be switched off', async () => {
  await open();
  await ready(page);
  await page.keyboard.press('?');
  await page.getByRole('heading', { name: 'Keyboard' }).waitFor();
  await page.getByRole('checkbox').uncheck();
  await page.keyboard.press('Escape');
  await until(async () => (await page.getByRole('dialog').count()) === 0, 'the dialog to close');
  await page.keyboard.press('/');
  assert.notEqual(await page.evaluate(() => document.activeElement?.id), 'filter');
  await page.evaluate(() => localStorage.clear());
});

test('columns can be left out, and the address keeps it', async () => {
  await open();
  await ready(page);
  await page.getByRole('button', { name: 'Columns' }).click();
  await page.getByRole('checkbox', { name: 'Took' }).uncheck();
  await until(() => query().get('cols') === 'kind,request,status,body,signature', 'the columns in the address');
  assert.equal(await page.getByRole('columnheader', { name: 'Took' }).count(), 0);
  await page.reload();
  await ready(page);
  assert.equal(await page.getByRole('columnheader', { name: 'Took' }).count(), 0);
  assert.equal(await page.getByRole('columnheader', { name: 'Status' }).count(), 1);
  await page.evaluate(() => localStorage.clear());
});

test('columns are moved and sized, by keys and by the pointer, and stay so', async () => {
  const heads = () => page.locator('.heads [data-col]').evaluateAll((all) => all.map((el) => el.dataset.col).join(' '));
  await open();
  await ready(page);
  await page.getByRole('button', { name: 'Columns' }).click();
  await page.getByRole('button', { name: 'Move Took to the left' }).focus();
  await page.keyboard.press('Enter');
  await until(async () => (await heads()) === 'kind meaning request took status body signature', 'the column to move');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Move Took to the left', 'the focus must stay');
  const width = () => page.locator('.heads [data-col=took]').evaluate((el) => el.getBoundingClientRect().width);
  const before = await width();
  await page.getByRole('button', { name: 'Make Took wider' }).click();
  await until(async () => Math.abs((await width()) - before - 8) < 1, 'the column to grow');
  // In the rows, too: what stands below a head is its column.
  const under = async (col, cell) => {
    const [head, below] = await Promise.all([page.locator(`.heads [data-col=${col}]`).boundingBox(), page.locator(`.row ${cell}`).first().boundingBox()]);
    return below.x >= head.x - 1 && below.x + below.width <= head.x + head.width + 1;
  };
  assert.ok(await under('took', '.took'));
  await page.keyboard.press('Escape');
  await page.reload();
  await ready(page);
  assert.equal(await heads(), 'kind meaning request took status body signature');
  assert.match(query().get('cols'), /took:\d+,status/);

  const [from, to] = await Promise.all([page.locator('.heads [data-col=signature]').boundingBox(), page.locator('.heads [data-col=kind]').boundingBox()]);
  await page.mouse.move(from.x + 30, from.y + 12);
  await page.mouse.down();
  await page.mouse.move(to.x + 10, to.y + 12, { steps: 6 });
  await page.mouse.up();
  await until(async () => (await heads()).startsWith('signature kind'), 'the column that was dragged');
  const edge = await page.locator('.heads [data-col=kind] .edge').boundingBox();
  const kind = () => page.locator('.heads [data-col=kind]').evaluate((el) => el.getBoundingClientRect().width);
  const narrow = await kind();
  await page.mouse.move(edge.x + 4, edge.y + 10);
  await page.mouse.down();
  await page.mouse.move(edge.x + 44, edge.y + 10, { steps: 4 });
  await page.mouse.up();
  await until(async () => Math.abs((await kind()) - narrow - 40) < 2, 'the edge that was dragged');
  await page.getByRole('button', { name: 'Columns' }).click();
  await page.getByRole('button', { name: 'As usual' }).click();
  await until(async () => (await heads()) === 'kind meaning request status took body signature', 'the usual columns');
  await page.evaluate(() => localStorage.clear());
});

test('export offers the three formats for what is listed', async () => {
  await open('', { q: 'reading.kind == "actor"' });
  await ready(page);
  await page.getByRole('button', { name: 'Export' }).click();
  const links = await page.locator('.menubox a').evaluateAll((all) => all.map((a) => new URL(a.href).searchParams.get('format') + ' ' + new URL(a.href).searchParams.get('q')));
  assert.deepEqual(links, ['har reading.kind == "actor"', 'pcapng reading.kind == "actor"', 'jsonl reading.kind == "actor"']);
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator('.menubox a').last().click()]);
  assert.ok(download.suggestedFilename().length > 3);
  await download.delete();
});

test('on a phone the list has two lines a row and the detail is a page with tabs', async () => {
  await open('', {}, { viewport: { width: 390, height: 844 } });
  await ready(page);
  const height = await rows(page).first().evaluate((el) => el.getBoundingClientRect().height);
  assert.equal(height, 64);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390, 'nothing may be wider than the phone');
  await page.locator('.row').last().click();
  await page.getByRole('tab', { name: 'Response' }).click();
  await page.locator('#panel-response').waitFor();
  await page.getByRole('tab', { name: 'Signature' }).click();
  await page.locator('#panel-signature').waitFor();
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390, 'nothing may be wider than the phone');
  await page.goBack();
  await ready(page);
});

test('in between the detail covers the list from the right', async () => {
  await open('', {}, { viewport: { width: 1000, height: 800 } });
  await ready(page);
  await page.locator('.row').last().click();
  await page.locator('.detail h1').waitFor();
  const [list, detail] = await Promise.all([page.locator('.list').boundingBox(), page.locator('.detail').boundingBox()]);
  assert.ok(detail.x < list.x + list.width, 'it covers');
  assert.equal(Math.round(detail.x + detail.width), 1000);
});

for (const theme of ['dark', 'light'])
  for (const lang of ['en', 'ja'])
    test(`no accessibility rule is broken, ${theme}, ${lang}`, async () => {
      await open('', { theme, lang });
      await ready(page);
      await openDelivery();
      await page.addScriptTag({ path: axeSource }).catch(async () => {
        // The page's policy forbids injected scripts, as it should: evaluate the text instead.
        const { readFileSync } = await import('node:fs');
        await page.evaluate(readFileSync(axeSource, 'utf8'));
      });
      page.wrong.length = 0;
      const check = async (state) => {
        const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
        assert.deepEqual(
          found.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join('; ')}`),
          [],
          state,
        );
      };
      await check('with the detail');
      // An effect: it names its cause, and its rail is brought forward.
      await page.locator('.row.fetch').filter({ has: page.locator('.gutter[title]') }).first().click();
      await page.locator('.linked').first().waitFor();
      await check('with causes');
      await page.keyboard.press('Escape');
      await page.locator('.columnmenu .button').click();
      await check('with the menu of columns');
    });
