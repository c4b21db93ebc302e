// What the pages of bridges and discovered devices compute of what REST says.
import type { Bridge, Discovered } from './model';

export type BridgeState = 'serves' | 'connected' | 'away';

export function bridgeState(bridge: Bridge): BridgeState {
  if (!bridge.connected) return 'away';
  return bridge.kind === 'embedded' ? 'serves' : 'connected';
}

/** Counts by reason, the largest first. */
export function byCount(counts: Record<string, number>): [string, number][] {
  return Object.entries(counts).sort(([a, n], [b, k]) => k - n || (a < b ? -1 : 1));
}

export function total(counts: Record<string, number>): number {
  return Object.values(counts).reduce((sum, n) => sum + n, 0);
}

/** Reports whether each word, in lower case, is in what is known of a device. */
export function discoveredMatches(device: Discovered, words: readonly string[]): boolean {
  const text = [device.id, device.name, device.type, device.model, device.bridge].join('\n').toLowerCase();
  return words.every((word) => text.includes(word));
}

/**
 * A payload as people read it: an object or list of JSON set out, other text as it is; undefined where it is no text.
 * What would not come out as it went in, such as a number with more digits than a browser keeps, stays as it is.
 */
export function payloadText(message: { payload?: string; payload_base64?: string }): string | undefined {
  if (message.payload_base64 !== undefined && message.payload_base64 !== '') return undefined;
  const text = message.payload ?? '';
  try {
    const value: unknown = JSON.parse(text);
    const whole = typeof value === 'object' && value !== null && JSON.stringify(value) === text.trim();
    return whole ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text; // cut, or no JSON
  }
}
