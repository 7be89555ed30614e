// What the browser tests share: Debian's Chromium driven by playwright-core, pages that collect their own errors and
// every request that leaves the origin, and the viewer under test.
//
// The viewer: FEDISNIFF_URL when it runs already; else FEDISNIFF_BIN reading FEDISNIFF_CAPTURE; else the mock.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { start } from './mock.mjs';

const require = createRequire(new URL('../../ui/package.json', import.meta.url));
const { chromium } = require('playwright-core');
export const axeSource = require.resolve('axe-core/axe.min.js');

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A browser with nothing in it. */
export async function browser() {
  const profile = mkdtempSync(join(tmpdir(), 'fedisniff-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS,
    viewport: { width: 1440, height: 900 },
    locale: 'en-US',
    timezoneId: 'UTC',
    colorScheme: 'dark',
  });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  return {
    /** A page that fails the test when it logs an error or asks anything of another origin. */
    async page(url, options = {}) {
      const page = await context.newPage();
      if (options.viewport) await page.setViewportSize(options.viewport);
      if (options.media) await page.emulateMedia(options.media);
      const wrong = [];
      const allowed = options.allow ?? [];
      page.on('pageerror', (error) => wrong.push(`page error: ${error.message}`));
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type()) && !allowed.some((pattern) => pattern.test(message.text()))) wrong.push(`console: ${message.text()}`);
      });
      const origin = new URL(url).origin;
      page.on('request', (request) => {
        if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) wrong.push(`left the origin: ${request.url()}`);
      });
      page.wrong = wrong;
      await page.goto(url);
      return page;
    },
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** The viewer under test: `{ url, real, close }`. */
export async function viewer() {
  if (process.env.FEDISNIFF_URL) return { url: process.env.FEDISNIFF_URL, real: true, close: async () => {} };
  if (process.env.FEDISNIFF_BIN) return run(process.env.FEDISNIFF_BIN, process.env.FEDISNIFF_CAPTURE);
  const mock = await start();
  return { ...mock, real: false };
}

async function run(binary, capture) {
  if (!capture) throw new Error('FEDISNIFF_CAPTURE must name a capture');
  const folder = mkdtempSync(join(tmpdir(), 'fedisniff-store-'));
  const child = spawn(binary, ['read', capture, '--store', join(folder, 'test.redb'), '--serve', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const url = await new Promise((ok, fail) => {
    const timer = setTimeout(() => fail(new Error(`no address after 20 s; it said:\n${said}`)), 20_000);
    const hear = (chunk) => {
      said += chunk;
      const found = /http:\/\/(?:127\.0\.0\.1|localhost|\[::1\]):\d+\/\S*/.exec(said);
      if (!found) return;
      clearTimeout(timer);
      ok(found[0]);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('exit', (code) => fail(new Error(`fedisniff ended with ${code}; it said:\n${said}`)));
  });
  return {
    url: url.endsWith('/') || url.includes('?') ? url : `${url}/`,
    real: true,
    close: async () => {
      child.removeAllListeners('exit');
      child.kill('SIGTERM');
      await new Promise((ok) => child.on('exit', ok));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Waits until `check` gives something true. */
export async function until(check, what, ms = 8000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((ok) => setTimeout(ok, 40));
  }
}

export const rows = (page) => page.locator('.row');
/** The page with its list drawn. */
export const ready = (page) => page.locator('.row').first().waitFor();
/** Adds a path and a query to the viewer's address. */
export function at(url, path = '', query = {}) {
  const made = new URL(path, url);
  for (const [name, value] of Object.entries(query)) made.searchParams.set(name, value);
  return made.href;
}
