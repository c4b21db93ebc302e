import { expect, test } from 'vitest';
import type { Command, CommandState } from '../../src/lib/model';
import { newerCommand } from '../../src/lib/model';
import { parseParams } from '../../src/lib/params';
import { parsePath } from '../../src/lib/router.svelte';
import { snippets } from '../../src/lib/snippets';

function command(...states: CommandState[]): Command {
  const time = '2026-11-23T10:00:00Z';
  return { id: 'X', device: 'A-1', method: 'ping', created: time, state: states[states.length - 1]!, history: states.map((state) => ({ state, time })) };
}

test('of two reports of a command the one that knows more wins, in either order', () => {
  const sent = command('accepted', 'sent');
  const done = command('accepted', 'sent', 'done');
  const late = command('accepted', 'sent', 'unknown', 'done');
  expect(newerCommand(sent, done)).toBe(done);
  expect(newerCommand(done, sent)).toBe(done);
  expect(newerCommand(command('accepted', 'sent', 'unknown'), late)).toBe(late);
  expect(newerCommand({ ...sent, history: null }, { ...done, history: null }).state).toBe('done');
  const further = { ...sent, progress: { percent: 50 } };
  expect(newerCommand(further, sent)).toBe(further);
});

test('parameters are an object, a list or nothing', () => {
  expect(parseParams('  ')).toEqual({ ok: true, value: undefined });
  expect(parseParams('{"a":[1]}')).toEqual({ ok: true, value: { a: [1] } });
  expect(parseParams('[1]')).toEqual({ ok: true, value: [1] });
  for (const text of ['5', '"x"', 'null', 'true']) expect(parseParams(text)).toMatchObject({ ok: false, error: 'shape' });
  for (const text of ['{', '{a:1}', '{"a":}', 'NaN']) expect(parseParams(text)).toMatchObject({ ok: false, error: 'syntax' });
});

test('addresses', () => {
  expect(parsePath('/')).toEqual({ name: 'devices' });
  expect(parsePath('/devices/a%3Ab')).toEqual({ name: 'device', id: 'a:b' });
  expect(parsePath('/devices/node.1/')).toEqual({ name: 'device', id: 'node.1' });
  expect(parsePath('/devices/%E0%A4%A')).toEqual({ name: 'unknown' });
  expect(parsePath('/devices/a/b')).toEqual({ name: 'unknown' });
});

test('every line to paste bears the device and its token', () => {
  const all = snippets('cellar:1', 'dev_secret-_1', { host: 'hub.lan:8443', hostname: 'hub.lan', protocol: 'https:' });
  expect(all.map((s) => s.key)).toEqual(['mqtt', 'python', 'http']);
  for (const snippet of all) {
    expect(snippet.text).toContain('dev_secret-_1');
    expect(snippet.text).toMatch(/cellar(:|%3A)1/);
    expect(snippet.text).toContain('ca.pem');
  }
});
