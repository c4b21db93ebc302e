import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DEAD_MS, LiveStream, STALE_MS, retryDelay } from '../../src/lib/live';
import type { LiveStatus } from '../../src/lib/live';

// A hub whose streams the test holds by hand.
class Hub {
  requests: Request[] = [];
  answer: () => Response | Promise<Response> = () => this.open();
  #controllers: ReadableStreamDefaultController<Uint8Array>[] = [];

  fetch = async (path: string, init: RequestInit): Promise<Response> => {
    this.requests.push(new Request(`http://hub${path}`, { headers: init.headers }));
    const response = await this.answer();
    init.signal?.addEventListener('abort', () => this.end());
    return response;
  };

  open(): Response {
    return new Response(new ReadableStream({ start: (controller) => void this.#controllers.push(controller) }), { status: 200 });
  }

  say(text: string): void {
    this.#controllers.at(-1)?.enqueue(new TextEncoder().encode(text));
  }

  end(): void {
    try {
      this.#controllers.at(-1)?.close();
    } catch {
      // closed already
    }
  }
}

let hub: Hub;
let stream: LiveStream;
let statuses: LiveStatus[];
let heard: unknown[];
let opened: number;
let refused: number;

beforeEach(() => {
  vi.useFakeTimers();
  hub = new Hub();
  vi.stubGlobal('fetch', hub.fetch);
  statuses = [];
  heard = [];
  opened = 0;
  refused = 0;
  stream = new LiveStream('/live', {
    opened: () => opened++,
    telemetry: (event) => heard.push(event.device),
    missed: (count) => heard.push(count),
    status: (status) => statuses.push(status),
    unauthorised: () => refused++,
  });
});

afterEach(() => {
  stream.stop();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function settle(ms = 0): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

test('hears events, and skips what it does not understand', async () => {
  stream.start();
  await settle();
  hub.say('event: telemetry\ndata: {"device":"A-1","readings":[]}\n\nevent: telemetry\ndata: not json\n\nevent: new-kind\ndata: {}\n\nevent: missed\ndata: {"count":3}\n\n');
  await settle();
  expect(heard).toEqual(['A-1', 3]);
  expect(statuses).toEqual(['connecting', 'live']);
});

test('comes back by itself after an end, and says that it was away', async () => {
  stream.start();
  await settle();
  hub.end();
  await settle();
  expect(statuses.at(-1)).toBe('reconnecting');
  await settle(500);
  expect(statuses.at(-1)).toBe('live');
  expect(opened).toBe(2);
});

test('silence is stale, longer silence is an end; a comment is life', async () => {
  stream.start();
  await settle();
  await settle(STALE_MS - 2000);
  hub.say(':\n\n');
  await settle(STALE_MS - 2000);
  expect(statuses.at(-1)).toBe('live');
  await settle(4000);
  expect(statuses.at(-1)).toBe('stale');
  await settle(DEAD_MS - STALE_MS);
  expect(statuses).toContain('reconnecting');
  await settle(1000);
  expect(statuses.at(-1)).toBe('live');
});

test('waits longer each time, and as long as the hub asks', async () => {
  hub.answer = () => new Response('', { status: 503, headers: { 'Retry-After': '7' } });
  stream.start();
  await settle(6900);
  expect(hub.requests.length).toBe(1);
  await settle(200);
  expect(hub.requests.length).toBe(2);
  expect([0, 1, 2, 10].map((n) => retryDelay(n, () => 1))).toEqual([500, 1000, 2000, 15_000]);
  expect(retryDelay(0, () => 0)).toBe(250);
});

test('a hub that cannot be reached is asked again', async () => {
  hub.answer = () => Promise.reject(new TypeError('refused'));
  stream.start();
  await settle(600);
  expect(hub.requests.length).toBeGreaterThan(1);
  expect(statuses.at(-1)).toBe('reconnecting');
});

test('a login that has ended ends the stream', async () => {
  hub.answer = () => new Response('', { status: 401 });
  stream.start();
  await settle(60_000);
  expect(refused).toBe(1);
  expect(hub.requests.length).toBe(1);
  expect(statuses.at(-1)).toBe('stopped');
});

test('resumes after the last event that bore an id', async () => {
  stream.start();
  await settle();
  hub.say('id: 41\nevent: telemetry\ndata: {"device":"A-1"}\n\n');
  await settle();
  hub.end();
  await settle(500);
  expect(hub.requests.map((r) => r.headers.get('Last-Event-ID'))).toEqual([null, '41']);
});

test('after stop nothing more is asked', async () => {
  stream.start();
  await settle();
  stream.stop();
  await settle(60_000);
  expect(hub.requests.length).toBe(1);
});
