import { expect, test } from 'vitest';
import { FieldOrder } from '../../src/lib/fields';
import { formatAge, formatNumber, formatRate, formatSpan, formatUnit, formatValue, newest, parseTime } from '../../src/lib/format';

const units = { s: 's', min: 'min', h: 'h', d: 'd' };

test('numbers are short and true', () => {
  expect([20.48, 0, -3, 1e6, 0.1 + 0.2, 123456.789].map(formatNumber)).toEqual(['20.48', '0', '-3', '1000000', '0.3', '123456.8']);
  expect([1.5e-7, 2.5e12 + 0.5].map(formatNumber)).toEqual(['1.500e-7', '2.500e+12']);
});

test('what is not known is a dash, never a nought', () => {
  expect([formatValue(null), formatValue(undefined), formatNumber(Number.NaN), formatAge(Number.NaN, units), formatRate(undefined)]).toEqual(
    Array(5).fill('—'),
  );
  expect(formatValue(false)).toBe('false');
  expect(formatValue('')).toBe('""');
  expect(newest(undefined)).toBeNaN();
  expect(newest({ a: { value: 1, ts: 5 }, b: { value: 1, ts: 9 }, c: { value: 1, ts: 7 } })).toBe(9);
});

test('ages', () => {
  const ages = [-5_000, 4_900, 65_000, 600_000, 3_600_000 * 3 + 12 * 60_000, 86_400_000 * 6].map((ms) => formatAge(ms, units));
  expect(ages).toEqual(['0 s', '4 s', '1 min 05 s', '10 min', '3 h 12 min', '6 d']);
  expect([formatSpan(12.4, units), formatSpan(3200, units)]).toEqual(['12 ms', '3.2 s']);
});

test('units are written as people do', () => {
  const said = { T: 'Cel', P: 'Pa', on: '/' };
  expect(['T', 'P', 'on', 'x', 'constructor'].map((field) => formatUnit(said, field))).toEqual(['°C', 'Pa', '', '', '']);
  expect(formatUnit(undefined, 'T')).toBe('');
});

test('the zero time is no time', () => {
  expect(parseTime('0001-01-01T00:00:00Z')).toBeNaN();
  expect(parseTime(undefined)).toBeNaN();
  expect(parseTime('2026-11-23T10:00:00Z')).toBe(Date.UTC(2026, 10, 23, 10));
});

test('measurements stand before states, and stay there', () => {
  const order = new FieldOrder();
  const row = (temp: number) => order.entries({ Act: { value: 1 }, Door: { value: true }, Temp: { value: temp }, Zone: { value: 'a.5' } }).map(([name]) => name);
  expect(row(21)).toEqual(['Act', 'Door', 'Temp', 'Zone']);
  expect(row(21.5)).toEqual(['Temp', 'Act', 'Door', 'Zone']);
  expect(row(22)).toEqual(['Temp', 'Act', 'Door', 'Zone']);
});
