// Package devices owns who may connect and who is connected: the registry, the proof of identity, the sessions, the
// WebSocket connection and presence. What a device sends goes to a Sink, its state to a States and its answers to an
// Answers, all declared here and built elsewhere (devices/state keeps states); where the readings are kept and what a
// command's state is, it does not know.
//
// A session is one connection of one device, over whatever transport; the newest wins at once. A WebSocket connection
// has one goroutine that reads; writes are gathered in its outbox and written by a goroutine that lives only while
// there is something to write. No connection has a timer: one sweeper looks after pings, liveness and readiness.
//
// Overload: telemetry waits. While the journal or the device's own reading of our answers is behind, its socket is
// not read, TCP carries the pressure, and its liveness stands still. So it is with a device that is over its rates
// (throttle.go), which costs memory only while it is near them. A command that does not fit in the outbox is
// refused at once. A live view that does not keep up is told how much it missed.
//
// Files in reading order: registry.go and registry_store.go (who may), profile.go and limits.go (what holds for it), entry.go, importer.go and import_plan.go (many at once, all or none;
// devices/roster reads their lists), identity.go (who it is), enrolled.go and unconfirmed.go (who it is not yet; devices/enrolment has the keys), admitted.go (whom a bridge had seen; devices/discovery has those that are not admitted), proof.go and certificates.go (what it proved itself with), issuer.go, tokens.go, credentials.go, rotation.go and renewing.go (how it gets new ones), asking.go (requests of the hub's own), aside.go and uses.go, guard.go (whose proof is void), session.go and
// sessions.go (who is), clones.go (several with one identity), probe.go (whose program is dead), presence.go, since.go, clock.go and units.go (what is remembered of it; devices/presence tells others), recorder.go (what befell it), feed.go (who looks), admission.go (when it may come in) and postpone.go, connector.go (from request to
// WebSocket), violations.go (the rules that gorilla leaves), mqtt.go and stream.go (those that bear MQTT, which the broker serves), throttle.go and meter.go (who brings too much), conn.go (its reader), pace.go (what that means here), frames.go (what each frame means), telemetry.go (readings and their acks),
// journal.go (who waits for the journal is told so), outbox.go (its writer), desired.go (reported and desired state), keepalive.go (the sweeper), silence.go (what its networks bear), sockets.go (what TCP sees to).
package devices
