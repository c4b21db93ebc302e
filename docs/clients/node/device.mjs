// A complete device for the hub in Node 18 or later: npm install ws
//
//     HUB=wss://hub.example:8443 CA=ca.pem DEVICE=node-01 TOKEN_FILE=node-01.token node device.mjs
//
// Put your sensor into measure(), your commands into commands. What it does beside: docs/devices.md.
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import WebSocket from 'ws';

const QUEUE = 10_000; // readings that are kept until they are acked; then the oldest is dropped
const FLIGHT = 500; // readings sent ahead of the acks
const BATCH = 50; // readings a frame
const PAUSE = 1000, LONGEST = 60_000; // ms between two attempts to connect

export class Device {
  // A new numbering with each start, as the queue is in memory.
  boot = randomBytes(8).toString('base64url');
  seq = 0;
  queue = [];
  acked = 0;
  sent = 0;
  dropped = 0;
  #answers = new Map(); // of the last commands, by id: a command that comes again is not run again
  #attempt = 0;

  constructor({ hub, device, tokenFile, ca, commands }) {
    Object.assign(this, { url: `${hub}/connect/${device}`, tokenFile, ca: ca && readFileSync(ca), commands });
  }

  /** Queues a reading. It is safe once acked has reached the number that is returned. */
  record(values, ts = Date.now()) {
    if (this.queue.length === QUEUE) {
      this.queue.shift();
      this.dropped++;
    }
    this.queue.push({ seq: ++this.seq, reading: { ts, values } });
    this.#send();
    return this.seq;
  }

  connect() {
    const headers = { Authorization: `Bearer ${readFileSync(this.tokenFile, 'utf8').trim()}` };
    const ws = new WebSocket(this.url, ['hub.v1+json'], { ca: this.ca, headers, handshakeTimeout: 20_000, maxPayload: 1 << 20 });
    let keepalive = 45, alive, wait;
    // The hub pings what is silent: nothing for two intervals is a dead connection.
    const touch = () => {
      clearTimeout(alive);
      alive = setTimeout(() => ws.terminate(), 2000 * keepalive);
    };
    ws.on('unexpected-response', (request, response) => {
      if ([401, 403].includes(response.statusCode)) wait = LONGEST; // nothing will change soon
      if ([429, 503].includes(response.statusCode)) wait = 1000 * Number(response.headers['retry-after'] ?? 1);
      console.error('refused:', response.statusCode);
      request.destroy();
    });
    ws.on('open', () => {
      touch();
      const params = { boot: this.boot, time: Date.now(), firmware: '1.0', model: 'node', methods: Object.keys(this.commands) };
      ws.send(JSON.stringify({ id: 'hello', method: 'hello', params }));
    });
    ws.on('ping', touch);
    ws.on('message', async (data) => {
      touch();
      const frame = JSON.parse(data);
      if (frame.id === 'hello' && frame.result) {
        keepalive = frame.result.keepalive_s;
        this.#attempt = 0;
        this.#takeAck(frame.result.ack ?? 0);
        this.sent = this.acked; // what is not acked is sent again, in order
        this.ws = ws;
        this.#send();
      } else if (frame.method) {
        const answer = await this.#handle(frame);
        if (answer && ws.readyState === WebSocket.OPEN) ws.send(JSON.stringify(answer));
      } else if (frame.error) {
        console.error('the hub refused:', frame.error);
      }
    });
    ws.on('error', (error) => console.error(error.message)); // close follows
    ws.on('close', (code, reason) => {
      clearTimeout(alive);
      if (this.ws === ws) this.ws = undefined;
      if ([4001, 4003, 4004].includes(code)) wait = LONGEST;
      if ([1012, 1013].includes(code)) wait = retryAfter(reason);
      // Full jitter: devices that were cut off together do not come back together.
      wait ??= Math.random() * Math.min(LONGEST, PAUSE * 2 ** this.#attempt);
      this.#attempt++;
      setTimeout(() => this.connect(), wait);
    });
  }

  #send() {
    while (this.ws?.readyState === WebSocket.OPEN) {
      const from = this.queue.findIndex((r) => r.seq > this.sent);
      if (from < 0) return;
      const batch = this.queue.slice(from, from + BATCH).filter((r) => r.seq <= this.acked + FLIGHT);
      if (batch.length === 0) return;
      this.sent = batch.at(-1).seq;
      const params = { boot: this.boot, seq: batch[0].seq, readings: batch.map((r) => r.reading) };
      this.ws.send(JSON.stringify({ method: 'telemetry', params }));
    }
  }

  #takeAck(seq) {
    this.acked = Math.max(this.acked, seq);
    const kept = this.queue.findIndex((r) => r.seq > this.acked);
    this.queue.splice(0, kept < 0 ? this.queue.length : kept);
    this.#send();
  }

  /** Returns the answer to a frame of the hub; none to a notification. */
  async #handle({ id, method, params = {}, expires = Infinity }) {
    switch (method) {
      case 'hub.ack':
        if (params.boot === this.boot) this.#takeAck(params.seq);
        return;
      case 'hub.notice':
        console.error('the hub says:', params);
        return;
      case 'hub.probe':
        return { id, result: {} };
      case 'hub.credentials':
        storeToken(this.tokenFile, params.token); // first, for the old one ends with the answer
        return { id, result: {} };
    }
    if (id === undefined) return;
    if (!this.#answers.has(id)) {
      // Kept as a promise: one that comes again while it runs waits for the same outcome.
      this.#answers.set(id, this.#perform(id, method, params, expires));
      if (this.#answers.size > 64) this.#answers.delete(this.#answers.keys().next().value);
    }
    return this.#answers.get(id);
  }

  async #perform(id, method, params, expires) {
    if (!Object.hasOwn(this.commands, method)) return { id, error: { code: -32601, message: `no such method: ${method}` } };
    if (expires < Date.now()) return { id, error: { code: -32050, message: 'it came after its time' } };
    try {
      return { id, result: (await this.commands[method](params)) ?? null };
    } catch (error) {
      return { id, error: { code: 1, message: String(error) } };
    }
  }
}

function retryAfter(reason) {
  try {
    return JSON.parse(reason).retry_after_ms;
  } catch {
    return undefined;
  }
}

/** Leaves the old token or the new one, whenever the power fails. */
function storeToken(file, token) {
  const fd = openSync(`${file}.new`, 'w', 0o600);
  writeSync(fd, `${token}\n`);
  fsyncSync(fd);
  closeSync(fd);
  renameSync(`${file}.new`, file);
}

const commands = { ping: () => ({ pong: true }) };

function measure(n) {
  return { Temp: 20 + Math.random(), n };
}

const { HUB, CA, DEVICE, TOKEN_FILE, EVERY = '10' } = process.env;
const device = new Device({ hub: HUB, device: DEVICE, tokenFile: TOKEN_FILE, ca: CA, commands });
device.connect();
setInterval(() => device.record(measure(device.seq + 1)), 1000 * Number(EVERY));
