// Readings a second as seen live, over a sliding window of whole seconds.

const WINDOW_SECONDS = 5;

export class RateMeter {
  #counts = new Float64Array(WINDOW_SECONDS + 1); // by second; the running one is not used yet
  #second = 0;
  #since = Number.NaN; // ms; NaN: not listening

  /** Begins (again) to listen: what was counted before says nothing about now. */
  start(now: number): void {
    this.#counts.fill(0);
    this.#second = Math.floor(now / 1000);
    this.#since = now;
  }

  stop(): void {
    this.#since = Number.NaN;
  }

  add(count: number, now: number): void {
    this.#advance(now);
    this.#counts[this.#second % this.#counts.length]! += count;
  }

  /** undefined until enough was heard to say anything. */
  rate(now: number): number | undefined {
    this.#advance(now);
    const seconds = Math.min(WINDOW_SECONDS, this.#second - Math.ceil(this.#since / 1000));
    if (!(seconds >= 2)) return undefined;
    let total = 0;
    for (let i = 1; i <= seconds; i++) total += this.#counts[(this.#second - i + this.#counts.length * 2) % this.#counts.length]!;
    return total / seconds;
  }

  #advance(now: number): void {
    const second = Math.floor(now / 1000);
    for (let s = Math.max(this.#second + 1, second - this.#counts.length + 1); s <= second; s++) {
      this.#counts[s % this.#counts.length] = 0;
    }
    this.#second = Math.max(this.#second, second);
  }
}
