// Package wire owns the words on a device's connection: frames, readings, limits, error codes and close codes, and the
// codec that turns bytes into them and back. It knows no socket, no registry and no journal, and imports no other
// package of the project.
//
// Bytes from outside are decoded here and nowhere else. Decoding has two steps: jsontext checks that a frame is one
// strict JSON value (RFC 8259, UTF-8, no duplicate names: RFC 7493), then a cursor walks the checked text and takes
// what it needs without copying or allocating. What a decoder returns are views into the frame and into the decoder's
// scratch; they are valid until its next call.
//
// A frame that cannot be used is an [*Error], which is the JSON-RPC error that the device gets. A reading that cannot
// be stored does not fail its frame: it is decoded with a Flaw, so that whoever takes it can keep it whole in the
// quarantine while its neighbours are stored.
//
// Files in reading order: limits.go (ids, sizes), names.go (of fields and measurements), codes.go (errors and close codes), cursor.go (walking checked JSON),
// frame.go (what kind of frame it is), telemetry.go and values.go (readings), message.go (hello, event, answers,
// progress), encode.go (what the hub writes), waiter.go (who hears of a commit).
package wire
