package mend

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Every bit of a block, one at a time, of each kind of record that the hub writes: the block is again as it was, to the last bit,
// also where it is known that its last record ends it. There is no bit for which that does not hold.
func TestEveryBitOfABlockIsPutRight(t *testing.T) {
	for stream, kind := range writtenByAServer(t) {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			ends := extents(kind.data)
			spoilt := bytes.Clone(kind.data)
			for at := range 8 * len(spoilt) {
				spoilt[at/8] ^= 1 << (at % 8)
				kind.check(t, spoilt, at, 0)
				if at/8 >= ends[len(ends)-2] {
					kind.check(t, spoilt, at, kind.last)
				}
				spoilt[at/8] ^= 1 << (at % 8)
			}
		})
	}
}

// kind is a block of one stream.
type kind struct {
	stream   string
	subjects Subjects
	data     []byte
	last     uint64 // sequence
}

func (k *kind) check(t *testing.T, spoilt []byte, bit int, sealed uint64) {
	t.Helper()
	b := &block{proof: proof{hash: newHash(k.stream, 1), subjects: k.subjects}, data: bytes.Clone(spoilt), left: effortOfStart(), sealed: sealed}
	b.mend()
	if !bytes.Equal(b.data, k.data) || b.torn > 0 || len(b.changes) != 1 || !b.changes[0].restored {
		ends := extents(k.data)
		which := 0
		for ends[which+1] <= bit/8 {
			which++
		}
		t.Errorf("bit %d of byte %d of record %d, sealed %d: changes %+v, torn %d", bit%8, bit/8-ends[which], which, sealed, b.changes, b.torn)
	}
}

// writtenByAServer has blocks of each kind of stream, with all that the hub writes into them.
func writtenByAServer(t *testing.T) map[string]*kind {
	dir := t.TempDir()
	e := start(t, dir)
	kinds := map[string]*kind{
		"JOURNAL":    {subjects: Subjects{Prefix: "journal.", Whole: []string{"journal.0"}}},
		"QUARANTINE": {subjects: Subjects{Prefix: "quarantine.", Whole: []string{"quarantine.reading"}}},
		"ACTS":       {subjects: Subjects{Prefix: "acts.", Whole: []string{"acts.batch"}}},
	}
	for name, k := range kinds {
		if _, err := e.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{k.subjects.Prefix + "*"}}); err != nil {
			t.Fatal(err)
		}
	}
	id := func(id string) nats.Header { return nats.Header{jetstream.MsgIDHeader: {id}} }
	for n, payload := range []string{"envelope 1", `{"envelope":2}`, "", "\x00\x01\xff", "5", "....", "="} {
		e.publish("journal.0", payload, nil)
		e.publish("journal.0", payload, id(fmt.Sprintf("%x-%d", 0x1234567890abcdef, n)))
	}
	e.remove("JOURNAL", 3, 6)
	for n := range 3 {
		e.publish("acts.batch", fmt.Sprintf(`{"floor":%d}`, n), id(fmt.Sprint("act", n)))
	}
	e.publish("acts.batch", `{"floor":3}`, nil)
	// Headers of 78 bytes: "N" is their length and their first byte, so the checksum is right of a subject one longer too.
	e.publish("quarantine.reading", "a line", id(strings.Repeat("i", 51)))
	e.publish("quarantine.reading", "", nats.Header{"Hub-Quarantined": {`{"device":"d"}`}})
	e.publish("quarantine.17", "a line", nats.Header{"Hub-Quarantined": {`{"device":"e"}`}})
	e.remove("QUARANTINE", 0, 2)
	e.publish("quarantine.reading", "the last", id("17-2"))
	e.fill("devices")
	kinds["KV_devices"] = &kind{subjects: Subjects{Prefix: "$KV.devices."}}
	for name, k := range kinds {
		s, err := e.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		k.stream, k.last = name, s.CachedInfo().State.LastSeq
	}
	e.stop()
	for name, k := range kinds {
		k.data = read(t, filepath.Join(dir, "jetstream", "$G", "streams", name, "msgs", "1.blk"))
		removals, erased := 0, 0
		for at := 0; at < len(k.data); at += record(k.data[at:]).length() {
			if r := record(k.data[at:]); r.removal() {
				removals++
			} else if r.erased() {
				erased++
			}
		}
		t.Logf("%s: %d bytes, %d records, %d of removals and %d erased", name, len(k.data), len(extents(k.data))-1, removals, erased)
	}
	return kinds
}

// remove removes one message with a record that says so, and one in place; 0 is none.
func (e *engine) remove(stream string, said, erased uint64) {
	e.Helper()
	s, err := e.js.Stream(e.Context(), stream)
	if err == nil && said > 0 {
		err = s.DeleteMsg(e.Context(), said)
	}
	if err == nil && erased > 0 {
		err = s.SecureDeleteMsg(e.Context(), erased)
	}
	if err != nil {
		e.Fatal(err)
	}
}

// fill does to a bucket what can be done to one.
func (e *engine) fill(bucket string) {
	e.Helper()
	kv, err := e.js.CreateKeyValue(e.Context(), jetstream.KeyValueConfig{Bucket: bucket, History: 1})
	if err != nil {
		e.Fatal(err)
	}
	must := func(revision uint64, err error) uint64 {
		e.Helper()
		if err != nil {
			e.Fatal(err)
		}
		return revision
	}
	ctx := e.Context()
	must(kv.Put(ctx, "0", []byte(`{"as_of":1}`)))
	must(kv.Put(ctx, "position", []byte(`{"at":2}`)))
	must(kv.Put(ctx, "=import.a/b_c-d.1", []byte(`[{"key":"a"}]`)))
	must(kv.Put(ctx, "0", []byte(`{}`)))
	revision := must(kv.Create(ctx, "made", []byte("\x01raw {\"")))
	must(kv.Update(ctx, "made", []byte(`{"value":2}`), revision))
	must(0, kv.Delete(ctx, "made"))
	must(0, kv.Purge(ctx, "position"))
	must(kv.Put(ctx, "=import.a/b_c-d.1", []byte(`[]`)))
	must(kv.Create(ctx, "last", []byte(`"text"`)))
}
