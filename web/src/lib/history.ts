// Which history to ask for, so that a chart gets at most about a thousand points whatever the range.
import { api, ApiError } from './api';
import type { Reading } from './model';
import { SeriesBuffer } from './series';

export interface Range {
  key: '15m' | '1h' | '24h';
  ms: number;
  everyMs: number; // 0: raw points
}

const MINUTE = 60_000;

export const ranges: readonly Range[] = [
  { key: '15m', ms: 15 * MINUTE, everyMs: 0 },
  { key: '1h', ms: 60 * MINUTE, everyMs: 5_000 },
  { key: '24h', ms: 24 * 60 * MINUTE, everyMs: 2 * MINUTE },
];

export const firstRange: Range = ranges[1]!; // the last hour

const MAX_POINTS = 1000;
const CAPACITY = 2048; // a range's points, the gaps between them, and room for what comes live

/** Reads a device's last range, complete windows as means and the rest raw, into a buffer that the live stream goes on with. */
export async function loadSeries(device: string, range: Range, now: number, signal: AbortSignal): Promise<SeriesBuffer> {
  if (range.everyMs === 0) {
    const page = await api.telemetry(device, { from: now - range.ms, to: now + MINUTE, limit: MAX_POINTS }, signal);
    if (!page.next) {
      const raw = new SeriesBuffer(CAPACITY);
      raw.loadHistory(page.readings ?? [], 0);
      return raw;
    }
  }
  const everyMs = range.everyMs > 0 ? range.everyMs : Math.ceil(range.ms / (MAX_POINTS * 1000)) * 1000;
  // Only whole windows come as means; the running one is counted here, from its raw readings.
  const boundary = Math.floor(now / everyMs) * everyMs;
  const from = boundary - Math.floor(range.ms / everyMs) * everyMs;
  const [means, running] = await Promise.all([
    pages((cursor) => api.telemetry(device, { from, to: boundary, every: `${everyMs / 1000}s`, fn: 'mean', limit: MAX_POINTS, cursor }, signal)),
    pages((cursor) => api.telemetry(device, { from: boundary, to: now + MINUTE, limit: MAX_POINTS, cursor }, signal)),
  ]);
  const buffer = new SeriesBuffer(CAPACITY, everyMs);
  buffer.loadHistory(means, boundary);
  for (const reading of running) buffer.add(reading);
  return buffer;
}

const MOST_PAGES = 20; // a device that sends faster than that is cut, not the page frozen

async function pages(read: (cursor: string) => Promise<{ readings: Reading[] | null; next?: string }>): Promise<Reading[]> {
  const all: Reading[] = [];
  let cursor = '';
  for (let i = 0; i < MOST_PAGES; i++) {
    const page = await read(cursor);
    for (const reading of page.readings ?? []) all.push(reading);
    cursor = page.next ?? '';
    if (cursor === '') break;
  }
  return all;
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

export function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}
