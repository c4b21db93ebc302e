package ingest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"telemetryhub/backbone"
)

// Damage on the disk while the hub was stopped, or had been killed: one bit of an envelope is put right; more of them cost
// that envelope, and what was in it is named; those behind it are stored in any case.
func TestDamageOnTheDiskCostsItsEnvelopeAtMost(t *testing.T) {
	const envelopes = 4
	for _, c := range []struct {
		name    string
		which   int  // the damaged envelope
		bits    byte // that are flipped, in one byte
		at      int  // of the envelope; its record begins before it
		damaged uint64
	}{
		{"one bit", 2, 1, 20, 0},
		{"several bits", 2, 0x55, 20, 1},
		{"several bits of the first", 1, 0x55, 20, 1},
		{"several bits of the last", envelopes, 0x55, 20, 1},
		{"one bit of the length", 2, 1, lengthOfRecord, 0},
		{"several bits of the length", 2, 0x55, lengthOfRecord, 0},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, killed %v", c.name, killed), func(t *testing.T) {
				dir, store := t.TempDir(), &memoryStore{}
				store.answers(away)
				bus := openBus(t, backbone.Config{Dir: dir})
				h := openHubOn(t, bus, testConfig(), store)
				for seq := uint64(1); seq <= envelopes; seq++ {
					h.send("a", numbered("b", seq)) // each its own envelope: it returns when that is durable
				}
				left := dir
				if killed {
					left = copyOf(t, dir)
				}
				h.close()
				if err := bus.Close(); err != nil {
					t.Fatal(err)
				}
				flipBitsOfEnvelope(t, left, c.which, c.at, c.bits)

				again := &memoryStore{}
				h = openHub(t, left, testConfig(), again)
				h.send("a", numbered("b", envelopes+1)) // says how many there were before it
				if got := h.settled("a", envelopes+1); got.Stored != envelopes+1-c.damaged || got.Quarantined != c.damaged {
					t.Fatalf("counts %+v, want %d damaged", got, c.damaged)
				}
				items := h.quarantined()
				if len(items) != int(c.damaged) || len(items) > 0 && (items[0].Reason != "damaged" || items[0].Device != "a") {
					t.Fatalf("quarantine %+v", items)
				}
			})
		}
	}
}

// NATS may say nothing to who follows the journal where it cannot give an envelope; what it says to who asks for it is
// how that is told from a journal that is read to its end.
func TestWhatNATSDoesNotGiveIsTold(t *testing.T) {
	store := &memoryStore{}
	store.answers(away)
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	h := openHubOn(t, bus, testConfig(), store)
	for seq := uint64(1); seq <= 3; seq++ {
		h.send("a", numbered("b", seq))
	}
	if err := journalStream(t, bus).SecureDeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for after, want := range []bool{false, true, false, false} { // 1 and 3 are there, 2 is not, behind 3 is nothing
		if got := h.writer.unreadable(t.Context(), uint64(after)); got != want {
			t.Errorf("behind %d: unreadable %v, want %v", after, got, want)
		}
	}
}

// Damage may leave a journal that ends with many numbers of no envelope: the writer is behind none of them.
func TestNumbersWithoutEnvelopesAreNoBacklog(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(away)
	bus := openBus(t, backbone.Config{Dir: dir})
	h := openHubOn(t, bus, testConfig(), store)
	h.send("a", numbered("b", 1))
	h.stopped = true
	ended, end := context.WithCancel(t.Context())
	end()
	_ = h.Stop(ended) // the store is away
	journal := journalStream(t, bus)
	const numbers = 40
	for range numbers {
		ack, err := bus.JetStream().Publish(t.Context(), backbone.JournalSubject, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := journal.SecureDeleteMsg(t.Context(), ack.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	h = openHubOn(t, bus, testConfig(), &memoryStore{})
	h.settled("a", 1)
	eventually(t, "nothing waits", func() bool { return h.Status().Backlog == 0 })
	if got := h.settled("a", 1); got.Stored != 1 {
		t.Errorf("counts %+v", got)
	}
}

// lengthOfRecord stands for the first byte of the record that NATS keeps an envelope in.
const lengthOfRecord = -1

// flipBitsOfEnvelope flips bits of a byte of the how manyth envelope of a journal that nobody has open.
func flipBitsOfEnvelope(t *testing.T, dir string, which, at int, bits byte) {
	t.Helper()
	path := filepath.Join(dir, "jetstream", "$G", "streams", backbone.Journal, "msgs", "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, length := 0, 0
	for range which {
		begin += length
		length = int(binary.LittleEndian.Uint32(data[begin:]) &^ (1 << 31)) // its highest bit says that there are headers
	}
	if at != lengthOfRecord {
		begin += bytes.Index(data[begin:], []byte{'T', 'E', envelopeVersion}) + at
	}
	data[begin] ^= bits
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
