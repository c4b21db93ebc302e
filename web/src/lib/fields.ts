// In which order a device's fields are shown. The hub gives them by name; people look for measurements first and for
// states (door, mode, counters) after them. A field that ever had a fraction is a measurement, on all devices alike and
// for as long as the page lives, so that nothing jumps when a temperature happens to be 21.

export class FieldOrder {
  #measured = new Set<string>();

  learn(field: string, value: unknown): void {
    if (typeof value === 'number' && !Number.isInteger(value)) this.#measured.add(field);
  }

  /** The same fields, measurements first; otherwise as they came. */
  sort(fields: readonly string[]): string[] {
    return [...fields.filter((f) => this.#measured.has(f)), ...fields.filter((f) => !this.#measured.has(f))];
  }

  entries<T extends { value: unknown }>(values: Record<string, T> | undefined): [string, T][] {
    if (values === undefined) return [];
    const names = Object.keys(values);
    for (const name of names) this.learn(name, values[name]?.value);
    return this.sort(names).map((name) => [name, values[name]!]);
  }
}

export const fieldOrder = new FieldOrder();
