// What the browser tests share: a real Chromium, steps with names, and a watch on everything the page complains about.
import { createRequire } from 'node:module';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const PLACES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export function findChromium() {
  return PLACES.find((place) => place && existsSync(place));
}

export async function openBrowser(executablePath) {
  return chromium.launch({ executablePath, args: ARGS });
}

/** A context of its own and a page in it; complaints collects errors of script and violations of the content policy. */
export async function openPage(browser, options, complaints) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: 'en-GB', viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(Number(process.env.STEP_TIMEOUT_MS ?? 20_000));
  page.on('pageerror', (error) => complaints.push(`script error: ${error.message}`));
  page.on('dialog', (dialog) => {
    complaints.push(`a dialog opened: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    // Refused logins and cut connections are part of the walk, and the browser itself reports them.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) complaints.push(message.text());
  });
  return { context, page };
}

export async function step(name, work) {
  const started = Date.now();
  try {
    await work();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
  console.log(`ok   ${name} (${Date.now() - started} ms)`);
}

export function check(condition, message) {
  if (!condition) throw new Error(message);
}

/** Waits until probe() is true; says what it saw last when it never is. */
export async function until(what, probe, timeoutMs = 20_000) {
  const end = Date.now() + timeoutMs;
  let seen;
  for (;;) {
    const answer = await probe();
    if (answer === true) return;
    seen = answer;
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs / 1000} s, last seen ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export async function shoot(page, name, options = {}) {
  const dir = process.env.SCREENSHOT_DIR;
  if (!dir) return;
  mkdirSync(dir, { recursive: true });
  await page.screenshot({ path: join(dir, `${name}.png`), ...options });
}

/** Faults that axe-core calls serious or critical. evaluate() is not bound by the page's content policy. */
export async function wantAccessible(page, where) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] });
    return violations
      .filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(' ')} (${n.any[0]?.message ?? ''})`).join('; ')}`);
  });
  check(found.length === 0, `${where} has faults for those who cannot see or point:\n  ${found.join('\n  ')}`);
}

export async function wantNoSideScroll(page, where) {
  const [wide, visible] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  check(wide <= visible, `${where} is ${wide} px wide on a screen of ${visible} px`);
}

/** Pixels of the first chart's canvas that bear the line's colour or its fill, so more than axes and grid. */
export async function colouredPixels(page, field) {
  return page.evaluate((name) => {
    const canvas = document.querySelector(`[data-testid="chart"][data-field="${CSS.escape(name)}"] canvas`);
    if (!canvas) return 0;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
      const spread = Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]);
      if (data[i + 3] > 200 && spread > 60) count++; // grey is axis and grid; a line has a hue
    }
    return count;
  }, field);
}
