// Package ingest owns the way of a reading from "accepted" to "stored point", and the account of it.
//
// The journal gathers what all connections bring into envelopes, publishes each to JetStream, which syncs it, and only
// then lets the readings be acked (group commit). The writer reads the envelopes in the order of the journal, decides
// for each reading whether it is new, a duplicate or to be quarantined, writes the new ones to the store and counts
// what became of each. What it knows of a device (numbers that it has, counts) is a pure function of the journal up to
// its position; it is saved from time to time together with that position, so a crash makes it repeat some envelopes
// with the same decisions and the same points, and never split the two.
//
// Each entry of an envelope says how much of its device came before it, so that readings in a damaged envelope are
// found missing by the next that can be read, and counted as quarantined. Where none of the device comes behind it, what
// the damage left readable says how much is missing (lost.go).
//
// A device that brings much at once goes behind those that are live, by turns within each envelope (pace.go), so that the
// backlogs after an outage cost the live readings little.
//
// The store being away stops the writer and nothing else: envelopes wait in the journal. Overload: a full envelope, or
// a journal that cannot be written, makes Append wait, which the connections pass on to their devices. The live feed
// waits for nobody.
//
// A field has one type, in a registry that hubs share (types.go), until an operator sets another, for the readings behind
// that place of the journal (retype.go). A value of another type is cast where nothing is lost, and otherwise its reading
// is set aside whole (casts.go), so that the store meets no conflict but those that others make there: a registry that was
// written before they were, types that differ between the store's shards, or an operator who insists on a name.
//
// Readings of one device, measurement and ms are kept apart below the ms (stamp.go).
//
// Imports wire and backbone. It does not know connections, HTTP or which database there is.
//
// Files in reading order: ingest.go (open, stop), journal.go (append and commit), pace.go (who goes first), arrivals.go (what is known of a device
// before the writer), envelope.go (the format), lost.go (what damage left), writer.go (journal to store), deliver.go (outcomes of a write),
// numbers.go and account.go (what the writer knows of a device), progress.go (how it is saved), types.go, casts.go, retype.go
// and fieldinfo.go (types of fields), names.go (how many fields), stamp.go and received.go (times in the store), lines.go (line protocol), quarantine.go, settling.go, requeue.go and bulk.go (retry and drop), audit.go, gaps.go, replay.go (the journal to the store again), latest.go, feed.go, purge.go, metrics.go.
package ingest
