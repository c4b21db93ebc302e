// The WebSocket library `ws`: a reading with each connection, acknowledged by its answer; answers to commands; a new
// connection after the end of one.
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';

const { HUB_URL, HUB_CA, DEVICE, TOKEN, CONNECTIONS } = process.env;
let connections = 0;

function connect() {
  const socket = new WebSocket(`${HUB_URL.replace(/^https/, 'wss')}/connect/${DEVICE}`, ['hub.v1+json'], {
    ca: readFileSync(HUB_CA), headers: { Authorization: `Bearer ${TOKEN}` },
  });
  let last = false;
  socket.on('open', () => {
    const n = ++connections;
    socket.send(JSON.stringify({ id: n, method: 'telemetry', params: { ts: 1_700_000_000_000 + n, values: { n } } }));
  });
  socket.on('message', (data) => {
    const frame = JSON.parse(data.toString());
    if (frame.id === connections && frame.result) console.log(`acked ${connections}`);
    if (frame.method !== 'ping') return;
    last = connections === Number(CONNECTIONS);
    socket.send(JSON.stringify({ id: frame.id, result: { from: 'ws', connection: connections } }));
    console.log(`answered ${connections}`);
    if (last) socket.close();
  });
  socket.on('error', (error) => console.error(String(error)));
  socket.on('close', () => last || setTimeout(connect, 300));
}
connect();
