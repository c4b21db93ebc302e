// A page in Chromium with the browser's own WebSocket, which can set no header: the token is in the URL. A reading with
// each connection, acknowledged by its answer; answers to commands; a new connection after the end of one.
import { findChromium, openBrowser } from '../../../../web/tests/browser.mjs';

const { HUB_URL, DEVICE, TOKEN, CONNECTIONS } = process.env;

function device([url, connectionsWanted]) {
  let connections = 0;
  function connect() {
    const socket = new WebSocket(url, ['hub.v1+json']);
    let last = false;
    socket.onopen = () => {
      const n = ++connections;
      socket.send(JSON.stringify({ id: n, method: 'telemetry', params: { ts: 1_700_000_000_000 + n, values: { n } } }));
    };
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.id === connections && frame.result) console.log(`acked ${connections}`);
      if (frame.method !== 'ping') return;
      last = connections === connectionsWanted;
      socket.send(JSON.stringify({ id: frame.id, result: { from: 'a browser', connection: connections } }));
      console.log(`answered ${connections}`);
      if (last) socket.close();
    };
    socket.onclose = () => (last ? console.log('done') : setTimeout(connect, 300));
  }
  connect();
}

const browser = await openBrowser(findChromium());
// The browser does not know the hub's own authority.
const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
const done = new Promise((resolve) => {
  page.on('console', (message) => {
    if (message.type() === 'log') console.log(message.text());
    if (message.text() === 'done') resolve();
  });
});
await page.evaluate(device, [`${HUB_URL.replace(/^https/, 'wss')}/connect/${DEVICE}?token=${TOKEN}`, Number(CONNECTIONS)]);
await done;
await browser.close();
