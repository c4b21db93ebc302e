// Walks the dashboard of a running hub in a real Chromium. The hub has simulated devices that send and answer commands.
//
//   HUB_URL          https://127.0.0.1:8443
//   HUB_TOKEN        an operator's token that may do everything
//   HUB_DEVICES      how many devices are there and online (12)
//   HUB_DEVICE       the one to open; it answers ping and refuses what it does not know
//   HUB_BRIDGE       a bridge that is connected, on which two strangers, and a topic that nothing is known of, were seen; none without it
//   HUB_STRANGERS    their ids (stranger-1,stranger-2); the payload of the first is markup
//   SCREENSHOT_DIR   where pictures go; none without it
//   CHROMIUM         the browser, if it is in no usual place
//   STEP_TIMEOUT_MS  patience of each wait (20000)
//
// Exit status: 0 all steps passed, 1 a step failed, 77 no Chromium here (1 with CI=true).
import {
  check, colouredPixels, findChromium, openBrowser, openPage, shoot, step, until, wantAccessible, wantNoSideScroll,
} from './browser.mjs';

const { HUB_URL: hub, HUB_TOKEN: token, HUB_DEVICES: count = '12', HUB_DEVICE: device = 'A-1' } = process.env;
const devices = Number(count);
const { HUB_BRIDGE: bridge, HUB_STRANGERS: strangers = 'stranger-1,stranger-2' } = process.env;
const NEW_DEVICE = 'browser-test:1';
const MARKUP = '<img src=x onerror="alert(1)">';
const LIVE_PATIENCE_MS = 60_000; // real nodes report every few seconds

if (!hub || !token) {
  console.error('HUB_URL and HUB_TOKEN name the hub to test; see the head of this file');
  process.exit(1);
}
const executable = findChromium();
if (!executable) {
  console.error('no Chromium found: apt-get install chromium, or name one by CHROMIUM');
  process.exit(process.env.CI === 'true' ? 1 : 77);
}

const complaints = [];
const browser = await openBrowser(executable);
const { context, page } = await openPage(browser, { colorScheme: 'light' }, complaints);
const id = (name) => page.getByTestId(name);
const text = async (locator) => (await locator.textContent())?.trim() ?? '';

async function login() {
  await page.goto(hub);
  await id('login').waitFor();
  await page.locator('#token').fill('op_this-is-no-token');
  await page.keyboard.press('Enter');
  await id('login-error').waitFor();
  check((await text(id('login-error'))).includes('DATA/admin.token'), 'the refusal says where the token is');
  await wantAccessible(page, 'the login page');
  await shoot(page, 'login');
  await page.locator('#token').fill(token);
  await page.keyboard.press('Enter');
  await id('count-all').waitFor();
}

async function listShowsAll() {
  await until('all devices listed and online', async () => {
    const seen = [await text(id('count-all')), (await text(id('count-online'))).split('/')[0].trim()];
    return seen.every((n) => n === String(devices)) || seen;
  });
  if (devices <= 12) {
    const rows = page.locator('[data-testid="device-row"]:has([data-online="true"])');
    await until('a row each', async () => (await rows.count()) === devices || (await rows.count()));
  }
  await until('live', async () => (await id('live-status').getAttribute('data-status')) === 'live');
}

async function valuesChange() {
  const values = () => id('row-values').allTextContents();
  const first = await values();
  check(first.some((line) => /\d/.test(line)), `rows show values: ${first[0]}`);
  await until('a value changes by itself', async () => (await values()).some((line, i) => line !== first[i]), LIVE_PATIENCE_MS);
  await until('readings a second', async () => Number(await text(id('rate'))) > 0 || (await text(id('rate'))), LIVE_PATIENCE_MS);
  check(/\d/.test((await id('row-age').allTextContents()).join('')), 'rows show ages');
}

async function search() {
  await id('search').fill(device);
  await until('one row for the search', async () => (await id('device-row').count()) === 1 || (await id('device-row').count()));
  await id('search').fill('no such device anywhere');
  await until('no row', async () => (await id('device-row').count()) === 0);
  await id('search').fill('');
  await id('device-row').nth(1).waitFor();
}

