// Runs a function soon after it is asked for, at most once in each interval: changes come by the thousand, pictures ten a second.

export const REDRAW_MS = 100;

export class Batch {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last = Number.NEGATIVE_INFINITY;

  constructor(
    readonly run: () => void,
    readonly intervalMs = REDRAW_MS,
  ) {}

  request(): void {
    if (this.#timer !== undefined) return;
    const wait = Math.max(0, this.#last + this.intervalMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#last = performance.now();
      this.run();
    }, wait);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
