// MQTT.js over wss: a reading with each connection, acknowledged by PUBACK; answers to commands; reconnects by itself.
import { readFileSync } from 'node:fs';
import mqtt from 'mqtt';

const { HUB_URL, HUB_CA, DEVICE, TOKEN, MQTT_VERSION, CONNECTIONS } = process.env;
const client = mqtt.connect(`${HUB_URL.replace(/^https/, 'wss')}/mqtt`, {
  ca: readFileSync(HUB_CA), protocolVersion: Number(MQTT_VERSION), clientId: `${DEVICE}-client`, username: DEVICE, password: TOKEN,
  reconnectPeriod: 300, clean: true, resubscribe: false,
});
const topic = (about) => `devices/${DEVICE}/${about}`;
let connections = 0;

client.on('connect', async () => {
  const n = ++connections;
  await client.subscribeAsync(topic('command'), { qos: 1 });
  await client.publishAsync(topic('telemetry'), JSON.stringify({ ts: 1_700_000_000_000 + n, values: { n } }), { qos: 1 });
  console.log(`acked ${n}`);
});
client.on('message', async (_, payload) => {
  const command = JSON.parse(payload.toString());
  const last = connections === Number(CONNECTIONS);
  await client.publishAsync(topic('response'), JSON.stringify({ id: command.id, result: { from: 'MQTT.js', connection: connections } }), { qos: 1 });
  console.log(`answered ${connections}`);
  if (last) client.end();
});
client.on('error', (error) => console.error(String(error)));
