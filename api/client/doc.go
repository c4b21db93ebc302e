// Package client speaks the hub's REST API: it is what hubctl and device-sim
// use, and what any Go program may use to operate a hub.
//
// It owns the shapes of the API's answers as a caller sees them, the reading
// of RFC 9457 problem documents, and the explanation of what went wrong before
// an answer came (no hub there, a certificate nobody signed for this machine).
// It does not own the device's connection, retries (a caller knows whether
// asking twice is safe) or any presentation.
//
// Overload: a Client keeps at most 16 idle connections and makes no goroutine
// of its own; an answer larger than 64 MiB and a live event larger than 8 MiB
// are refused as errors, they are never held in memory.
//
// Reading order: client.go (Config, one request), problem.go (errors),
// devices.go, telemetry.go, commands.go, rollouts.go, state.go, live.go (server-sent events),
// status.go (audit, health, metrics), quarantine.go, replay.go, types.go,
// acts.go (the audit log), operators.go, methods.go (what commands devices take),
// bridges.go, discovery.go (what MQTT bridges bring).
package client
