import { describe, expect, it } from 'vitest';
import { applyPresence, withPresence } from '../../src/lib/fleet.svelte';
import type { Device } from '../../src/lib/model';

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();
const known = (): Device => ({ id: 'd1', online: true, version: 10, connected_at: at(10) });

describe('presence', () => {
  it('takes newer changes and never an older one', () => {
    const device = known();
    expect(applyPresence(device, { device: 'd1', what: 'disconnected', online: false, version: 9, time: at(9), cause: 'old' })).toBe(false);
    expect(device).toEqual(known());
    expect(applyPresence(device, { device: 'd1', what: 'disconnected', online: false, version: 12, time: at(12), cause: 'gone' })).toBe(true);
    expect(device).toMatchObject({ online: false, version: 12, cause: 'gone', disconnected_at: at(12) });
    expect(applyPresence(device, { device: 'd1', what: 'connected', online: true, version: 11, time: at(11) })).toBe(false);
    expect(device.online).toBe(false);
  });

  it('keeps what the stream said when an answer that was asked for before comes late', () => {
    const heard: Device = { ...known(), online: false, version: 12, cause: 'gone' };
    expect(withPresence({ ...known(), firmware: '2' }, heard)).toMatchObject({ online: false, version: 12, cause: 'gone', firmware: '2' });
    expect(withPresence({ ...known(), version: 13 }, heard)).toMatchObject({ online: true, version: 13 });
  });

  it('marks and unmarks without a new connection', () => {
    const device = known();
    applyPresence(device, { device: 'd1', what: 'unresponsive', online: true, version: 11, time: at(20), unresponsive_since: at(5) });
    expect(device).toMatchObject({ online: true, connected_at: at(10), unresponsive_since: at(5) });
    applyPresence(device, { device: 'd1', what: 'responsive', online: true, version: 12, time: at(30) });
    expect(device.unresponsive_since).toBeUndefined();
    expect(device.connected_at).toBe(at(10));
    const frozen = { since: at(40), count: 4, sides: [] };
    applyPresence(device, { device: 'd1', what: 'frozen', online: false, version: 13, time: at(40), cause: 'frozen as a clone', frozen });
    expect(device).toMatchObject({ online: false, frozen, disconnected_at: at(40) });
    applyPresence(device, { device: 'd1', what: 'unfrozen', online: false, version: 14, time: at(50) });
    expect(device).toMatchObject({ frozen: undefined, disconnected_at: at(40) });
  });
});
