// Device-sim is a fleet of simulated devices: the hub's load generator, and the judge of its promises "acked means
// safe" and "stored once, in effect".
//
// It owns the devices' side of the protocol, written apart from the hub's (of package wire only the constants are
// used), so that a mistake there is not repeated here. What devices say is in package readings, the comparison with
// what was stored in package judge. It does not start, stop or break the hub.
//
// Rule for overload: a device sends at most --window frames ahead of the hub's acknowledgements; what it cannot send
// yet waits in memory, through any number of reconnections, and above maxBacklog readings a device stops measuring, and
// what it skipped is counted. Nothing that was sent is forgotten before it is acknowledged.
//
// How a run goes: devices are registered (one that exists gets a new token), or enrol themselves, and connect; when all are connected or
// their time is up, the readings begin; they end with --duration, with the file's end, or gently at the first Ctrl-C;
// then the devices wait for the acknowledgements that are missing, and with --verify everything is read back: the points,
// and the ledger's words about each command, which are held against what the devices did.
//
// Reading order: main.go, flags.go, run.go, fleet.go, schedule.go, device.go, outbox.go, frames.go, encoding.go, link.go,
// wsslink.go, mqttlink.go, conn.go, commands.go, enrol.go, credentials.go, executions.go, state.go, backoff.go, faults.go, verify.go, tally.go, progress.go, summary.go.
package main
