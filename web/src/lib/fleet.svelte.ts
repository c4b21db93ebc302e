// All devices with their latest values, kept up to date by the live stream.
//
// The map is not reactive: thousands of readings a second may change it. Rows read it through get(), which depends on one
// version number that is raised at most ten times a second, so a redraw costs what is visible, not what exists.
import { api } from './api';
import { Batch } from './batch';
import { serverNow } from './clock.svelte';
import { Feed } from './feed.svelte';
import { isAbort } from './history';
import type { Device, PresenceEvent, Reading, TelemetryEvent } from './model';
import { RateMeter } from './rate';

const DEFAULT_MEASUREMENT = 'telemetry';

/** Whether readings stand in the measurement that is shown of their device. */
export function isOfHome(event: TelemetryEvent, device: Device | undefined): boolean {
  return (event.measurement || DEFAULT_MEASUREMENT) === (device?.measurement ?? DEFAULT_MEASUREMENT);
}
const FETCH_LIMIT = 25; // more unknown devices at once than this, and the whole list is read again
// The list is read after the stream opened, so that nothing falls between them; without a stream it is read all the same.
export const STREAM_GRACE_MS = 800;
const RESYNC_MS = 2_000; // shortest time between two readings of the whole list

export const byName = new Intl.Collator('en', { numeric: true }).compare;

export class Fleet {
  /** Raised when any device's data changed. */
  version = $state(0);
  /** All ids in order; a new array only when devices come or go. */
  ids = $state.raw<readonly string[]>([]);
  online = $state(0);
  /** Raised when any device came online or went: what filters by it looks again. */
  presenceVersion = $state(0);
  loaded = $state(false);
  failure = $state.raw<unknown>();
  rate = $state<number | undefined>();
  readonly feed = new Feed();

  #devices = new Map<string, Device>();
  #dirty = new Set<string>();
  #presenceDirty = false;
  #presence = new Map<string, PresenceEvent>(); // the newest of each device, also of those that the list does not have yet
  #unknown = new Set<string>();
  #meter = new RateMeter();
  #redraw = new Batch(() => this.#flush());
  #resync = new Batch(() => void this.#load(), RESYNC_MS);
  #abort: AbortController | undefined;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #fallback: ReturnType<typeof setTimeout> | undefined;

