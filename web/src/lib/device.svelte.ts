// One device, for its page: facts, latest values, the series behind its charts, its commands; all kept live.
import { api } from './api';
import { Batch } from './batch';
import { serverNow } from './clock.svelte';
import { fieldOrder } from './fields';
import { Feed } from './feed.svelte';
import { STREAM_GRACE_MS, applyPresence, byName, isOfHome, mergeReadings, withPresence } from './fleet.svelte';
import { firstRange, isAbort, isNotFound, loadSeries } from './history';
import type { Range } from './history';
import { newerCommand } from './model';
import type { Command, Device, DeviceState, Latest, PresenceEvent, Reading, TelemetryEvent } from './model';
import { SeriesBuffer } from './series';

const SHOWN_COMMANDS = 20;

export class DeviceView {
  device = $state.raw<Device | undefined>();
  latest = $state.raw<Record<string, Latest>>({});
  commands = $state.raw<readonly Command[]>([]);
  commandsLoaded = $state(false);
  state = $state.raw<DeviceState | undefined>();
  missing = $state(false);
  failure = $state.raw<unknown>();
  /** Numeric fields the series has; a new array only when one appears. */
  fields = $state.raw<readonly string[]>([]);
  /** Raised when the series changed; charts read it and draw again. */
  seriesVersion = $state(0);
  seriesState = $state<'loading' | 'ready' | 'failed'>('loading');
  range: Range = $state.raw(firstRange);
  series = new SeriesBuffer(1);
  readonly feed = new Feed();

  #latest: Record<string, Latest> = {};
  #heardAt = 0; // its last telemetry, in the hub's time
  #pending: Reading[] = []; // heard while history was on its way
  #loadingSeries = false;
  #redraw = new Batch(() => this.#flush());
  #refresh = new Batch(() => void this.#loadAll(), 2_000);
  #restate = new Batch(() => void this.#loadState(), 500);
  #fallback: ReturnType<typeof setTimeout> | undefined;
  #abort = new AbortController();
  #seriesAbort = new AbortController();

  constructor(readonly id: string) {}

  start(): void {
    this.feed.start(`/api/v1/live?device=${encodeURIComponent(this.id)}&kind=telemetry,presence,command,state`, {
      opened: () => {
        clearTimeout(this.#fallback);
        this.#refresh.request();
      },
      telemetry: (event) => this.#telemetry(event),
      presence: (event) => this.#presence(event),
      command: (command) => this.putCommand(command),
      state: (state) => this.#stateEvent(state),
    });
    this.#fallback = setTimeout(() => this.#refresh.request(), STREAM_GRACE_MS);
  }

  stop(): void {
    clearTimeout(this.#fallback);
    this.feed.stop();
    this.#redraw.cancel();
    this.#refresh.cancel();
    this.#restate.cancel();
    this.#abort.abort();
    this.#seriesAbort.abort();
  }

  reload(): void {
    this.#refresh.request();
  }

  setRange(range: Range): void {
    this.range = range;
    void this.#loadSeries(true);
  }

  putCommand(command: Command): void {
    if (command.device !== this.id) return;
    const known = this.commands.find((c) => c.id === command.id);
    const best = known === undefined ? command : newerCommand(command, known);
    const others = this.commands.filter((c) => c.id !== command.id);
    // Ids are ordered by time.
    this.commands = [best, ...others].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, SHOWN_COMMANDS);
  }

  /** The newer of two states; answers and events come in any order. */
  putState(state: DeviceState): void {
    if (state.device === this.id && state.version >= (this.state?.version ?? 0)) this.state = state;
  }

  /** An event bears no times: they are read once it is quiet. */
  #stateEvent(state: DeviceState): void {
    if (state.device === this.id) this.#restate.request();
  }

  async #loadState(): Promise<void> {
    try {
      this.putState(await api.state(this.id, this.#abort.signal));
    } catch (error) {
      if (!isAbort(error) && !isNotFound(error)) this.failure = error;
    }
  }

  async #loadAll(): Promise<void> {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    void this.#loadSeries(this.series.length === 0);
    void this.#loadState();
    try {
      const [device, latest, commands] = await Promise.all([
        api.device(this.id, abort.signal),
        api.latest(this.id, abort.signal),
        api.commands(this.id, SHOWN_COMMANDS, abort.signal),
      ]);
      if (abort.signal.aborted) return;
      this.device = this.device === undefined ? device : withPresence(device, this.device);
      for (const [field, value] of Object.entries(latest.values ?? {})) {
        const known = this.#latest[field];
        if (known === undefined || known.ts <= value.ts) this.#latest[field] = { value: value.value, ts: value.ts };
      }
      this.#flush();
      for (const command of commands.commands ?? []) this.putCommand(command);
      this.commandsLoaded = true;
      this.missing = false;
      this.failure = undefined;
    } catch (error) {
      if (isAbort(error)) return;
      if (isNotFound(error)) this.missing = true;
      else this.failure = error;
    }
  }

  async #loadSeries(showLoading: boolean): Promise<void> {
    this.#seriesAbort.abort();
    const abort = (this.#seriesAbort = new AbortController());
    const range = this.range;
    if (showLoading) this.seriesState = 'loading';
    this.#pending = [];
    this.#loadingSeries = true;
    try {
      const series = await loadSeries(this.id, range, serverNow(), abort.signal);
      if (abort.signal.aborted) return;
      for (const reading of this.#pending) series.add(reading);
      this.series = series;
      this.seriesState = 'ready';
      this.#flush();
    } catch (error) {
      if (isAbort(error) || abort.signal.aborted) return;
      this.seriesState = 'failed';
    } finally {
      if (this.#seriesAbort === abort) {
        this.#loadingSeries = false;
        this.#pending = [];
      }
    }
  }

  #telemetry(event: TelemetryEvent): void {
    if (event.device !== this.id) return;
    if (!isOfHome(event, this.device)) return;
    const readings = event.readings ?? [];
    mergeReadings(this.#latest, readings);
    for (const reading of readings) {
      if (this.#loadingSeries) this.#pending.push(reading);
      this.series.add(reading);
    }
    this.#heardAt = serverNow();
    this.#redraw.request();
  }

  #presence(event: PresenceEvent): void {
    if (event.device !== this.id || this.device === undefined) return;
    const device = { ...this.device };
    if (applyPresence(device, event)) this.device = device;
  }

  #flush(): void {
    this.series.dropBefore(serverNow() - this.range.ms - 60_000);
    this.latest = { ...this.#latest };
    if (this.device?.online && this.#heardAt > 0) this.device = { ...this.device, last_seen: new Date(this.#heardAt).toISOString() };
    // The order is learned from measured values: a window's mean of a state has a fraction too.
    for (const [field, value] of Object.entries(this.#latest)) fieldOrder.learn(field, value.value);
    const fields = fieldOrder.sort(this.series.fields.sort(byName));
    if (fields.join('\n') !== this.fields.join('\n')) this.fields = fields;
    this.seriesVersion++;
  }
}
