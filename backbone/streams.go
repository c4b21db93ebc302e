package backbone

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone/mend"
)

// The streams. A stream's subjects begin with its name in lower case.
const (
	Journal        = "JOURNAL" // envelopes of readings, in commit order
	JournalSubject = "journal.0"

	Quarantine        = "QUARANTINE" // readings that could not be stored
	QuarantineSubject = "quarantine.reading"

	Acts        = "ACTS" // the audit log: batches of what operators did
	ActsSubject = "acts.batch"
)

// The buckets. A value that is put without a condition has no headers, and nothing else that tells where its key ends: it is
// a JSON object or array (see subjects).
const (
	Devices   = "devices"   // the registry: one key a device
	Presence  = "presence"  // who was connected when: one key a shard of devices
	Commands  = "commands"  // the ledger: one key a command
	Rollouts  = "rollouts"  // commands to many devices: a head, a plan and some shards of devices each
	Operators = "operators" // operators' credentials, hashed
	Enrolment = "enrolment" // enrolment keys, hashed: one key a key
	Discovery = "discovery" // devices that operators do not want to see: one key a device
	Types     = "types"     // the types of fields in the store: one key a measurement
	States    = "states"    // what devices report and operators desire: one key a device
	Progress  = "progress"  // how far the writer is, and what it knows of each device's numbers
	Tickets   = "tickets"   // keys of TLS session tickets: one key a day
	Retained  = "retained"  // what devices retain by MQTT for each other: one key a topic
)

// quarantineMaxBytes bounds the quarantine; when it is full the oldest go.
const quarantineMaxBytes = 1 << 30

// commandsKept bounds how long the ledger keeps a command, in disk; the ledger's own configuration is below it.
const commandsKept = 366 * 24 * time.Hour

// ticketsKept bounds how long a key of session tickets is kept, in disk: a day's tickets are over a week later.
const ticketsKept = 8 * 24 * time.Hour

// What the audit log keeps unless it is configured.
const (
	DefaultActsKeep     = 366 * 24 * time.Hour
	DefaultActsMaxBytes = 1 << 30
)

// declare makes the streams and buckets, or brings them to what this version needs.
func declare(ctx context.Context, js jetstream.JetStream, cfg Config) error {
	journal := cfg.JournalMaxBytes
	if journal == 0 {
		journal = DefaultJournalMaxBytes
	}
	for _, s := range []jetstream.StreamConfig{
		// No age and no dropping of the old: the writer purges what is both written and old.
		{Name: Journal, Subjects: []string{"journal.*"}, MaxBytes: journal, Discard: jetstream.DiscardNew, Duplicates: 10 * time.Minute, AllowDirect: true},
		{Name: Quarantine, Subjects: []string{"quarantine.*"}, MaxBytes: quarantineMaxBytes, Duplicates: 10 * time.Minute, AllowDirect: true},
		// Nobody takes an act away; the oldest go by age and size only.
		{
			Name: Acts, Subjects: []string{"acts.*"}, MaxAge: cmp.Or(cfg.ActsKeep, DefaultActsKeep), MaxBytes: cmp.Or(cfg.ActsMaxBytes, DefaultActsMaxBytes),
			DenyDelete: true, DenyPurge: true, Duplicates: 10 * time.Minute, AllowDirect: true,
		},
	} {
		s.Storage = jetstream.FileStorage
		if _, err := js.CreateOrUpdateStream(ctx, s); err != nil {
			return fmt.Errorf("declare stream %s: %w", s.Name, err)
		}
	}
	for _, b := range buckets() {
		b.Storage = jetstream.FileStorage
		if _, err := js.CreateOrUpdateKeyValue(ctx, b); err != nil {
			return fmt.Errorf("declare bucket %s: %w", b.Bucket, err)
		}
	}
	for _, bucket := range []string{Commands, Devices} {
		if err := allowBatches(ctx, js, bucket); err != nil {
			return err
		}
	}
	return nil
}

func buckets() []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{
		{Bucket: Devices, History: 1},
		{Bucket: Presence, History: 1},
		{Bucket: Commands, History: 1, TTL: commandsKept},
		{Bucket: Rollouts, History: 1},
		{Bucket: Operators, History: 1},
		{Bucket: Enrolment, History: 1},
		{Bucket: Discovery, History: 1},
		{Bucket: Types, History: 1},
		{Bucket: States, History: 1},
		{Bucket: Progress, History: 1},
		{Bucket: Tickets, History: 1, TTL: ticketsKept},
		{Bucket: Retained, History: 1},
	}
}

// subjects are those of the streams' records, by which mend tells where a subject ends.
func subjects() map[string]mend.Subjects {
	all := map[string]mend.Subjects{
		Journal:    {Prefix: "journal.", Whole: []string{JournalSubject}},
		Quarantine: {Prefix: "quarantine.", Whole: []string{QuarantineSubject}},
		Acts:       {Prefix: "acts.", Whole: []string{ActsSubject}},
	}
	for _, b := range buckets() {
		all["KV_"+b.Bucket] = mend.Subjects{Prefix: "$KV." + b.Bucket + "."}
	}
	return all
}
