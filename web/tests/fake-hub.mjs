// A stand-in for the hub, for looking at the dashboard without one: REST shapes and live stream with made-up devices.
// It proves nothing about the hub. `npm run fake` [PORT] [EXTRA DEVICES] [RATE]; the token is "op_fake".
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { BRIDGES, FIELDS, STEP_MS, hasReading, makeDevices, makeStrangers, valuesAt } from './fake-data.mjs';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const kinds = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
export const TOKEN = 'op_fake';

const METHODS = [
  { name: 'ping', role: 'operator', listed: false, announced: true, taken: true },
  { name: 'wifi', description: 'Join another network.', role: 'operator', listed: true, announced: true, taken: true, params: {
    type: 'object', required: ['ssid', 'psk'],
    properties: {
      ssid: { type: 'string' }, psk: { type: 'string', minLength: 8, writeOnly: true, description: 'At least 8 characters' },
      channel: { type: 'integer', default: 6 }, band: { enum: ['2.4 GHz', '5 GHz'] }, hidden: { type: 'boolean' },
    },
  } },
];

/** Starts it on a port of 127.0.0.1 and returns {url, stop}. */
export async function startFakeHub({ port = 0, extra = 0, silence = false } = {}) {
  const startedAt = Date.now();
  const devices = new Map(makeDevices({ extra, now: startedAt }).map((d) => [d.id, d]));
  const commands = [];
  const streams = new Set();
  const strangers = makeStrangers(startedAt);
  const ignored = [];
  let versions = 1;
  let lastCommand = 0;

  const emit = (type, data, device) => {
    for (const s of streams) {
      if (s.devices.length > 0 && !s.devices.includes(device)) continue;
      if (s.kinds.length > 0 && !s.kinds.includes(type)) continue;
      s.response.write(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
    }
  };
  const timer = setInterval(() => {
    const now = Date.now();
    for (const device of devices.values()) {
      if (device.silent || silence || !device.online) continue;
      if ((Math.floor(now / 250) + device.index) % (STEP_MS / 1000) !== 0) continue;
      device.latestAt = now;
      emit('telemetry', { device: device.id, measurement: 'telemetry', readings: [{ ts: now, values: valuesAt(device.index, now) }] }, device.id);
    }
  }, 250);
  const comments = setInterval(() => streams.forEach((s) => s.response.write(': alive\n\n')), 15_000);

  const json = (response, status, body, headers = {}) => {
    response.writeHead(status, { 'Content-Type': status >= 400 ? 'application/problem+json' : 'application/json', ...headers });
    response.end(body === undefined ? '' : JSON.stringify(body));
  };
  const problem = (response, status, title, detail, reason) => json(response, status, { type: 'about:blank', title, status, detail, reason });
  const latestOf = (device) => {
    if (device.never) return undefined;
    const ts = device.silent ? startedAt - 7_200_000 : (device.latestAt ?? startedAt - 1500);
    return Object.fromEntries(Object.entries(valuesAt(device.index, ts)).map(([k, value]) => [k, { value, ts }]));
  };
  const view = (device, latest) => {
    const { index, silent, never, latestAt, ...rest } = device;
    return latest ? { ...rest, latest: latestOf(device) } : rest;
  };

  function history(response, device, q) {
    const from = Number(q.get('from'));
    const to = Math.min(Number(q.get('to')), Date.now());
    const every = Number.parseInt(q.get('every') ?? '0', 10) * 1000;
    const limit = Number(q.get('limit') ?? 1000);
    const step = every > 0 ? Math.max(every, STEP_MS) : STEP_MS;
    const readings = [];
    for (let ts = Math.ceil(from / step) * step; ts < to && !device.silent; ts += step) {
      if (hasReading(device, ts, startedAt)) readings.push({ ts, values: valuesAt(device.index, ts) });
    }
    json(response, 200, { readings: readings.slice(0, limit), next: readings.length > limit ? 'more' : '' });
  }

  function move(command, state, more = {}) {
    Object.assign(command, { state, ...more });
    command.history.push({ state, time: new Date().toISOString(), ...(more.cause ? { cause: more.cause } : {}) });
    emit('command', command, command.device);
  }

  function send(response, device, body, q) {
    const time = new Date().toISOString();
    lastCommand = Math.max(lastCommand + 1, Date.now());
    const command = {
      id: `01${lastCommand.toString(36).toUpperCase().padStart(24, '0')}`, device: device.id, method: body.method, params: body.params,
      delivery: body.delivery ?? 'at-most-once', state: 'accepted', created: time, timeout_ms: 30_000, actor: 'admin',
      history: [{ state: 'accepted', time, actor: 'admin' }],
    };
    commands.unshift(command);
    emit('command', command, device.id);
    if (!device.online) {
      move(command, 'queued', { cause: 'the device is not connected, or not yet ready' });
      return json(response, 201, command);
    }
    move(command, 'sent');
    const answer = () => {
      if (body.method === 'ping') move(command, 'done', { result: { pong: true, uptime_s: 3214 } });
      else if (body.method === 'set') move(command, 'done', { result: { state: body.params ?? {} } });
      else if (body.method === 'lost') move(command, 'unknown', { cause: 'connection lost before the answer' });
      else move(command, 'rejected', { error: { code: -32601, message: `method "${body.method}" not found` } });
      if (q.has('wait')) json(response, 201, command);
    };
    setTimeout(answer, 300);
    if (!q.has('wait')) json(response, 201, command);
  }

  function live(response, q) {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.write(': hello\n\n');
    const stream = { response, devices: q.getAll('device'), kinds: (q.get('kind') ?? '').split(',').filter(Boolean) };
    streams.add(stream);
    response.on('close', () => streams.delete(stream));
  }

  function apiCall(request, response, url, body) {
    const { pathname, searchParams: q } = url;
    if (pathname === '/api/v1/login') {
      if (body.token !== TOKEN) return problem(response, 401, 'Unauthorized', 'The token is not known.', 'bad_credentials');
      return json(response, 204, undefined, { 'Set-Cookie': 'hub_session=ok; HttpOnly; SameSite=Strict; Secure; Path=/' });
    }
    if (!(request.headers.cookie ?? '').includes('hub_session=ok')) return problem(response, 401, 'Unauthorized', 'Log in first.', 'no_credentials');
    if (pathname === '/api/v1/logout') return json(response, 204, undefined, { 'Set-Cookie': 'hub_session=; Max-Age=0; Path=/' });
    if (pathname === '/api/v1/me') return json(response, 200, { name: 'admin', role: 'admin' });
    if (pathname === '/api/v1/live') return live(response, q);
    if (pathname === '/api/v1/devices' && request.method === 'POST') {
      if (devices.has(body.id)) return problem(response, 409, 'Conflict', `A device ${body.id} exists already.`, 'device_exists');
      const device = { ...body, index: devices.size, enabled: true, online: false, silent: true, never: true, created: new Date().toISOString() };
      devices.set(body.id, device);
      setTimeout(() => {
        Object.assign(device, { online: true, transport: 'mqtt', connected_at: new Date().toISOString() });
        emit('presence', { device: device.id, online: true, transport: 'mqtt', time: device.connected_at, version: ++versions }, device.id);
      }, 2500);
      return json(response, 201, { ...view(device), token: 'dev_3q2-7wAAb0Vn1Q8m5xJk9sT4uYcR6hE2pLfGiDoZzKM' });
    }
    if (pathname === '/api/v1/devices') {
      const all = [...devices.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
      const at = Number(q.get('cursor') ?? 0);
      const limit = Number(q.get('limit') ?? 100);
      return json(response, 200, { devices: all.slice(at, at + limit).map((d) => view(d, q.has('latest'))), next: at + limit < all.length ? String(at + limit) : '' });
    }
    if (/^\/api\/v1\/(bridges|discovered|ignored-devices|device-types)/.test(pathname)) return bridgeCall(request, response, pathname, body);
    const match = /^\/api\/v1\/devices\/([^/]+)(?:\/(\w+))?$/.exec(pathname);
    const device = match && devices.get(decodeURIComponent(match[1]));
    if (!device) return problem(response, 404, 'Not found', 'There is no such device.', 'not_found');
    if (request.method === 'DELETE') return json(response, 200, { id: device.id, data: devices.delete(device.id) ? 'kept' : '' });
    if (match[2] === undefined) return json(response, 200, view(device));
    if (match[2] === 'latest') return json(response, 200, { device: device.id, values: latestOf(device) ?? {} });
    if (match[2] === 'methods') return json(response, 200, { methods: METHODS, other_methods: 'allow' });
    if (match[2] === 'state') return json(response, 200, stateOf(device, request.method === 'PATCH' ? body.desired : undefined));
    if (match[2] === 'why') return json(response, 200, whyOf(device));
    if (match[2] === 'telemetry') return history(response, device, q);
    if (match[2] === 'commands' && request.method === 'POST') return send(response, device, body, q);
    return json(response, 200, { commands: commands.filter((c) => c.device === device.id), next: '' });
  }

  function stateOf(device, patch) {
    const state = (device.state ??= { version: 1, desired: { interval: 20 }, reported: { firmware: '1.0.0', interval: 10 } });
    if (patch !== undefined) {
      Object.assign(state.desired, patch);
      state.version++;
    }
    const delta = Object.fromEntries(Object.entries(state.desired).filter(([name, value]) => state.reported[name] !== value));
    return { device: device.id, online: device.online, ...state, delta, metadata: { desired: {}, reported: {} } };
  }

  function bridgeCall(request, response, pathname, body) {
    if (pathname === '/api/v1/bridges') return json(response, 200, { bridges: BRIDGES.map(({ examples, ...bridge }) => bridge) });
    if (pathname === '/api/v1/device-types') return json(response, 200, { types: [{ name: 'room-climate' }, { name: 'tasmota' }] });
    if (pathname === '/api/v1/discovered') return json(response, 200, { devices: strangers, next: '' });
    if (pathname === '/api/v1/ignored-devices') return json(response, 200, { devices: ignored, next: '' });
    const match = /^\/api\/v1\/(bridges|discovered|ignored-devices)\/([^/]+)(\/admit)?$/.exec(pathname);
    if (!match) return problem(response, 404, 'Not found', 'There is nothing here.', 'no_such_path');
    const id = decodeURIComponent(match[2]);
    if (match[1] === 'bridges') return json(response, 200, BRIDGES.find((bridge) => bridge.name === id));
    const at = strangers.findIndex((stranger) => stranger.id === id);
    const [stranger] = at < 0 ? [] : strangers.splice(at, 1);
    if (match[1] === 'ignored-devices' && request.method === 'PUT') ignored.push({ id, by: 'admin', at: new Date().toISOString() });
    else if (match[1] === 'ignored-devices') ignored.splice(ignored.findIndex((device) => device.id === id), 1);
    else if (stranger === undefined) return problem(response, 404, 'Not found', 'No bridge has seen a device with this id.', 'not_seen');
    else devices.set(id, { id, index: devices.size, enabled: true, online: false, silent: true, never: true, type: body.type ?? stranger.type, admitted: { bridge: stranger.bridge, by: 'admin', at: new Date().toISOString() } });
    return json(response, 200, { id });
  }

  function whyOf(device) {
    const last = new Date().toISOString();
    return {
      device: device.id, online: device.online, diagnosis: [device.online ? `Online by ${device.transport}.` : 'Never connected.'],
      events: [{ kind: 'connect', reason: device.transport, remote: '127.0.0.1:40000', count: 1, first: last, last }],
    };
  }

  function page(response, pathname) {
    const headers = { 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff' };
    let path = join(dist, pathname);
    if (!path.startsWith(dist) || !existsSync(path) || !statSync(path).isFile()) path = join(dist, 'index.html');
    response.writeHead(200, { ...headers, 'Content-Type': kinds[extname(path)] ?? 'application/octet-stream' });
    createReadStream(path).pipe(response);
  }

  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://fake');
    if (!url.pathname.startsWith('/api/')) return page(response, url.pathname);
    let text = '';
    request.on('data', (piece) => (text += piece));
    request.on('end', () => apiCall(request, response, url, text === '' ? {} : JSON.parse(text)));
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    fields: Object.keys(FIELDS),
    stop: () => {
      clearInterval(timer);
      clearInterval(comments);
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const hub = await startFakeHub({ port: Number(process.argv[2] ?? 8480), extra: Number(process.argv[3] ?? 0) });
  console.log(`fake hub on ${hub.url}, token ${TOKEN}`);
}
