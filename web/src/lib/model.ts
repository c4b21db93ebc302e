// The REST shapes the dashboard reads. Members that the hub leaves out when empty are optional here.

export type FieldValue = number | boolean | string;

export interface Latest {
  value: FieldValue;
  ts: number; // ms since the epoch, as measured
}

export interface Device {
  id: string;
  type?: string;
  tags?: string[];
  attributes?: Record<string, string>;
  enabled?: boolean;
  created?: string;
  /** By which enrolment key it came; absent where an operator made it. */
  enrolled?: { key: string; at: string; confirmed: boolean };
  /** How it came that a bridge had seen; rule or by says who let it in. */
  admitted?: { bridge: string; rule?: string; by?: string; at: string };
  online: boolean;
  transport?: string;
  remote?: string;
  connected_at?: string;
  last_seen?: string;
  disconnected_at?: string;
  cause?: string;
  version?: number; // of its last presence change; the live stream's compare with it
  frozen?: Freeze;
  unresponsive_since?: string;
  silence?: { survived_s?: number; lost_s?: number; losses?: number };
  firmware?: string;
  model?: string;
  methods?: string[];
  clock_offset_ms?: number;
  units?: Record<string, string>;
  measurement?: string; // its home: that of latest and of the series
  latest?: Record<string, Latest>;
}

export interface DevicePage {
  devices: Device[] | null;
  next?: string;
}

export interface CreatedDevice extends Device {
  token: string;
}

export interface Reading {
  ts: number;
  values: Record<string, FieldValue | null>;
}

export interface ReadingPage {
  readings: Reading[] | null;
  next?: string;
}

export interface LatestAnswer {
  device: string;
  values: Record<string, Latest> | null;
}

export const commandStates = [
  'accepted', 'queued', 'sent', 'received', 'running', 'done', 'failed', 'rejected', 'expired', 'cancelled', 'unknown',
] as const;
export type CommandState = (typeof commandStates)[number];

export interface CommandChange {
  state: CommandState;
  time: string;
  cause?: string;
  actor?: string;
}

export interface Command {
  id: string;
  device: string;
  method: string;
  params?: unknown;
  state: CommandState;
  delivery?: string;
  result?: unknown;
  error?: unknown;
  progress?: { percent?: number; message?: string };
  late?: boolean;
  created: string;
  expires?: string;
  timeout_ms?: number;
  actor?: string;
  history?: CommandChange[] | null;
}

export interface CommandPage {
  commands: Command[] | null;
  next?: string;
}

/** A command that a device takes. */
export interface DeviceMethod {
  name: string;
  description?: string;
  params?: unknown; // a JSON Schema
  timeout_ms?: number;
  delivery?: string;
  role: string;
  listed: boolean;
  announced: boolean;
  taken: boolean;
}

export interface DeviceMethods {
  type?: string;
  methods: DeviceMethod[];
  other_methods: string;
}

/** One thing that is wrong with a request. */
export interface Fault {
  location?: string;
  pointer?: string; // into a command's params
  message: string;
}

export interface CommandRequest {
  method: string;
  params?: unknown;
  delivery?: string;
}

export interface Me {
  name: string;
  role: string;
  /** Which devices are one's own; absent: all. */
  scope?: { tags: string[] };
}

/** What operators desire of a device and what it reported; its documents are objects. */
export interface DeviceState {
  device: string;
  version: number;
  desired: Record<string, unknown>;
  reported: Record<string, unknown>;
  delta: Record<string, unknown>;
  metadata?: { desired: Record<string, unknown>; reported: Record<string, unknown> }; // only when it was asked for
  desired_by?: string;
}

/** Something in a device's life on the line; alike ones are one, with their count. */
export interface DeviceEvent {
  kind: string;
  reason?: string;
  message?: string;
  remote?: string;
  count: number;
  last: string;
}

export interface Why {
  device: string;
  diagnosis: string[];
  events: DeviceEvent[]; // the newest first
}

/** A device that a bridge has seen and that is not registered. */
export interface Discovered {
  id: string;
  bridge: string;
  topic: string;
  payload?: string; // of the last message, cut, where it is text
  payload_base64?: string; // the same, where it is not
  size: number; // bytes, before it was cut
  retained?: boolean;
  announced?: boolean;
  type?: string;
  name?: string;
  model?: string;
  firmware?: string;
  first: string;
  last: string;
  count: number;
  held?: string; // why the rule that is for it has not admitted it
}

export interface IgnoredDevice {
  id: string;
  by?: string;
  at: string;
}

/** A message that a bridge has not taken. */
export interface RefusedMessage {
  time: string;
  topic: string;
  payload?: string;
  payload_base64?: string;
  size: number;
  device?: string;
  reason: string;
  message: string;
}

/** An MQTT broker that brings devices. */
export interface Bridge {
  name: string;
  kind: 'embedded' | 'external';
  address?: string;
  connected: boolean;
  since?: string;
  failure?: string;
  last_failure?: string;
  full?: boolean;
  received: number;
  stored: number;
  unmapped: number;
  refused: Record<string, number>;
  redelivered: number;
  commands: number;
  reconnects: number;
  devices: number;
  in_flight: number;
  per_second: number;
  lag_ms: number;
  ack_ms: { p50: number; p99: number; max: number };
  examples?: RefusedMessage[];
}

// What the live stream carries.
export interface TelemetryEvent {
  device: string;
  measurement?: string;
  readings: Reading[];
}

/** Several devices used one identity and displaced each other: nobody is let in by it. */
export interface Freeze {
  since: string;
  until?: string; // absent: until an operator ends it
  count: number;
  sides: { remote: string; boot?: string; transport: string }[] | null;
}

export interface PresenceEvent {
  device: string;
  what?: string; // connected, disconnected, frozen, unfrozen, unresponsive, responsive
  online: boolean;
  transport?: string;
  time?: string;
  cause?: string;
  version?: number;
  frozen?: Freeze;
  unresponsive_since?: string;
}

const finalStates: ReadonlySet<string> = new Set(['done', 'failed', 'rejected', 'expired', 'cancelled', 'unknown']);

export function isFinal(state: CommandState): boolean {
  return finalStates.has(state);
}

/**
 * Of two reports of the same command, the one that knows more. The answer to the request, the list and the live stream
 * come in any order; a late answer may follow a final state, so the length of the history decides.
 */
export function newerCommand(fresh: Command, known: Command): Command {
  const changes = (c: Command) => c.history?.length ?? 0;
  if (changes(fresh) !== changes(known)) return changes(fresh) > changes(known) ? fresh : known;
  return isFinal(known.state) && !isFinal(fresh.state) ? known : fresh; // no change of state may still be progress
}
