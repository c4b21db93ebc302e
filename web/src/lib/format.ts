// Numbers, ages and times as people read them. What is not known is an em dash, never a nought.
import type { FieldValue, Latest } from './model';

export const NONE = '—';

/** A value short enough for a row: numbers to at most seven significant digits. */
export function formatValue(value: FieldValue | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  if (typeof value === 'number') return formatNumber(value);
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  return value === '' ? '""' : value;
}

export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
  const size = Math.abs(value);
  if (size >= 1e9 || size < 1e-4) return value.toExponential(3);
  return String(Number(value.toPrecision(7)));
}

export interface AgeUnits {
  s: string;
  min: string;
  h: string;
  d: string;
}

/** An age in its largest two sensible units: 4 s, 2 min 05 s, 3 h 12 min, 6 d. */
export function formatAge(ms: number, units: AgeUnits): string {
  if (!Number.isFinite(ms)) return NONE;
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} ${units.s}`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return `${minutes} ${units.min} ${String(seconds % 60).padStart(2, '0')} ${units.s}`;
  if (minutes < 60) return `${minutes} ${units.min}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} ${units.h} ${String(minutes % 60).padStart(2, '0')} ${units.min}`;
  const days = Math.floor(hours / 24);
  return `${days} ${units.d}`;
}

/** Milliseconds between two changes, for the story of a command. */
export function formatSpan(ms: number, units: AgeUnits): string {
  if (!Number.isFinite(ms)) return NONE;
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} ${units.s}`;
  return formatAge(ms, units);
}

/** ms of an RFC 3339 time, or NaN; the zero time that some encoders write counts as none. */
export function parseTime(text: string | undefined): number {
  if (text === undefined || text === '' || text.startsWith('0001-')) return Number.NaN;
  return Date.parse(text);
}

export function formatTime(ms: number, locale: string): string {
  if (!Number.isFinite(ms)) return NONE;
  return new Intl.DateTimeFormat(locale, {
    year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
  }).format(ms);
}

export function formatClock(ms: number): string {
  if (!Number.isFinite(ms)) return NONE;
  const d = new Date(ms);
  return [d.getHours(), d.getMinutes(), d.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

/** The measured time of the newest of a device's values; NaN when it has none. */
export function newest(latest: Record<string, Latest> | undefined): number {
  let ts = Number.NaN;
  for (const value of Object.values(latest ?? {})) {
    if (!(ts >= value.ts)) ts = value.ts;
  }
  return ts;
}

/** Readings a second: one decimal while it is small. */
export function formatRate(rate: number | undefined): string {
  if (rate === undefined || !Number.isFinite(rate)) return NONE;
  return rate < 10 ? rate.toFixed(1) : String(Math.round(rate));
}

/** SenML's symbols (RFC 8428 section 12.1) that people write otherwise. */
const SYMBOLS = new Map([['Cel', '°C'], ['%RH', '% RH'], ['%EL', '%'], ['Ohm', 'Ω'], ['lat', '°'], ['lon', '°'], ['/', ''], ['count', '']]);

/** The unit of a field, as the device said it, the way people write it; '' where it said none. */
export function formatUnit(units: Record<string, string> | undefined, field: string): string {
  if (units === undefined || !Object.hasOwn(units, field)) return '';
  const symbol = units[field] ?? '';
  return SYMBOLS.get(symbol) ?? symbol;
}
