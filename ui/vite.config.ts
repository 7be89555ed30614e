// How the viewer is built: one page, relative addresses (it is served under any path prefix by <base href>), content
// hashes in names and nothing that depends on the clock or the machine.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  base: './',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: { outDir: 'dist', emptyOutDir: true, target: 'es2022', cssTarget: ['chrome123', 'firefox120', 'safari17.5'], assetsInlineLimit: 0, modulePreload: { polyfill: false }, cssCodeSplit: false },
  server: { proxy: { '/api': process.env.FEDISNIFF_URL ?? 'http://127.0.0.1:4173' } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