async function keyboardMoves() {
  await id('device-row').first().focus();
  await page.keyboard.press('ArrowDown');
  await until('the second row has the focus', () => page.evaluate(() => document.activeElement?.getAttribute('data-index') === '1'));
  await page.keyboard.press('End');
  await until('the last row has the focus', () => page.evaluate((last) => document.activeElement?.getAttribute('data-index') === last, String(devices - 1)));
  await page.keyboard.press('Home');
  await until('the first row has the focus', () => page.evaluate(() => document.activeElement?.getAttribute('data-index') === '0'));
}

async function openDevice() {
  await page.locator(`[data-device="${device}"]`).click();
  await page.locator('h1', { hasText: device }).waitFor();
  await id('facts').waitFor();
  await id('latest').waitFor();
  await until('the address names the device', () => page.evaluate((d) => location.pathname === `/devices/${d}`, encodeURIComponent(device)));
}

async function chartDraws() {
  const chart = id('chart').first();
  await chart.waitFor({ timeout: LIVE_PATIENCE_MS });
  const field = await chart.getAttribute('data-field');
  const drawn = async () => Number(await chart.getAttribute('data-points'));
  for (const range of ['15m', '24h', '1h']) {
    await id(`range-${range}`).click();
    await until(`points of ${range}`, async () => ((await id('history').getAttribute('data-state')) === 'ready' && (await drawn()) > 1) || (await drawn()));
    check((await drawn()) <= 2048, `${range} draws ${await drawn()} points`);
  }
  await until('a line on the canvas', async () => (await colouredPixels(page, field)) > 100 || (await colouredPixels(page, field)));
}

async function latestChanges() {
  const latest = () => page.locator('[data-testid="latest"] .value').allTextContents();
  const before = await latest();
  check(before.length > 0, 'the device has latest values');
  await until('a latest value changes', async () => (await latest()).join() !== before.join(), LIVE_PATIENCE_MS);
}

async function badParamsStay() {
  let posted = 0;
  const watch = (request) => request.method() === 'POST' && posted++;
  page.on('request', watch);
  await page.locator('#method').fill('set');
  await page.locator('#params').fill('{"interval_s": }');
  await id('send').click();
  await id('params-error').waitFor();
  await page.locator('#params').fill('5');
  await until('a bare number is refused', async () => (await text(id('params-error'))).includes('{'));
  await id('send').click();
  page.off('request', watch);
  check(posted === 0, 'nothing is sent with bad parameters');
  await page.locator('#params').fill('');
}

async function sendAndSee(method, state, show) {
  const known = await id('command').evaluateAll((all) => all.map((c) => c.dataset.command));
  await page.locator('#method').fill(method);
  await id('send').click();
  let mine;
  await until(`${method} ends as ${state}`, async () => {
    const all = await id('command').evaluateAll((list) => list.map((c) => [c.dataset.command, c.dataset.state]));
    mine = all.find(([command]) => !known.includes(command));
    return mine?.[1] === state || (mine ?? 'nothing');
  }, 40_000);
  const card = page.locator(`[data-command="${mine[0]}"]`);
  check((await text(card.getByTestId(show))) !== '', `${method} shows its ${show}`);
  check((await card.locator('[data-testid="story"] li').count()) >= 2, `${method} shows its story`);
}

/** The hub has a method "tune" for this device, whose schema wants watts up to 11. */
async function formOfSchema() {
  await page.locator('#method').fill('tune');
  await id('param-fields').waitFor();
  check((await text(id('method-about'))).includes('Tune'), 'the method is described');
  check((await page.locator('#param-psk').getAttribute('type')) === 'password', 'a secret is not shown while it is typed');
  await page.locator('#param-watts').fill('12');
  await id('send').click();
  await until('each fault stands at its field', async () => {
    const faults = await id('param-fault').allTextContents();
    return (faults.length === 2 && faults[0].includes('11') && faults[1].includes('missing')) || faults.join('; ');
  });
  await shoot(page, 'command-form');
  await page.locator('#param-watts').fill('7');
  await page.locator('#param-psk').fill('hunter2-swordfish');
  await page.locator('#param-mode').selectOption({ label: 'fast' });
  await id('send').click();
  await until('the command is shown without its secret', async () => {
    const all = await id('command').allTextContents();
    return all.some((c) => c.includes('tune')) || all.length;
  });
  check(!(await page.content()).includes('swordfish'), 'the secret is nowhere on the page');
  check((await id('param-fault').count()) === 0, 'no fault is left');
}

async function tellsWhy() {
  await until('a diagnosis', async () => (await text(id('diagnosis'))).includes('Online by') || (await text(id('diagnosis'))));
  const events = page.locator('[data-testid="why-events"] [data-kind="connect"]');
  await until('its connection is told', async () => (await events.count()) > 0);
}

