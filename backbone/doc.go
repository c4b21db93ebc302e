// Package backbone owns the NATS that everything durable lives in: the server within the process, or the connection to
// an external one, and the declaration of every stream and bucket. It publishes and reads nothing itself: its JetStream
// handles are passed on to ingest (journal, progress, quarantine), devices (registry, presence), commands (ledger) and
// auth (operators).
//
// The server in the process opens no port, writes each message with an fsync before it answers, and keeps its files
// under the data folder. An external NATS must be told by its own configuration to sync (sync_interval: always) or to
// replicate; the hub cannot do that for it.
//
// Overload: a full journal refuses the next envelope (DiscardNew), so that what was acked is never dropped for it.
// So does a disk whose free space has come down to the reserve.
//
// Damage on the disk (a flipped bit) is mended before the server is started, by the package mend below this one: the
// server itself would cut off whatever is behind it.
//
// Files in reading order: backbone.go (open and close), streams.go (what is declared), batch.go (many records in one commit), room.go and disk_unix.go (the
// disk's reserve), embedded.go (the server in the process, and how it is mended), log.go (the server's words).
package backbone
