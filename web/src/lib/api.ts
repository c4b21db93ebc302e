// The REST API as the dashboard uses it: one function an operation, one error class.
import { noteServerTime } from './clock.svelte';
import type {
  Bridge, Command, CommandPage, CommandRequest, CreatedDevice, Device, DeviceMethods, DevicePage, DeviceState, Discovered, Fault, IgnoredDevice, LatestAnswer, Me, ReadingPage, Why,
} from './model';

/** An answer that was not a success. status 0: no answer at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly reason = '',
    readonly retryAfterMs = 0,
    readonly faults: readonly Fault[] = [],
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

// Called when the hub no longer knows this login; set once by the session.
let onUnauthorised: () => void = () => {};

export function whenUnauthorised(handler: () => void): void {
  onUnauthorised = handler;
}

interface Options {
  method?: string;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** A 401 here is an answer to show, not the end of the session. */
  expect401?: boolean;
}

async function request<T>(path: string, options: Options = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json', ...options.headers };
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  const started = Date.now();
  let response: Response;
  try {
    response = await fetch(path, {
      method: options.method ?? 'GET',
      headers,
      body: options.body === undefined ? null : JSON.stringify(options.body),
      signal: options.signal ?? null,
      credentials: 'same-origin',
      cache: 'no-store',
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, '');
  }
  noteServerTime(response.headers.get('Date'), started, Date.now());
  if (!response.ok) {
    if (response.status === 401 && !options.expect401) onUnauthorised();
    throw await problem(response);
  }
  if (response.status === 204) return undefined as T;
  try {
    return (await response.json()) as T;
  } catch {
    throw new ApiError(response.status, `The answer of ${path} is not JSON.`, 'bad_json');
  }
}

async function problem(response: Response): Promise<ApiError> {
  let body: Record<string, unknown> = {};
  try {
    const parsed: unknown = await response.json();
    if (typeof parsed === 'object' && parsed !== null) body = parsed as Record<string, unknown>;
  } catch {
    // A proxy in between may answer with HTML; its status says enough.
  }
  const text = (key: string) => (typeof body[key] === 'string' ? (body[key] as string) : '');
  const retry = typeof body['retry_after_ms'] === 'number' ? body['retry_after_ms'] : 0;
  const message = text('detail') || text('title') || `${response.status} ${response.statusText}`.trim();
  const faults = Array.isArray(body['errors']) ? (body['errors'] as Fault[]) : [];
  return new ApiError(response.status, message, text('reason'), retry, faults);
}

const devicePath = (id: string) => `/api/v1/devices/${encodeURIComponent(id)}`;

export function query(params: Record<string, string | number | undefined>): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== undefined && value !== '') search.set(key, String(value));
  }
  const text = search.toString();
  return text === '' ? '' : `?${text}`;
}

/** A list of devices, whole. */
async function allPages<T>(path: string, signal?: AbortSignal): Promise<T[]> {
  const all: T[] = [];
  let cursor = '';
  do {
    const page: { devices: T[] | null; next?: string } = await request(`${path}${query({ limit: 1000, cursor })}`, { signal });
    all.push(...(page.devices ?? []));
    cursor = page.next ?? '';
  } while (cursor !== '');
  return all;
}

export const api = {
  login: (token: string) => request<void>('/api/v1/login', { method: 'POST', body: { token }, expect401: true }),
  logout: () => request<void>('/api/v1/logout', { method: 'POST', expect401: true }),
  me: () => request<Me>('/api/v1/me', { expect401: true }),

  /** All devices with their latest values, a page at a time: onPage may be called many times. */
  async devices(onPage: (devices: Device[]) => void, signal?: AbortSignal): Promise<void> {
    let cursor = '';
    do {
      const page: DevicePage = await request(`/api/v1/devices${query({ latest: 'true', limit: 1000, cursor })}`, { signal });
      onPage(page.devices ?? []);
      cursor = page.next ?? '';
    } while (cursor !== '');
  },
  device: (id: string, signal?: AbortSignal) => request<Device>(devicePath(id), { signal }),
  latest: (id: string, signal?: AbortSignal) => request<LatestAnswer>(`${devicePath(id)}/latest`, { signal }),
  createDevice: (device: { id: string; type?: string; tags?: string[] }) =>
    request<CreatedDevice>('/api/v1/devices', { method: 'POST', body: device }),

  telemetry: (
    id: string,
    params: { fields?: string; from: number; to: number; every?: string; fn?: string; limit?: number; cursor?: string },
    signal?: AbortSignal,
  ) => request<ReadingPage>(`${devicePath(id)}/telemetry${query(params)}`, { signal }),

  why: (id: string) => request<Why>(`${devicePath(id)}/why`),

  state: (id: string, signal?: AbortSignal) => request<DeviceState>(`${devicePath(id)}/state`, { signal }),
  desire: (id: string, desired: Record<string, unknown>) =>
    request<DeviceState>(`${devicePath(id)}/state`, { method: 'PATCH', body: { desired } }),

  bridges: async (signal?: AbortSignal) => (await request<{ bridges: Bridge[] }>('/api/v1/bridges', { signal })).bridges,
  bridge: (name: string, signal?: AbortSignal) => request<Bridge>(`/api/v1/bridges/${encodeURIComponent(name)}`, { signal }),
  discovered: (signal?: AbortSignal) => allPages<Discovered>('/api/v1/discovered', signal),
  admit: (id: string, admission: { type?: string; tags?: string[] }) =>
    request<Device>(`/api/v1/discovered/${encodeURIComponent(id)}/admit`, { method: 'POST', body: admission }),
  ignored: (signal?: AbortSignal) => allPages<IgnoredDevice>('/api/v1/ignored-devices', signal),
  ignore: (id: string) => request<IgnoredDevice>(`/api/v1/ignored-devices/${encodeURIComponent(id)}`, { method: 'PUT' }),
  notice: (id: string) => request<void>(`/api/v1/ignored-devices/${encodeURIComponent(id)}`, { method: 'DELETE' }),
  deviceTypes: async (signal?: AbortSignal) =>
    ((await request<{ types: { name: string }[] | null }>('/api/v1/device-types', { signal })).types ?? []).map((type) => type.name),

  methods: (id: string, signal?: AbortSignal) => request<DeviceMethods>(`${devicePath(id)}/methods`, { signal }),
  commands: (id: string, limit: number, signal?: AbortSignal) =>
    request<CommandPage>(`${devicePath(id)}/commands${query({ limit })}`, { signal }),
  send: (id: string, command: CommandRequest, waitSeconds: number, idempotencyKey: string) =>
    request<Command>(`${devicePath(id)}/commands${query({ wait: waitSeconds > 0 ? `${waitSeconds}s` : undefined })}`, {
      method: 'POST',
      body: command,
      headers: { 'Idempotency-Key': idempotencyKey },
    }),
};

/** Random text that names one attempt to send a command. crypto.randomUUID is missing on plain http from afar. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}
