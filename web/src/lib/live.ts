// The live stream: connects, says what it hears, notices silence, and connects again by itself.
import { SseParser } from './sse';
import type { Command, DeviceState, Discovered, PresenceEvent, TelemetryEvent } from './model';

/** connecting: never been live yet · stale: open, but silent for longer than the hub's comments allow. */
export type LiveStatus = 'connecting' | 'live' | 'stale' | 'reconnecting' | 'stopped';

export interface LiveHandlers {
  /** The stream (re)opened: what happened in between must be read again. */
  opened: () => void;
  telemetry?: (event: TelemetryEvent) => void;
  presence?: (event: PresenceEvent) => void;
  command?: (command: Command) => void;
  state?: (state: DeviceState) => void;
  discovered?: (device: Discovered) => void;
  /** The hub left out that many events for this reader, which was too slow. */
  missed?: (count: number) => void;
  status: (status: LiveStatus) => void;
  unauthorised: () => void;
}

// The hub sends a comment every 15 s; two of them missing is silence, three an end.
export const STALE_MS = 32_000;
export const DEAD_MS = 47_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;

/** The wait before attempt n (0 is the first retry), with jitter so that many pages do not return at once. */
export function retryDelay(attempt: number, random = Math.random): number {
  const ceiling = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
  return ceiling * (0.5 + random() / 2);
}

export class LiveStream {
  #abort: AbortController | undefined;
  #watch: ReturnType<typeof setInterval> | undefined;
  #wake: (() => void) | undefined; // ends the wait before the next attempt
  #stopped = true;
  #status: LiveStatus = 'stopped';
  #heardAt = 0;
  #lastId = '';

  constructor(
    readonly path: string,
    readonly handlers: LiveHandlers,
  ) {}

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#set('connecting');
    this.#watch = setInterval(() => this.#checkSilence(), 1000);
    globalThis.addEventListener?.('offline', this.#wentOffline);
    globalThis.addEventListener?.('online', this.#cameBack);
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#watch);
    globalThis.removeEventListener?.('offline', this.#wentOffline);
    globalThis.removeEventListener?.('online', this.#cameBack);
    this.#abort?.abort();
    this.#wake?.();
    this.#set('stopped');
  }

  #wentOffline = () => this.#abort?.abort();
  #cameBack = () => this.#wake?.();

  async #run(): Promise<void> {
    let attempt = 0;
    while (!this.#stopped) {
      const outcome = await this.#connectOnce();
      if (this.#stopped) return;
      if (outcome.unauthorised) {
        this.stop();
        this.handlers.unauthorised();
        return;
      }
      if (outcome.wasOpen) attempt = 0;
      this.#set('reconnecting');
      await this.#pause(Math.max(retryDelay(attempt), outcome.retryAfterMs));
      attempt++;
    }
  }

  async #connectOnce(): Promise<{ wasOpen: boolean; unauthorised: boolean; retryAfterMs: number }> {
    const outcome = { wasOpen: false, unauthorised: false, retryAfterMs: 0 };
    const abort = (this.#abort = new AbortController());
    this.#heardAt = Date.now();
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (this.#lastId !== '') headers['Last-Event-ID'] = this.#lastId;
      const response = await fetch(this.path, { headers, signal: abort.signal, cache: 'no-store', credentials: 'same-origin' });
      if (!response.ok || response.body === null) {
        outcome.unauthorised = response.status === 401;
        outcome.retryAfterMs = Math.min(60, Number(response.headers.get('Retry-After')) || 0) * 1000;
        return outcome;
      }
      outcome.wasOpen = true;
      this.#heard();
      this.handlers.opened();
      await this.#read(response.body);
    } catch {
      // Whatever ended it, the answer is the same: the status says so, and the next attempt follows.
    } finally {
      abort.abort();
    }
    return outcome;
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    const parser = new SseParser();
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.#stopped) return;
      this.#heard();
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        this.#lastId = event.id;
        this.#dispatch(event.type, event.data);
      }
    }
  }

  #dispatch(type: string, data: string): void {
    let value: unknown;
    try {
      value = JSON.parse(data);
    } catch {
      return; // a kind of event that a later hub may send in another form
    }
    if (typeof value !== 'object' || value === null) return;
    if (type === 'telemetry') this.handlers.telemetry?.(value as TelemetryEvent);
    else if (type === 'presence') this.handlers.presence?.(value as PresenceEvent);
    else if (type === 'command') this.handlers.command?.(value as Command);
    else if (type === 'state') this.handlers.state?.(value as DeviceState);
    else if (type === 'discovered') this.handlers.discovered?.(value as Discovered);
    else if (type === 'missed') this.handlers.missed?.(Number((value as { count?: unknown }).count) || 0);
  }

  #heard(): void {
    this.#heardAt = Date.now();
    this.#set('live');
  }

  #checkSilence(): void {
    const silence = Date.now() - this.#heardAt;
    if (this.#status === 'live' && silence > STALE_MS) this.#set('stale');
    if ((this.#status === 'live' || this.#status === 'stale' || this.#status === 'connecting') && silence > DEAD_MS) {
      this.#abort?.abort();
    }
  }

  #set(status: LiveStatus): void {
    if (status === this.#status) return;
    this.#status = status;
    this.handlers.status(status);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#wake = done;
    });
  }
}
