import { expect, test } from 'vitest';
import { bridgeState, byCount, discoveredMatches, payloadText, total } from '../../src/lib/bridges';
import type { Bridge, Discovered } from '../../src/lib/model';
import { parsePath } from '../../src/lib/router.svelte';

test('a bridge serves, is connected, or is away', () => {
  const of = (kind: Bridge['kind'], connected: boolean) => bridgeState({ kind, connected } as Bridge);
  expect([of('embedded', true), of('external', true), of('external', false), of('embedded', false)]).toEqual(['serves', 'connected', 'away', 'away']);
});

test('reasons come by their count', () => {
  const refused = { unmapped: 3, bad_json: 7, another: 3 };
  expect(byCount(refused)).toEqual([['bad_json', 7], ['another', 3], ['unmapped', 3]]);
  expect([total(refused), total({})]).toEqual([13, 0]);
});

test('a discovered device is found by all words in what is known of it', () => {
  const device = { id: 'zb-0x01', name: 'Desk Lamp', type: 'light', bridge: 'home' } as Discovered;
  expect(discoveredMatches(device, ['desk', 'light'])).toBe(true);
  expect(discoveredMatches(device, ['desk', 'heater'])).toBe(false);
  expect(discoveredMatches(device, ['undefined'])).toBe(false); // what is not known is not a word
});

test('payloads are set out where they are JSON, and never more than text', () => {
  expect(payloadText({ payload: '{"a":[1]}' })).toBe('{\n  "a": [\n    1\n  ]\n}');
  expect(payloadText({ payload: '{"a":[1' })).toBe('{"a":[1'); // cut
  expect(payloadText({ payload: '{"t":1458031648545123456}' })).toBe('{"t":1458031648545123456}');
  expect(payloadText({ payload: '21.5' })).toBe('21.5');
  expect(payloadText({ payload: '1.0000000000000000001' })).toBe('1.0000000000000000001'); // not as a browser would round it
  expect(payloadText({})).toBe('');
  expect(payloadText({ payload_base64: '/w==' })).toBeUndefined();
});

test('the pages have addresses', () => {
  expect([parsePath('/bridges').name, parsePath('/discovered/').name, parsePath('/bridges/x').name]).toEqual(['bridges', 'discovered', 'unknown']);
});
