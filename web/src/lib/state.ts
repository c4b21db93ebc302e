// A device's state: what operators desire of it and what it reported, member by member.
import type { DeviceState } from './model';

export interface StateRow {
  /** Dotted within objects. */
  name: string;
  desired?: string; // as JSON; absent: there is none
  reported?: string;
  differs: boolean;
  /** When the newer of the two came, ms since the epoch; undefined: not known. */
  at: number | undefined;
}

/** The values of a document, lists whole, by dotted name. An empty object is a value. */
export function members(document: unknown): Map<string, unknown> {
  const found = new Map<string, unknown>();
  const walk = (prefix: string, value: unknown): void => {
    const inner = isObject(value) ? Object.entries(value) : [];
    if (inner.length === 0) {
      if (prefix !== '') found.set(prefix, value);
      return;
    }
    for (const [name, member] of inner) walk(prefix === '' ? name : `${prefix}.${name}`, member);
  };
  walk('', document);
  return found;
}

/** What differs first, then by name. */
export function stateRows(state: DeviceState): StateRow[] {
  const desired = members(state.desired);
  const reported = members(state.reported);
  const delta = members(state.delta);
  const desiredAt = members(state.metadata?.desired);
  const reportedAt = members(state.metadata?.reported);
  const rows = [...new Set([...desired.keys(), ...reported.keys()])].map((name): StateRow => {
    const times = [desiredAt.get(name), reportedAt.get(name)].filter((time) => typeof time === 'number');
    const row: StateRow = { name, differs: delta.has(name), at: times.length > 0 ? Math.max(...times) : undefined };
    if (desired.has(name)) row.desired = JSON.stringify(desired.get(name));
    if (reported.has(name)) row.reported = JSON.stringify(reported.get(name));
    return row;
  });
  return rows.sort((a, b) => Number(b.differs) - Number(a.differs) || (a.name < b.name ? -1 : 1));
}

/** A merge patch that sets one member, dotted within objects; empty text removes it. What is no JSON is text. */
export function patchOf(name: string, text: string): Record<string, unknown> | undefined {
  const path = name.trim().split('.');
  if (path.some((part) => part === '')) return undefined;
  let value: unknown = null;
  if (text.trim() !== '') {
    try {
      value = JSON.parse(text);
    } catch {
      value = text.trim();
    }
  }
  return path.reduceRight<unknown>((inner, part) => ({ [part]: inner }), value) as Record<string, unknown>;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
