// A form made of a method's JSON Schema. The hub checks the params by the whole schema; this draws the simple part of it
// and leaves the rest to JSON.

import type { Fault } from './model';

export interface FormField {
  name: string;
  kind: 'text' | 'number' | 'integer' | 'boolean' | 'choice';
  required: boolean;
  secret: boolean;
  description: string;
  choices: unknown[];
  /** What the hub fills in when the field is left empty, as text. */
  preset: string;
}

/** What a field holds: the text of an input, or the place of a choice. Empty is not given. */
export type FormValues = Record<string, string>;

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The fields of an object whose members are all simple; undefined: this schema needs JSON. */
export function formFields(schema: unknown): FormField[] | undefined {
  if (!isObject(schema) || (schema['type'] !== undefined && schema['type'] !== 'object') || !isObject(schema['properties'])) return undefined;
  if (['$ref', 'allOf', 'anyOf', 'oneOf', 'if', 'patternProperties'].some((keyword) => keyword in schema)) return undefined;
  const required = Array.isArray(schema['required']) ? schema['required'] : [];
  const properties = schema['properties'];
  // A name that the schema needs and does not describe cannot be drawn.
  if (required.some((name) => !(name in properties))) return undefined;
  const fields: FormField[] = [];
  for (const [name, member] of Object.entries(properties)) {
    const field = formField(name, resolve(member, schema), required.includes(name));
    if (field === undefined) return undefined;
    fields.push(field);
  }
  return fields.length > 0 ? fields : undefined;
}

function formField(name: string, member: unknown, required: boolean): FormField | undefined {
  if (!isObject(member)) return undefined;
  const choices = Array.isArray(member['enum']) ? member['enum'] : [];
  const kinds = { string: 'text', number: 'number', integer: 'integer', boolean: 'boolean' } as const;
  const type = member['type'];
  const kind = choices.length > 0 ? 'choice' : typeof type === 'string' && type in kinds ? kinds[type as keyof typeof kinds] : undefined;
  if (kind === undefined) return undefined;
  const text = (key: string) => (typeof member[key] === 'string' ? (member[key] as string) : '');
  return {
    name, kind, required, choices,
    secret: member['writeOnly'] === true || member['x-secret'] === true,
    description: text('description') || text('title'),
    preset: 'default' in member ? choiceText(member['default']) : '',
  };
}

/** Follows references into the schema's own definitions. */
function resolve(member: unknown, schema: Json): unknown {
  let found = member;
  for (let i = 0; i < 8 && isObject(found) && typeof found['$ref'] === 'string'; i++) {
    const match = /^#\/(\$defs|definitions)\/([^/]+)$/.exec(found['$ref']);
    const defs: unknown = match ? schema[match[1]!] : undefined;
    found = match && isObject(defs) ? defs[match[2]!] : undefined;
  }
  return found;
}

/** How a value stands among the choices. */
export function choiceText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The params that a form holds. What is no number is sent as it is: the hub says what is wrong with it. */
export function formParams(fields: readonly FormField[], values: FormValues): Record<string, unknown> {
  const params: Record<string, unknown> = {};
  for (const field of fields) {
    const text = values[field.name] ?? '';
    if (text === '') continue;
    params[field.name] = fieldValue(field, text);
  }
  return params;
}

function fieldValue(field: FormField, text: string): unknown {
  switch (field.kind) {
    case 'text':
      return text;
    case 'boolean':
      return text === 'true';
    case 'choice':
      return field.choices[Number(text)];
    default: {
      const value = Number(text);
      return text.trim() !== '' && Number.isFinite(value) ? value : text;
    }
  }
}

/** What is wrong with each field, by the JSON pointers (RFC 6901) of the faults. */
export function faultsByField(faults: readonly Fault[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { pointer = '', message } of faults) {
    const name = (pointer.split('/')[1] ?? '').replaceAll('~1', '/').replaceAll('~0', '~');
    found[name] = found[name] === undefined ? message : `${found[name]}; ${message}`;
  }
  return found;
}
