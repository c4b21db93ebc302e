// Package acts owns the audit log: who did what to which device from where, and whether it was let through. It is
// append-only: a stream of NATS that refuses to delete and to purge, bounded by age and bytes, whose oldest acts go.
//
// It does not decide what an act is, or what in it is secret: who calls it has masked that. (What became of readings is
// another account, of ingest.)
//
// # Before the answer
//
// [Log.Append] returns once an act is on disk; what comes meanwhile is written with the next batch. Commands do not wait
// for it: their record in the ledger, which is durable before they are sent, bears who sent them from where, so [Log.Note]
// lets them be written soon after, and [Log.Follow] writes at the next start what a crash came before. For that each batch
// says from when on commands may be missing (its floor), and a command's id says whether it is there.
//
// # Overload, and a log that cannot be written
//
// At most [MaxPending] acts wait. Beyond it Append fails; acts of commands are dropped from the queue and fetched from the
// ledger when there is room; others are counted as lost. A batch that cannot be written is tried again until it is, and
// meanwhile [Log.Err] says so, for its caller to refuse what cannot be recorded.
//
// Files in reading order: act.go (the words), log.go (Open, Append, Note, Close), writer.go, follow.go (what a crash came
// before), read.go (List, Export).
package acts