  start(): void {
    this.feed.start('/api/v1/live?kind=telemetry,presence', {
      opened: () => {
        clearTimeout(this.#fallback);
        this.#meter.start(Date.now());
        this.#resync.request();
      },
      telemetry: (event) => this.#telemetry(event),
      presence: (event) => this.#presenceChanged(event),
    });
    this.#fallback = setTimeout(() => this.#resync.request(), STREAM_GRACE_MS);
    this.#ticker = setInterval(() => {
      this.rate = this.feed.status === 'live' ? this.#meter.rate(Date.now()) : undefined;
    }, 1000);
  }

  stop(): void {
    this.feed.stop();
    clearInterval(this.#ticker);
    clearTimeout(this.#fallback);
    this.#meter.stop();
    this.rate = undefined;
    this.#redraw.cancel();
    this.#resync.cancel();
    this.#abort?.abort();
  }

  /** The device as it is now; a new object whenever it changed. */
  get(id: string): Device | undefined {
    void this.version;
    return this.#devices.get(id);
  }

  /** The same without depending on its data: for what only looks at names and presence. */
  peek(id: string): Device | undefined {
    return this.#devices.get(id);
  }

  reload(): void {
    this.#resync.request();
  }

  /** A device just made here, before the hub says so by itself. */
  put(device: Device): void {
    this.#devices.set(device.id, device);
    this.#reindex();
  }

  async #load(): Promise<void> {
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    const seen = new Set<string>();
    try {
      await api.devices((page) => {
        if (abort.signal.aborted) return;
        for (const device of page) {
          seen.add(device.id);
          this.#merge(device);
        }
        this.#reindex(); // the first page shows at once
      }, abort.signal);
      for (const id of this.#devices.keys()) {
        if (!seen.has(id)) this.#devices.delete(id);
      }
      this.#reindex();
      this.loaded = true;
      this.failure = undefined;
    } catch (error) {
      if (!isAbort(error)) this.failure = error;
    }
  }

  /** What was heard live since the request began is newer than its answer. */
  #merge(fresh: Device): void {
    const known = this.#devices.get(fresh.id);
    if (known !== undefined) {
      const latest = { ...fresh.latest };
      for (const [field, value] of Object.entries(known.latest ?? {})) {
        if (latest[field] === undefined || latest[field].ts < value.ts) latest[field] = value;
      }
      fresh = withPresence({ ...fresh, latest }, known);
    }
    const heard = this.#presence.get(fresh.id);
    if (heard !== undefined) applyPresence(fresh, heard);
    this.#devices.set(fresh.id, fresh);
  }

  #telemetry(event: TelemetryEvent): void {
    const readings = event.readings ?? [];
    this.#meter.add(readings.length, Date.now());
    const device = this.#devices.get(event.device);
    if (device === undefined) {
      this.#meet(event.device);
      return;
    }
    if (!isOfHome(event, device)) return;
    device.latest ??= {};
    mergeReadings(device.latest, readings);
    this.#touch(event.device);
  }

  #presenceChanged(event: PresenceEvent): void {
    const before = this.#presence.get(event.device);
    if (before !== undefined && (event.version ?? 0) < (before.version ?? 0)) return;
    this.#presence.set(event.device, event);
    const device = this.#devices.get(event.device);
    if (device === undefined) {
      this.#meet(event.device);
      return;
    }
    if (!applyPresence(device, event)) return;
    this.#presenceDirty = true;
    this.#touch(event.device);
  }

  #touch(id: string): void {
    this.#dirty.add(id);
    this.#redraw.request();
  }

  #flush(): void {
    for (const id of this.#dirty) {
      const device = this.#devices.get(id);
      if (device !== undefined) this.#devices.set(id, { ...device });
    }
    this.#dirty.clear();
    if (this.#presenceDirty) {
      this.#presenceDirty = false;
      this.#count();
    }
    this.version++;
  }

  #count(): void {
    let online = 0;
    for (const device of this.#devices.values()) if (device.online) online++;
    this.online = online;
    this.presenceVersion++;
  }

  #reindex(): void {
    const ids = [...this.#devices.keys()].sort(byName);
    if (ids.length !== this.ids.length || ids.some((id, i) => id !== this.ids[i])) this.ids = ids;
    this.#count();
    this.version++;
  }

  /** A device the list does not have yet: it was made since. */
  #meet(id: string): void {
    if (!this.loaded || this.#unknown.has(id)) return;
    this.#unknown.add(id);
    if (this.#unknown.size > FETCH_LIMIT) {
      this.#unknown.clear();
      this.#resync.request();
      return;
    }
    api.device(id, this.#abort?.signal).then(
      (device) => {
        this.#merge(device);
        this.#reindex();
        this.#unknown.delete(id);
      },
      () => setTimeout(() => this.#unknown.delete(id), RESYNC_MS),
    );
  }
}

/** Keeps of each field the value measured last; a late reading changes nothing that is newer. */
export function mergeReadings(latest: NonNullable<Device['latest']>, readings: readonly Reading[]): void {
  for (const reading of readings) {
    for (const [field, value] of Object.entries(reading.values ?? {})) {
      if (value === null) continue;
      const known = latest[field];
      if (known === undefined || known.ts <= reading.ts) latest[field] = { value, ts: reading.ts };
    }
  }
}

/**
 * Applies a change unless the device knows of a newer one: the list, one device and the live stream come in any order.
 * Says whether it did.
 */
export function applyPresence(device: Device, event: PresenceEvent): boolean {
  if ((event.version ?? 0) < (device.version ?? 0)) return false;
  const same = event.version !== undefined && event.version === device.version; // the list knew it
  device.version = event.version ?? device.version;
  device.online = event.online;
  device.frozen = event.frozen;
  device.unresponsive_since = event.unresponsive_since;
  const what = event.what ?? (event.online ? 'connected' : 'disconnected');
  if (same || what === 'unfrozen' || what === 'unresponsive') return true;
  const time = event.time ?? new Date(serverNow()).toISOString();
  device.last_seen = time;
  if (what === 'connected') {
    device.connected_at = time;
    if (event.transport) device.transport = event.transport;
  } else if (!event.online) {
    device.disconnected_at = time;
    device.cause = event.cause;
  }
  return true;
}

/** What was just read, with the presence of what is known where that is newer. */
export function withPresence(fresh: Device, known: Device): Device {
  if ((fresh.version ?? 0) >= (known.version ?? 0)) return fresh;
  const { online, transport, connected_at, disconnected_at, cause, version, frozen, unresponsive_since } = known;
  return { ...fresh, online, transport, connected_at, disconnected_at, cause, version, frozen, unresponsive_since };
}

/** Whether a device answers a search: each word of it in the id, type, tags, transport or attributes. */
export function matches(device: Device, words: readonly string[]): boolean {
  if (words.length === 0) return true;
  const text = [device.id, device.type, device.transport, device.model, ...(device.tags ?? []), ...Object.values(device.attributes ?? {})]
    .join('\n')
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

export const fleet = new Fleet();
