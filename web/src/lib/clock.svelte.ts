// One ticking clock for every age on the page, in the hub's time: ages are differences between readings' times, which
// the hub has checked against its own clock, and now; a browser whose clock is wrong must not falsify them.

// The Date header has whole seconds, so a smaller difference is noise.
const NOISE_MS = 1500;

let offsetMs = 0;

class Clock {
  now = $state(Date.now());

  start(): () => void {
    const timer = setInterval(() => (this.now = serverNow()), 1000);
    return () => clearInterval(timer);
  }
}

export const clock = new Clock();

/** Learns the hub's time from an answer's Date header; sent and received are this browser's times. */
export function noteServerTime(date: string | null, sent: number, received: number): void {
  const parsed = date === null ? Number.NaN : Date.parse(date);
  if (Number.isNaN(parsed) || received - sent > 2000) return;
  const difference = parsed + 500 - (sent + received) / 2;
  offsetMs = Math.abs(difference) < NOISE_MS ? 0 : difference;
}

export function serverNow(): number {
  return Date.now() + offsetMs;
}
