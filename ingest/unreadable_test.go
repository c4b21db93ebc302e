package ingest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"telemetryhub/backbone"
)

// A bit that flipped on the disk while the hub was stopped, whoever's checksum finds it: the hub starts, stores the rest
// and names what was in the envelope.
func TestABitFlippedOnTheDiskCostsItsEnvelopeOnly(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(away)
	bus := openBus(t, backbone.Config{Dir: dir})
	h := openHubOn(t, bus, testConfig(), store)
	for seq := uint64(1); seq <= 4; seq++ {
		h.send("a", numbered("b", seq)) // each its own envelope: it returns when that is durable
	}
	h.close()
	if err := bus.Close(); err != nil {
		t.Fatal(err)
	}
	flipBitOfEnvelope(t, dir, 2)

	h = openHub(t, dir, testConfig(), store)
	store.answers(nil)
	if c := h.settled("a", 4); c.Stored != 3 || c.Quarantined != 1 {
		t.Fatalf("counts %+v, want 3 stored and 1 quarantined", c)
	}
	if items := h.quarantined(); len(items) != 1 || items[0].Reason != "damaged" || items[0].Device != "a" {
		t.Fatalf("quarantine %+v", items)
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

// flipBitOfEnvelope flips a bit within the how manyth envelope of a journal that is closed.
func flipBitOfEnvelope(t *testing.T, dir string, which int) {
	t.Helper()
	path := filepath.Join(dir, "jetstream", "$G", "streams", backbone.Journal, "msgs", "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for range which {
		next := bytes.Index(data[at+1:], []byte{'T', 'E', envelopeVersion})
		if next < 0 {
			t.Fatalf("no envelope %d in %s", which, path)
		}
		at += 1 + next
	}
	data[at+20] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
