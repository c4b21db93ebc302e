import { expect, test } from 'vitest';
import { SseParser } from '../../src/lib/sse';

const stream = ': hello\n\nevent: telemetry\ndata: {"a":1}\n\ndata: one\r\ndata:two\rid: 7\r\n\r\nevent: empty\n\nnot a field\ndata\n\n';
const events = [
  { type: 'telemetry', data: '{"a":1}', id: '' },
  { type: 'message', data: 'one\ntwo', id: '7' },
  { type: 'message', data: '', id: '7' },
];

test('reads events, comments, all three line ends', () => {
  expect(new SseParser().push(stream)).toEqual(events);
});

test('wherever the stream is cut the events are the same', () => {
  for (let size = 1; size < 12; size++) {
    const parser = new SseParser();
    const seen = [];
    for (let at = 0; at < stream.length; at += size) seen.push(...parser.push(stream.slice(at, at + size)));
    expect(seen).toEqual(events);
  }
});

test('an event without its blank line has not happened', () => {
  expect(new SseParser().push('data: half\n')).toEqual([]);
});
