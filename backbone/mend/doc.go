// Package mend looks through the block files of nats-server's file store before the server is started, and mends what a
// flipped bit has damaged. Left to itself, the server cuts a block off at the first record that it cannot read
// (filestore.go, rebuildStateFromBufLocked), and with it every record behind, acked or not; and it gives their sequence
// numbers out again.
//
// A record whose checksum fails is put right where that can be proved: its length by where the next record begins, any
// other single bit by trying all of them against the checksum of 64 bits. Where it cannot, the record is erased as the
// server erases: in place, of the same length, under its sequence. The rest of the block is then read as ever. Before a
// block is changed a copy of it is kept aside.
//
// What a power cut leaves at the end of the newest block, a record that was not written whole, is no damage and is left
// to the server, which cuts it off: it was never acked. How the two are told apart is at block.end.
//
// It does not touch what it does not understand: encrypted or compressed streams, and blocks when no record in the whole
// store verifies (the format is another). Removals that were damaged beyond one bit are lost: what was removed by them
// from another block comes back.
//
// No checksum sees the lengths: that of the record, that of its headers, and, where it has none, that of its subject.
// The first is known by where the next record begins, the second by how headers end, the third by the subjects that the
// stream has and by how its messages begin (subject.go). A record with a subject that its stream cannot have, and that does
// not show where it ends, is damaged.
//
// Overload: one block is in memory at a time (8 MiB, and one record); trying bits has a budget for each start; copies
// have a bound, and the oldest go.
//
// Files in reading order: store.go (streams and files), index.go (what the server will trust), block.go (one block),
// restore.go and subject.go (putting one bit right), record.go (the format), aside.go (copies and notes).
package mend
