// Command hubctl is the operator's command line of Telemetry Hub. It speaks the REST API only, by package
// api/client, so that whatever it can do any other program can do too.
//
// It owns the words of the command line, the tables for people, the JSON for scripts and the exit status. It keeps
// no state and asks no questions: it never waits for a key. Devices' texts are printed without their control characters.
//
// Overload: lists are printed as their pages come, nothing is collected that has no bound, except for --json arrays.
// watch reconnects at a growing pace and says what it missed.
//
// Files in reading order: main.go, run.go (the command line as a struct, global flags), exit.go (the exit status),
// output.go (tables, JSON), devices.go, bridge.go, discovery.go (seen on a bridge, not registered), limits.go, certificates.go, send.go, values.go (key=value), ledger.go (commands), rollout.go (send --to), rollouts.go, watch.go, history.go,
// status.go (health, metrics, version), audit.go, acts.go (the audit log), operators.go (who may), methods.go (what devices take), quarantine.go, replay.go, types.go, completion.go.
package main
