// Package api owns what operators, and devices that hold no socket, say to the hub over HTTP: the REST API under
// /api/v1 with its OpenAPI 3.1 document, the live stream of server-sent events, login, health and metrics.
//
// It does not own the things it shows. The registry, the sessions, the command ledger, the journal and the store are
// reached through the small interfaces of deps.go; nothing is cached here. It does not listen either: the program
// mounts [Server.Handler] on its listener and sets the time limits of headers and idle connections.
//
// Every operation says in the OpenAPI document which role it needs (x-hub-role), and that same word is what the server
// enforces, so the document cannot promise other than what is done. A caller is known by "Authorization: Bearer TOKEN"
// or by the cookie of a login; a request that changes something by cookie must come from the hub's own pages.
//
// An operator with a scope sees and commands only the devices with one of its tags. scope.go is the one place that says
// how each operation keeps to it (x-hub-scope) and enforces it; an operation that it does not know is refused to such an
// operator. What is outside the scope is answered in the words for what does not exist.
//
// Errors are application/problem+json (RFC 9457) with a machine-readable reason, made in one place (problem.go). What
// that place does not know is logged and told as "internal", never as its text.
//
// Under overload: bodies have a limit each and a time to arrive; a live stream has a bounded queue, loses what does not
// fit and is told how much ("missed"), and ends when its client takes nothing for a while; streams above the limit are
// refused with 503; wrong tokens are answered with 429 above a rate, right ones never. Telemetry waits for its commit, that is for the journal.
//
// Files in reading order: deps.go (what it needs), server.go (mounting), exchange.go (around every request),
// operators.go (who may), scope.go (of which devices), accounts.go, login.go, problem.go (errors), timespec.go (times in queries), devices.go and change.go, limits.go (what holds for a device), certificates.go (for devices), import.go (many devices),
// telemetry.go (a device posts), history.go (readings back), commands.go, rollouts.go and rolloutview.go, state.go (desired and reported), live.go and stream.go (server-sent events),
// audit.go, acts.go and refusals.go (the audit log), quarantine.go, replay.go, types.go, devicetypes.go (what commands
// devices take), bridges.go, discovery.go and whybridge.go (what MQTT bridges bring), health.go.
package api
