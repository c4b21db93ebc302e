import { describe, expect, test } from 'vitest';
import { faultsByField, formFields, formParams } from '../../src/lib/schema';

const schema = {
  type: 'object',
  required: ['watts', 'psk'],
  additionalProperties: false,
  properties: {
    watts: { type: 'integer', minimum: 0, description: 'Highest power' },
    ratio: { $ref: '#/$defs/ratio' },
    mode: { enum: ['slow', 2, null], default: 'slow' },
    on: { type: 'boolean', default: false },
    psk: { type: 'string', writeOnly: true },
  },
  $defs: { ratio: { type: 'number', title: 'A part' } },
};

describe('a form of a schema', () => {
  const fields = formFields(schema)!;
  test('has a field for each member', () => {
    expect(fields.map((f) => [f.name, f.kind, f.required, f.secret, f.description, f.preset])).toEqual([
      ['watts', 'integer', true, false, 'Highest power', ''],
      ['ratio', 'number', false, false, 'A part', ''],
      ['mode', 'choice', false, false, '', 'slow'],
      ['on', 'boolean', false, false, '', 'false'],
      ['psk', 'text', true, true, '', ''],
    ]);
  });
  test('gives params of the right types, and leaves out what is empty', () => {
    expect(formParams(fields, { watts: '500', ratio: '0.5', mode: '1', on: 'true', psk: '007' })).toEqual({ watts: 500, ratio: 0.5, mode: 2, on: true, psk: '007' });
    expect(formParams(fields, { watts: '', mode: '', on: 'false' })).toEqual({ on: false });
    expect(formParams(fields, { watts: 'many' })).toEqual({ watts: 'many' }); // the hub says what is wrong
  });
  test.each([
    [undefined], [true], [{}], [{ type: 'array' }], [{ type: 'object', properties: {} }],
    [{ properties: { a: { type: 'object' } } }], [{ properties: { a: {} } }], [{ properties: { a: { type: ['string', 'null'] } } }],
    [{ properties: { a: { $ref: '#/$defs/none' } } }], [{ properties: { a: { type: 'string' } }, oneOf: [] }],
    [{ properties: { a: { type: 'string' } }, required: ['b'] }],
  ])('%j needs JSON', (other) => expect(formFields(other)).toBeUndefined());
  test('finds the field of a fault', () => {
    expect(faultsByField([{ pointer: '/watts', message: 'a' }, { pointer: '/a~1b~0c/0', message: 'b' }, { pointer: '/watts', message: 'c' }, { message: 'd' }]))
      .toEqual({ watts: 'a; c', 'a/b~c': 'b', '': 'd' });
  });
});
