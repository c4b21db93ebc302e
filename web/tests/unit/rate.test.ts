import { expect, test } from 'vitest';
import { RateMeter } from '../../src/lib/rate';

test('says nothing before it has heard two whole seconds', () => {
  const meter = new RateMeter();
  expect(meter.rate(5_000)).toBeUndefined();
  meter.start(10_500);
  meter.add(3, 10_600);
  expect(meter.rate(12_900)).toBeUndefined();
  expect(meter.rate(13_000)).toBe(0);
});

test('is the mean of the last whole seconds, without the running one', () => {
  const meter = new RateMeter();
  meter.start(10_000);
  for (let ms = 10_000; ms < 20_000; ms += 100) meter.add(1, ms);
  meter.add(1000, 20_100);
  expect(meter.rate(20_200)).toBe(10);
});

test('forgets when nothing comes', () => {
  const meter = new RateMeter();
  meter.start(10_000);
  meter.add(100, 12_500);
  expect(meter.rate(15_000)).toBe(20);
  expect(meter.rate(40_000)).toBe(0);
});

test('after a new start the past does not count', () => {
  const meter = new RateMeter();
  meter.start(10_000);
  meter.add(100, 12_500);
  meter.start(13_000);
  expect(meter.rate(14_000)).toBeUndefined();
  expect(meter.rate(16_000)).toBe(0);
});
