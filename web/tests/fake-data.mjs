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
