// Made-up devices for the fake hub: waves with a little noise, a gap in one, an offline one, and names that try to be markup.
export const FIELDS = {
  Temp: { base: 21, swing: 1.6, period: 3_600_000, digits: 2 },
  RelH: { base: 42, swing: 6, period: 5_400_000, digits: 3 },
  L1: { base: 190, swing: 26, period: 2_400_000, digits: 2 },
  L2: { base: 560, swing: 80, period: 1_800_000, digits: 1 },
};
export const NODES = ['A-1', 'A-2', 'A-3', 'A-4', 'B-1', 'B-2', 'B-3', 'C-1', 'C-2', 'C-3', 'C-4', 'C-5'];
export const STEP_MS = 4_000;

export function valuesAt(index, ts) {
  const values = {};
  let f = 0;
  for (const [name, { base, swing, period, digits }] of Object.entries(FIELDS)) {
    const phase = index * 1.3 + f++;
    const noise = Math.sin(ts / 7919 + index * 17 + f) * 0.04;
    values[name] = Number((base + swing * (Math.sin((ts / period) * 2 * Math.PI + phase) + noise)).toFixed(digits));
  }
  return { ...values, Occ: Math.floor(ts / 1_200_000 + index) % 3, Act: Math.floor(ts / 600_000 + index) % 5, Door: Math.floor(ts / 900_000 + index) % 2, Win: 0 };
}

/** B-2 was away from 25 to 40 minutes before the hub started. */
export function hasReading(device, ts, startedAt) {
  const before = startedAt - ts;
  return !(device.id === 'B-2' && before > 25 * 60_000 && before < 40 * 60_000);
}

export function makeDevices({ extra = 0, now }) {
  const devices = NODES.map((id, index) => ({
    id, index, type: 'room-climate', tags: [`location ${id[0]}`], attributes: { room: id[0] }, enabled: true,
    created: new Date(now - 86_400_000 * 3).toISOString(), online: true, transport: index % 4 === 3 ? 'mqtt' : 'wss',
    remote: `192.0.2.${index + 10}:5${1000 + index}`, connected_at: new Date(now - 1000 * (index * 421 + 60)).toISOString(),
    last_seen: new Date(now).toISOString(), disconnected_at: new Date(now - 7_200_000).toISOString(), cause: 'hub restarted',
    firmware: '1.4.2', model: 'iMote2', clock_offset_ms: -1500, silent: false,
  }));
  if (extra > 0) {
    devices.push(
      { ...devices[0], id: 'cellar:pump.7', index: 12, type: '<img src=x onerror=alert(1)>', tags: ['"><script>alert(1)</script>'], online: false, transport: 'wss', silent: true, cause: 'no pong', attributes: {} },
      { ...devices[0], id: 'new-device', index: 13, type: '', tags: [], online: false, silent: true, never: true, attributes: {}, connected_at: undefined, disconnected_at: undefined, last_seen: undefined, cause: undefined, transport: '' },
    );
    for (let i = devices.length; i < NODES.length + extra; i++) {
      devices.push({ ...devices[i % 12], id: `dev-${String(i).padStart(5, '0')}`, index: i, type: 'synthetic', tags: [`rack ${i % 40}`], attributes: {} });
    }
  }
  return devices;
}

const FIGURES = { received: 0, stored: 0, unmapped: 0, refused: {}, redelivered: 0, commands: 0, reconnects: 0, devices: 0, in_flight: 0, per_second: 0, lag_ms: 0, ack_ms: { p50: 0, p99: 0, max: 0 } };

export const BRIDGES = [
  { ...FIGURES, name: 'embedded', kind: 'embedded', address: 'mqtts://[::]:8883', connected: true, since: '2026-11-25T08:00:00Z', received: 41_512, devices: 4 },
  {
    ...FIGURES, name: 'home', kind: 'external', address: 'mqtt://broker.lan:1883', connected: true, since: '2026-11-25T08:00:02Z', received: 120_412, stored: 118_030, per_second: 42.3,
    refused: { unmapped: 310, unknown_device: 12, bad_json: 2 }, unmapped: 310, redelivered: 4, commands: 25, reconnects: 1, devices: 37, in_flight: 3, lag_ms: 4, ack_ms: { p50: 2.4, p99: 18, max: 240 },
    last_failure: 'connection lost: EOF',
    examples: [
      { time: '2026-11-25T09:00:00Z', topic: 'attic/thing/state', payload: '{"on":true,"t":21.5}', size: 20, reason: 'unmapped', message: 'no map is for the topic' },
      { time: '2026-11-25T08:59:00Z', topic: 'tele/plug-7/SENSOR', payload: '<img src=x onerror="alert(1)">', size: 30, device: 'plug-7', reason: 'bad_json', message: 'not JSON at byte 0' },
      { time: '2026-11-25T08:58:00Z', topic: 'cam/door', payload_base64: '/9j/4AAQ', size: 48_211, reason: 'unmapped', message: 'no map is for the topic' },
    ],
  },
  { ...FIGURES, name: 'plant', kind: 'external', address: 'mqtts://10.0.0.7:8883', connected: false, since: '2026-11-25T08:30:00Z', failure: 'connect: the broker refuses the hub: not authorized', reconnects: 3 },
];

export function makeStrangers(now) {
  const seen = (id, more) => ({ id, bridge: 'home', topic: `devices/${id}/telemetry`, size: (more.payload ?? '').length, first: new Date(now - 600_000).toISOString(), last: new Date(now - 3000).toISOString(), count: 12, ...more });
  return [
    seen('stranger-1', { payload: '<img src=x onerror="alert(1)">', count: 1 }),
    seen('stranger-2', { topic: 'zigbee2mqtt/Desk lamp', payload: '{"state":"ON","brightness":254,"linkquality":120,"color":{"x":0.45,"y":0.41},"color_mode":"xy","update":{"state":"idle"}}', type: 'light', name: 'Desk lamp', model: 'LED1623G12', firmware: '2.3.093', announced: true }),
    seen('tasmota-9', { topic: 'tele/tasmota-9/STATE', payload_base64: '/wA=', size: 2, held: 'the rule home/tasmota-* has all of its 200 devices' }),
  ];
}