async function disconnectIsSaid() {
  await context.setOffline(true);
  await id('live-banner').waitFor({ timeout: 60_000 });
  check((await id('live-status').getAttribute('data-status')) !== 'live', 'the status is not live without a connection');
  await shoot(page, 'disconnected');
  await context.setOffline(false);
  await until('live again', async () => (await id('live-status').getAttribute('data-status')) === 'live', 40_000);
  await until('no banner', async () => (await id('live-banner').count()) === 0);
}

// A page's type and tags come from whoever made the device: they must stay text.
async function addDevice() {
  await removeDevice(); // a walk that failed may have left it
  await id('back').click();
  await id('add-device').click();
  await page.locator('#add-id').fill('not an id');
  await page.keyboard.press('Enter');
  await page.locator('#add-id[aria-invalid="true"]').waitFor();
  await page.locator('#add-id').fill(NEW_DEVICE);
  await page.locator('#add-type').fill(MARKUP);
  await page.locator('#add-tags').fill(`${MARKUP}, second`);
  await page.keyboard.press('Enter');
  await id('new-token').waitFor();
  const secret = await text(id('new-token'));
  check(secret.length > 20 && (await text(id('snippet'))).includes(secret), 'the token is shown, and in the line to paste');
  await wantAccessible(page, 'the new device');
  await shoot(page, 'device-added');
  await page.keyboard.press('Escape');
  await id('add-dialog').waitFor({ state: 'detached' });
  await page.locator(`[data-device="${NEW_DEVICE}"]`).waitFor();
  check((await page.content()).includes(secret) === false, 'the token is gone with the dialog');
  await page.locator(`[data-device="${NEW_DEVICE}"]`).click();
  await id('facts').waitFor();
  check((await page.locator('img').count()) === 0, 'markup in names stays text');
  await removeDevice();
}

async function removeDevice(gone = NEW_DEVICE) {
  await page.evaluate((path) => fetch(path, { method: 'DELETE' }), `/api/v1/devices/${encodeURIComponent(gone)}`);
}

async function bridgesFare() {
  await page.getByRole('link', { name: 'Bridges' }).click();
  const state = (name) => page.locator(`[data-bridge="${name}"] [data-testid="bridge-state"]`);
  await state(bridge).waitFor();
  await until('the bridge is connected', async () => (await state(bridge).getAttribute('data-state')) === 'connected');
  check((await state('embedded').getAttribute('data-state')) === 'serves', 'the embedded broker serves');
  const card = page.locator(`[data-bridge="${bridge}"]`);
  await until('it has received some', async () => /[1-9]/.test(await text(card.locator('[data-figure="received"] dd'))));
  await card.locator('summary').focus();
  await page.keyboard.press('Enter');
  await card.getByTestId('example').first().waitFor();
  check((await card.getByTestId('example').allTextContents()).some((e) => e.includes('attic')), 'a refused message is shown');
  await wantAccessible(page, 'the bridges');
}

async function strangersComeIn() {
  const [first, second] = strangers.split(',');
  await removeDevice(first); // a walk that failed may have left it
  await page.getByRole('link', { name: 'Discovered' }).click();
  const row = (name) => page.locator(`[data-testid="discovered-row"][data-device="${name}"]`);
  await row(first).waitFor();
  await row(second).waitFor();
  check((await text(row(first))).includes(MARKUP) && (await page.locator('img').count()) === 0, 'a payload with markup is shown, and stays text');
  await wantAccessible(page, 'the discovered devices');
  await shoot(page, 'discovered');
  await id('discovered-search').fill(first);
  await until('one row for the search', async () => (await id('discovered-row').count()) === 1 || (await id('discovered-row').count()));
  await id('discovered-search').fill('');
  await row(second).getByTestId('ignore').click();
  await row(second).waitFor({ state: 'detached' });
  await until('it is said', async () => (await text(id('discovered-said'))).includes(second) || (await text(id('discovered-said'))));
  await id('ignored').locator('summary').click();
  await page.locator(`[data-ignored="${second}"] button`).click();
  await page.locator(`[data-ignored="${second}"]`).waitFor({ state: 'detached' });
  await row(first).getByTestId('admit-type').fill('lamp');
  await page.keyboard.press('Enter');
  await row(first).waitFor({ state: 'detached' });
  await page.goto(`${hub}/devices/${encodeURIComponent(first)}`);
  await until('it is a device of that type', async () => {
    const facts = await text(id('facts'));
    return (facts.includes('lamp') && facts.includes(`seen on bridge ${bridge}`)) || facts;
  });
  await removeDevice(first);
  await page.goto(hub);
}

