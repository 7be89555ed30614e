// The hash of what `dist/` is built from, kept beside it in `dist.sha256`: a change of the sources without a new build
// is found by `npm run check` and by whoever computes the same. It is the SHA-256 of the lines that `sha256sum` prints
// for the files below, sorted by path.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const files = ['index.html', 'package-lock.json', 'package.json', 'tsconfig.json', 'vite.config.ts'];
for (const entry of readdirSync(`${root}src`, { recursive: true, withFileTypes: true }))
  if (entry.isFile() && !entry.name.endsWith('.test.ts')) files.push(`${entry.parentPath ?? entry.path}/${entry.name}`.slice(root.length));
const hash = sha256(files.sort().map((file) => `${sha256(readFileSync(root + file))}  ${file}\n`).join(''));

if (process.argv[2] === '--write') writeFileSync(`${root}dist.sha256`, `${hash}\n`);
else if (readFileSync(`${root}dist.sha256`, 'utf8').trim() !== hash) {
  console.error('ui/dist is not built from these sources: run npm run build');
  process.exit(1);
}
