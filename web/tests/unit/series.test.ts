import { expect, test } from 'vitest';
import { SeriesBuffer, withGaps } from '../../src/lib/series';

const at = (ts: number, value: number) => ({ ts, values: { t: value } });

test('keeps readings in order of time, whatever order they come in', () => {
  const series = new SeriesBuffer(10);
  for (const ts of [3000, 1000, 2000, 5000, 4000]) series.add(at(ts, ts));
  expect(series.points('t')).toEqual([[1, 2, 3, 4, 5], [1000, 2000, 3000, 4000, 5000]]);
});

test('the same instant again replaces', () => {
  const series = new SeriesBuffer(10);
  series.add(at(1000, 1));
  series.add(at(1000, 2));
  series.add({ ts: 1000, values: { u: 9 } });
  expect(series.points('t')).toEqual([[1], [2]]);
  expect(series.points('u')).toEqual([[1], [9]]);
  expect(series.length).toBe(1);
});

test('a full ring drops the oldest and refuses what is older still', () => {
  const series = new SeriesBuffer(3);
  for (const ts of [1000, 2000, 3000, 4000, 5000]) series.add(at(ts, ts));
  expect(series.points('t')[0]).toEqual([3, 4, 5]);
  series.add(at(1000, 1));
  expect(series.points('t')[0]).toEqual([3, 4, 5]);
  series.add(at(4500, 4500));
  expect(series.points('t')).toEqual([[4, 4.5, 5], [4000, 4500, 5000]]);
});

test('rows that wrapped round the ring do not bear old values of other fields', () => {
  const series = new SeriesBuffer(2);
  series.add({ ts: 1000, values: { a: 1 } });
  series.add({ ts: 2000, values: { a: 2 } });
  series.add({ ts: 3000, values: { b: 3 } });
  expect(series.points('a')).toEqual([[2], [2]]);
  expect(series.points('b')).toEqual([[3], [3]]);
});

test('text, booleans, nulls and NaN are no points', () => {
  const series = new SeriesBuffer(4);
  series.add({ ts: 1000, values: { s: 'x', b: true, n: null, nan: Number.NaN } });
  expect(series.length).toBe(0);
  expect(series.fields).toEqual([]);
});

test('windows are means of what is newer than the history', () => {
  const series = new SeriesBuffer(10, 10_000);
  series.loadHistory([at(0, 5), at(10_000, 6)], 20_000);
  series.add(at(12_000, 100)); // in the hub's mean already
  series.add(at(21_000, 1));
  series.add(at(24_000, 3));
  series.add(at(24_000, 3)); // heard twice: in the answer and live
  series.add(at(31_000, 7));
  expect(series.points('t')).toEqual([[0, 10, 20, 30], [5, 6, 2, 7]]);
});

test('forgets what left the range', () => {
  const series = new SeriesBuffer(4);
  for (const ts of [1000, 2000, 3000]) series.add(at(ts, ts));
  series.dropBefore(2500);
  expect(series.points('t')[0]).toEqual([3]);
});

test('a time without readings is a gap', () => {
  const [times, values] = withGaps([0, 4, 8, 12, 60, 64], [1, 1, 1, 1, 2, 2]);
  expect(times).toEqual([0, 4, 8, 12, 36, 60, 64]);
  expect(values).toEqual([1, 1, 1, 1, null, 2, 2]);
});

test('jitter is no gap', () => {
  expect(withGaps([0, 3, 9, 12, 22], [1, 1, 1, 1, 1])[1]).not.toContain(null);
});
