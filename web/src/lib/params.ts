// A command's parameters as typed: checked before anything is sent.

export type ParamsError = 'syntax' | 'shape';
export type ParsedParams = { ok: true; value: unknown } | { ok: false; error: ParamsError; detail: string };

/** Empty text is no params. JSON-RPC takes an object or a list. */
export function parseParams(text: string): ParsedParams {
  if (text.trim() === '') return { ok: true, value: undefined };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { ok: false, error: 'syntax', detail: error instanceof Error ? error.message : '' };
  }
  if (typeof value !== 'object' || value === null) return { ok: false, error: 'shape', detail: '' };
  return { ok: true, value };
}

export function prettyJson(value: unknown): string {
  return JSON.stringify(value, null, 2) ?? '';
}
