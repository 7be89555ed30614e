// Takes the picture of the README, `ui/screenshot.png`, from the viewer under test (see harness.mjs):
//   FEDISNIFF_BIN=target/debug/fedisniff FEDISNIFF_CAPTURE=… node tests/browser/screenshot.mjs [FILE]
import { fileURLToPath } from 'node:url';
import { at, browser, ready, until, viewer } from './harness.mjs';

const file = process.argv[2] ?? fileURLToPath(new URL('../../ui/screenshot.png', import.meta.url));
const under = await viewer();
const chrome = await browser();
try {
  const page = await chrome.page(at(under.url, '', { theme: 'dark', lang: 'en' }));
  await ready(page);
  await page.keyboard.press('Home');
  await page.waitForTimeout(500);
  const follow = page.locator('.row.delivery', { hasText: 'Follow' });
  await ((await follow.count()) > 0 ? follow : page.locator('.row.delivery')).first().click();
  await page.locator('#panel-around').waitFor();
  await until(() => page.evaluate(() => document.fonts.status === 'loaded'), 'the fonts');
  await page.mouse.move(4, 4);
  await page.waitForTimeout(300);
  await page.screenshot({ path: file });
  if (page.wrong.length > 0) throw new Error(page.wrong.join('\n'));
} finally {
  await chrome.close();
  await under.close();
}
