// Writes a .gz beside each text file of dist/ that gains from it, and prints the weight of the page as a browser
// loads it. The Go handler serves the .gz as it is. Fails above the budget, so that weight is noticed when it is added.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const BUDGET_BYTES = 250 * 1024;
const COMPRESSIBLE = /\.(?:html|js|css|svg|json|txt|webmanifest)$/;
const dist = fileURLToPath(new URL('../dist/', import.meta.url));

function* filesUnder(dir) {
  for (const name of readdirSync(dir).sort()) {
    const path = join(dir, name);
    if (statSync(path).isDirectory()) yield* filesUnder(path);
    else if (!name.startsWith('.') && !name.endsWith('.gz')) yield path;
  }
}

let total = 0;
for (const path of filesUnder(dist)) {
  const plain = readFileSync(path);
  let sent = plain.length;
  if (COMPRESSIBLE.test(path)) {
    const packed = gzipSync(plain, { level: 9 });
    if (packed.length < plain.length) {
      writeFileSync(`${path}.gz`, packed);
      sent = packed.length;
    }
  }
  total += sent;
  console.log(`${(sent / 1024).toFixed(1).padStart(8)} KB  ${relative(dist, path)}`);
}
console.log(`${(total / 1024).toFixed(1).padStart(8)} KB  page weight, gzip (budget ${BUDGET_BYTES / 1024} KB)`);
if (total > BUDGET_BYTES) {
  console.error('the dashboard is heavier than its budget');
  process.exit(1);
}
