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
// There is one model and one decoder of it. CBOR (RFC 8949) is rewritten as the JSON text of the same value, by a
// transcoder that checks what the JSON checker checks; SenML (RFC 8428) is resolved and written as readings of the model.
// So each limit, flaw and reason is the same in all dialects, what the quarantine and the ledger keep is text, and
// numbers that a device meant alike are stored alike. It costs a fifth more than JSON does (speed_test.go), and no
// allocation. What the hub writes is made as JSON and rewritten likewise, by AppendCBOR.
//
// Files in reading order: limits.go (ids, sizes), names.go (of fields and measurements), codes.go (errors and close
// codes), dialect.go (the names of the dialects), cursor.go (walking checked JSON), cbor.go and cbornumbers.go
// (rewriting CBOR), frame.go (what kind of frame it is), telemetry.go and values.go (readings), senml.go (packs) and
// senmlreadings.go (what they come to), message.go (hello, event, answers, progress), state.go (reported and desired
// state), encode.go and cborwrite.go (what the hub writes), waiter.go (who hears of a commit).
package wire
