// The state of a page's live stream, as the page shows it.
import { LiveStream } from './live';
import type { LiveHandlers, LiveStatus } from './live';
import { serverNow } from './clock.svelte';
import { session } from './session.svelte';

export class Feed {
  status = $state<LiveStatus>('stopped');
  /** When the last event came, in the hub's time; undefined before the first. */
  heardAt = $state<number | undefined>();
  /** Events the hub left out for this page since it was opened. */
  missed = $state(0);
  #stream: LiveStream | undefined;

  start(path: string, handlers: Pick<LiveHandlers, 'opened' | 'telemetry' | 'presence' | 'command' | 'state' | 'discovered'>): void {
    this.stop();
    this.missed = 0;
    this.heardAt = undefined;
    // The time is noted on each event but shown with a second's grain: the redraw is not driven from here.
    const heard = <T>(handler: ((event: T) => void) | undefined) => (event: T) => {
      const now = Math.floor(serverNow() / 1000) * 1000;
      if (this.heardAt !== now) this.heardAt = now;
      handler?.(event);
    };
    this.#stream = new LiveStream(path, {
      opened: handlers.opened,
      telemetry: heard(handlers.telemetry),
      presence: heard(handlers.presence),
      command: heard(handlers.command),
      state: heard(handlers.state),
      discovered: heard(handlers.discovered),
      missed: (count) => {
        this.missed += count;
        handlers.opened(); // what was left out must be read again
      },
      status: (status) => (this.status = status),
      unauthorised: () => session.end(true),
    });
    this.#stream.start();
  }

  stop(): void {
    this.#stream?.stop();
    this.#stream = undefined;
  }
}
