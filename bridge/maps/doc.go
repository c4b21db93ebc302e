// Package maps is the language that says what the messages of MQTT devices mean: which device, measurement, fields, time
// and units a topic and its payload are, and which topic and payload a command is. docs/maps.md shows it by examples.
//
// [Compile] makes a [Set] of groups (a broker's own configuration, or a preset) and finds all that is wrong with them:
// two maps that one message could be for are an error, which names both. [Set.Up] turns a message into outcomes, or
// refuses it whole with a reason; [Set.Down] turns a command into messages, and says how its outcome is known.
// [Set.Prove] runs the examples that stand beside the maps.
//
// It does not connect, store or decide anything: who may be a device, and what becomes of an outcome, is the bridge's.
//
// # Bounds
//
// A payload is read by wire's strict decoder, with its limits. An expression is bounded in time and memory whatever
// comes in (program.go). One message becomes at most 10,000 outcomes.
//
// # Files in reading order
//
// config.go (the language), pattern.go (topics), value.go (values and filters), template.go (paths and templates),
// program.go (expressions), payload.go, clock.go, set.go (compiling), subscriptions.go, outcome.go, up.go, reading.go,
// command.go, down.go, owner.go (what a bridge asks), listening.go (where a device listens), shown.go (outcomes for people),
// types.go (what people may send), prove.go (examples).
package maps
