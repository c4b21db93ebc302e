// The readings behind the charts of one device: a bounded ring, in order of time, fed by history and by the live stream.
import type { FieldValue, Reading } from './model';

const ABSENT = Number.NaN;

/**
 * Rows of (time, one number a field). In raw form a row is a reading; with a window (everyMs > 0) it is the mean of the
 * readings of that window. Windows before the live boundary came complete from the hub and are left as they are.
 */
export class SeriesBuffer {
  #times: Float64Array;
  #start = 0; // index of the oldest row in the ring
  #length = 0;
  #columns = new Map<string, { sum: Float64Array; count: Float64Array }>();
  #liveFrom = Number.NEGATIVE_INFINITY;
  #countedTo = Number.NEGATIVE_INFINITY;

  constructor(
    readonly capacity: number,
    readonly everyMs = 0,
  ) {
    this.#times = new Float64Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  get fields(): string[] {
    return [...this.#columns.keys()];
  }

  /** Rows as the hub computed them; readings older than liveFrom are in them already. */
  loadHistory(rows: Reading[], liveFrom: number): void {
    for (const row of rows) this.#put(row.ts, row.values);
    this.#liveFrom = liveFrom;
  }

  /**
   * One measured reading. Raw ones are put where they belong; the same one twice is one. In a mean each counts once: what
   * is not newer than the newest counted is a repeat (the answer and the stream overlap) or late, and left to the hub.
   */
  add(reading: Reading): void {
    if (this.everyMs === 0) {
      this.#put(reading.ts, reading.values);
      return;
    }
    if (reading.ts < this.#liveFrom || reading.ts <= this.#countedTo) return;
    this.#countedTo = reading.ts;
    this.#put(Math.floor(reading.ts / this.everyMs) * this.everyMs, reading.values);
  }

  /** Forgets rows before this time. */
  dropBefore(time: number): void {
    while (this.#length > 0 && this.#timeAt(0) < time) this.#dropOldest();
  }

  #put(time: number, values: Record<string, FieldValue | null>): void {
    const numbers: [string, number][] = [];
    for (const [field, value] of Object.entries(values)) {
      if (typeof value === 'number' && Number.isFinite(value)) numbers.push([field, value]);
    }
    if (numbers.length === 0 || !Number.isFinite(time)) return;
    const at = this.#rowFor(time);
    if (at < 0) return;
    for (const [field, value] of numbers) {
      const column = this.#column(field);
      const slot = this.#slot(at);
      if (this.everyMs > 0 && column.count[slot]! > 0) {
        column.sum[slot]! += value;
        column.count[slot]! += 1;
      } else {
        column.sum[slot] = value; // raw: the same instant again is the same reading again
        column.count[slot] = 1;
      }
    }
  }

  /** The row of that time, made where it is missing; -1 when it is older than all that a full ring holds. */
  #rowFor(time: number): number {
    let at = this.#length;
    while (at > 0 && this.#timeAt(at - 1) > time) at--;
    if (at > 0 && this.#timeAt(at - 1) === time) return at - 1;
    if (this.#length === this.capacity) {
      if (at === 0) return -1;
      this.#dropOldest();
      at--;
    }
    this.#length++;
    for (let i = this.#length - 1; i > at; i--) this.#copyRow(i - 1, i);
    const slot = this.#slot(at);
    this.#times[slot] = time;
    for (const { sum, count } of this.#columns.values()) {
      sum[slot] = ABSENT;
      count[slot] = 0;
    }
    return at;
  }

  #column(field: string) {
    let column = this.#columns.get(field);
    if (column === undefined) {
      column = { sum: new Float64Array(this.capacity).fill(ABSENT), count: new Float64Array(this.capacity) };
      this.#columns.set(field, column);
    }
    return column;
  }

  #slot(at: number): number {
    return (this.#start + at) % this.capacity;
  }

  #timeAt(at: number): number {
    return this.#times[this.#slot(at)]!;
  }

  #copyRow(from: number, to: number): void {
    const a = this.#slot(from);
    const b = this.#slot(to);
    this.#times[b] = this.#times[a]!;
    for (const { sum, count } of this.#columns.values()) {
      sum[b] = sum[a]!;
      count[b] = count[a]!;
    }
  }

  #dropOldest(): void {
    this.#start = (this.#start + 1) % this.capacity;
    this.#length--;
  }

  /** One field as a chart wants it: times in seconds and values, with a null in each gap so that no line bridges it. */
  points(field: string): [number[], (number | null)[]] {
    const column = this.#columns.get(field);
    const times: number[] = [];
    const values: (number | null)[] = [];
    if (column === undefined) return [times, values];
    for (let i = 0; i < this.#length; i++) {
      const slot = this.#slot(i);
      const count = column.count[slot]!;
      if (count === 0) continue;
      times.push(this.#times[slot]! / 1000);
      values.push(column.sum[slot]! / count);
    }
    return withGaps(times, values, this.everyMs / 1000);
  }
}

const GAP_FACTOR = 5; // times the usual distance between points

/** Inserts a null where two points lie much farther apart than they usually do. */
export function withGaps(times: number[], values: (number | null)[], everySeconds = 0): [number[], (number | null)[]] {
  if (times.length < 3) return [times, values];
  const distances: number[] = [];
  for (let i = 1; i < times.length; i++) distances.push(times[i]! - times[i - 1]!);
  const sorted = [...distances].sort((a, b) => a - b);
  const usual = sorted[Math.floor(sorted.length / 2)]!;
  const limit = Math.max(usual * GAP_FACTOR, everySeconds * 1.5, 1);
  if (sorted[sorted.length - 1]! <= limit) return [times, values];
  const outTimes: number[] = [times[0]!];
  const outValues: (number | null)[] = [values[0]!];
  for (let i = 1; i < times.length; i++) {
    if (distances[i - 1]! > limit) {
      outTimes.push((times[i]! + times[i - 1]!) / 2);
      outValues.push(null);
    }
    outTimes.push(times[i]!);
    outValues.push(values[i]!);
  }
  return [outTimes, outValues];
}