async function pictures() {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(hub);
    await listShowsLive();
    await wantAccessible(page, `the list, ${scheme}`);
    await shoot(page, `devices-${scheme}`);
    await page.goto(`${hub}/devices/${encodeURIComponent(device)}`);
    await id('chart').first().waitFor();
    await wantAccessible(page, `the device, ${scheme}`);
    await shoot(page, `device-${scheme}`, { fullPage: true });
    for (const name of ['bridges', 'discovered']) {
      await page.goto(`${hub}/${name}`);
      await page.getByTestId(name === 'bridges' ? 'bridges' : 'discovered-search').waitFor();
      await wantAccessible(page, `${name}, ${scheme}`);
      await shoot(page, `${name}-${scheme}`, { fullPage: true });
    }
  }
  await page.goto(`${hub}/devices/${encodeURIComponent(device)}`);
  await id('chart').first().waitFor();
  await page.getByTestId('language').click();
  await until('Chinese', () => page.evaluate(() => document.documentElement.lang === 'zh-CN'));
  await shoot(page, 'device-zh', { fullPage: true });
  await page.goto(hub);
  await listShowsLive();
  await shoot(page, 'devices-zh');
  await page.getByTestId('language').click();
}

async function listShowsLive() {
  await id('device-row').first().waitFor();
  await until('live', async () => (await id('live-status').getAttribute('data-status')) === 'live');
  await until('a rate', async () => /\d/.test(await text(id('rate'))));
}

async function phone() {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto(hub);
  await listShowsLive();
  await wantNoSideScroll(page, 'the list');
  await shoot(page, 'devices-phone');
  await page.goto(`${hub}/devices/${encodeURIComponent(device)}`);
  await id('chart').first().waitFor();
  await wantNoSideScroll(page, 'the device');
  await wantAccessible(page, 'the device on a phone');
  await shoot(page, 'device-phone', { fullPage: true });
  for (const name of ['bridges', 'discovered']) {
    await page.goto(`${hub}/${name}`);
    await page.getByTestId(name === 'bridges' ? 'bridges' : 'discovered-search').waitFor();
    await wantNoSideScroll(page, name);
    await shoot(page, `${name}-phone`, { fullPage: true });
  }
}

async function logout() {
  await id('logout').click();
  await id('login').waitFor();
  const status = await page.evaluate(async () => (await fetch('/api/v1/me')).status);
  check(status === 401, `after logging out the hub still answers ${status}`);
}

try {
  await step('a wrong token is refused with a reason, the right one logs in', login);
  await step('every device is listed and online', listShowsAll);
  await step('values change live', valuesChange);
  await step('search finds', search);
  await step('the list moves by keys', keyboardMoves);
  await step('a device opens', openDevice);
  await step('its chart has points in each range', chartDraws);
  await step('its latest values change live', latestChanges);
  await step('it tells why the device is as it is', tellsWhy);
  await step('bad parameters are refused before sending', badParamsStay);
  await step('ping is done and shows its answer', () => sendAndSee('ping', 'done', 'answer'));
  if (process.env.HUB_FORM) await step('a form is made of the schema of a method', formOfSchema);
  await step('an unknown method is rejected and says why', () => sendAndSee('no-such-method', 'rejected', 'command-error'));
  await step('a lost stream is said and mended', disconnectIsSaid);
  await step('a device is added, its token shown once, its markup stays text', addDevice);
  if (bridge) await step('bridges say how they fare, and show what they refused', bridgesFare);
  if (bridge) await step('a stranger is ignored, noticed again, and one admitted', strangersComeIn);
  await step('light, dark, Chinese', pictures);
  await step('a phone', phone);
  await step('logging out', logout);
  check(complaints.length === 0, `the page complained:\n  ${[...new Set(complaints)].join('\n  ')}`);
  console.log('the dashboard passed');
} catch (error) {
  console.error(`FAIL ${error.message}`);
  for (const line of new Set(complaints)) console.error(`     the page complained: ${line}`);
  await shoot(page, 'failure').catch(() => {});
  process.exitCode = 1;
} finally {
  await browser.close();
}
