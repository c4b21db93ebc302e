import { describe, expect, it } from 'vitest';
import { members, patchOf, stateRows } from '../../src/lib/state';

describe('a state', () => {
  it('is shown member by member, what differs first', () => {
    const rows = stateRows({
      device: 'd',
      version: 7,
      desired: { interval: 20, net: { dns: 'x', list: [1, 2] } },
      reported: { interval: 10, free: {}, a: null, net: { list: [1, 2] } },
      delta: { interval: 20, net: { dns: 'x' } },
      metadata: { desired: { interval: 1000, net: { dns: 1000, list: 1000 } }, reported: { interval: 2000, free: {}, net: { list: 500 } } },
    });
    expect(rows).toEqual([
      { name: 'interval', desired: '20', reported: '10', differs: true, at: 2000 },
      { name: 'net.dns', desired: '"x"', differs: true, at: 1000 },
      { name: 'a', reported: 'null', differs: false, at: undefined },
      { name: 'free', reported: '{}', differs: false, at: undefined },
      { name: 'net.list', desired: '[1,2]', reported: '[1,2]', differs: false, at: 1000 },
    ]);
  });

  it('has no members where there is none', () => {
    expect(members({}).size).toBe(0);
    expect(members(undefined).size).toBe(0);
  });
});

describe('a change', () => {
  it.each([
    ['interval', '20', { interval: 20 }],
    ['net.dns', ' 1.1.1.1 ', { net: { dns: '1.1.1.1' } }],
    ['a.b.c', '', { a: { b: { c: null } } }],
    ['mode', '"5"', { mode: '5' }],
    ['on', 'true', { on: true }],
  ])('of %s to %s is a merge patch', (name, text, want) => {
    expect(patchOf(name, text)).toEqual(want);
  });

  it.each(['', '  ', 'a..b', '.a', 'a.'])('needs a name: %s', (name) => {
    expect(patchOf(name, '1')).toBeUndefined();
  });
});
