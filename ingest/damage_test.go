package ingest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/backbone"
)

// copyOf is what a crash leaves: the files of a running hub as they are. The hub must be at rest.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestACrashBeforeProgressIsSavedRepeatsTheSameLines crashes after the store took everything and before anything of
// it was saved.
func TestACrashBeforeProgressIsSavedRepeatsTheSameLines(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	reject := func(_ context.Context, lines []byte) error {
		if strings.Contains(string(lines), "n=7 ") {
			return &RejectedError{Message: "no"}
		}
		return nil
	}
	store.answers(reject)
	cfg := testConfig()
	cfg.SaveEvery = time.Hour
	h := openHub(t, dir, cfg, store)
	for seq := uint64(1); seq <= 10; seq++ {
		h.send("a", numbered("b", seq))
		h.send("a", numbered("b", seq))
		h.send("c", `{"readings":[{"values":{"x":1}},{"values":{"y":[1]}}]}`)
	}
	h.Refuse("c", "bad_json")
	wantA, wantC := h.settled("a", 20), h.settled("c", 21)
	lines, aside := store.accepted(), h.quarantined()

	again := &memoryStore{}
	again.answers(reject)
	crashed := openHub(t, copyOf(t, dir), cfg, again)
	if crashed.last("a", "b") != 10 {
		t.Fatalf("durable %d", crashed.last("a", "b"))
	}
	if gotA, gotC := crashed.settled("a", 20), crashed.settled("c", 21); fmt.Sprint(gotA) != fmt.Sprint(wantA) || fmt.Sprint(gotC) != fmt.Sprint(wantC) {
		t.Fatalf("counts %+v and %+v; before the crash %+v and %+v", gotA, gotC, wantA, wantC)
	}
	if got := again.accepted(); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(lines))) {
		t.Fatalf("lines after the crash\n%s\nbefore\n%s", joinLines(got), joinLines(lines))
	}
	if got := crashed.quarantined(); fmt.Sprint(got) != fmt.Sprint(aside) {
		t.Fatalf("quarantine after the crash\n%+v\nbefore\n%+v", got, aside)
	}
	crashed.send("a", numbered("b", 11))
	crashed.send("a", numbered("b", 5))
	if c := crashed.settled("a", 22); c.Stored != wantA.Stored+1 || c.Duplicate != wantA.Duplicate+1 {
		t.Fatalf("counts %+v", c)
	}
}

// TestACrashBetweenTwoShardsSplitsNothing saves one device's shard and neither another's nor the position.
func TestACrashBetweenTwoShardsSplitsNothing(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	cfg := testConfig()
	cfg.SaveEvery = time.Hour
	h := openHub(t, dir, cfg, store)
	if shardOf("a") == shardOf("c") {
		t.Fatal("the devices must be of different shards")
	}
	for seq := uint64(1); seq <= 10; seq++ {
		h.send("a", numbered("b", seq))
		h.send("a", numbered("b", seq))
		h.send("c", numbered("b", seq))
	}
	h.settled("a", 20)
	h.settled("c", 10)
	h.writer.mu.Lock()
	shard := savedShard{AsOf: h.writer.position, Devices: map[string]*account{"a": h.writer.accounts["a"]}}
	err := h.writer.progress.put(t.Context(), fmt.Sprint(shardOf("a")), shard)
	h.writer.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}

	again := &memoryStore{}
	crashed := openHub(t, copyOf(t, dir), cfg, again)
	if c := crashed.of("a"); c.Stored != 10 || c.Duplicate != 10 || c.Queued != 0 {
		t.Fatalf("the saved one has %+v", c)
	}
	if c := crashed.settled("c", 10); c.Stored != 10 {
		t.Fatalf("the other has %+v", c)
	}
	crashed.send("a", numbered("b", 10))
	crashed.send("a", numbered("b", 11))
	if c := crashed.settled("a", 22); c.Stored != 11 || c.Duplicate != 11 {
		t.Fatalf("counts %+v", c)
	}
	if n := countLines(again.accepted(), "device=a"); n != 1 {
		t.Fatalf("%d lines of the saved one were repeated", n-1)
	}
}

// TestABacklogIsKnownAfterARestart opens with an absent store.
func TestABacklogIsKnownAfterARestart(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	h := openHub(t, dir, testConfig(), store)
	h.send("a", numbered("b", 1))
	h.settled("a", 1)
	store.answers(away)
	for seq := uint64(2); seq <= 30; seq++ {
		h.send("a", numbered("b", seq))
	}
	h.send("a", numbered("second boot", 4))
	h.send("c", `{"x":1}`)
	h.Refuse("c", "bad_json")
	eventually(t, "all is committed", func() bool { return h.of("c").Received == 2 })
	h.close()

	h = openHub(t, dir, testConfig(), store)
	if got := []uint64{h.last("a", "b"), h.last("a", "second boot"), h.last("a", "third"), h.last("c", "")}; !slices.Equal(got, []uint64{30, 4, 0, 0}) {
		t.Fatalf("durable %v", got)
	}
	if a, c := h.of("a"), h.of("c"); a.Received != 31 || a.Stored != 1 || a.Queued != 30 || c.Received != 2 || c.Queued != 2 {
		t.Fatalf("counts %+v and %+v", a, c)
	}
	if s := h.Status(); s.Backlog == 0 {
		t.Fatalf("status %+v", s)
	}
	store.answers(nil)
	h.settled("a", 31)
	if c := h.settled("c", 2); c.Stored != 1 || c.Refused["bad_json"] != 1 {
		t.Fatalf("counts %+v", c)
	}
}

// TestDamageIsCountedAndStopsNobody damages one envelope on its way into the stream, and takes another out of it.
func TestDamageIsCountedAndStopsNobody(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			dir, store := t.TempDir(), &memoryStore{}
			store.answers(away)
			bus := openBus(t, backbone.Config{Dir: dir})
			over := &flakyBus{Backbone: bus}
			h := openHubOver(t, bus, over, testConfig(), store)
			h.send("a", numbered("b", 1))
			eventually(t, "the writer holds the first", func() bool { return store.tries() > 0 })
			over.onPublish(func(ctx context.Context, _ func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
				return bus.JetStream().Publish(ctx, backbone.JournalSubject, []byte("TE damaged"))
			})
			h.send("a", `{"boot":"b","seq":2,"readings":[{"values":{"n":2}},{"values":{"n":3}}]}`)
			over.publish.Store(nil)
			h.send("a", numbered("b", 4))
			h.send("c", numbered("b", 1))
			h.send("a", numbered("b", 5))
			h.send("c", numbered("b", 2))
			aside := 1
			if restart { // without it c's first has been read in advance
				if err := journalStream(t, bus).SecureDeleteMsg(t.Context(), journalState(t, bus).LastSeq-2); err != nil { // c's first
					t.Fatal(err)
				}
				aside = 2
				h.close()
				h = openHub(t, dir, testConfig(), store)
			}
			if c := h.of("a"); c.Received != 5 || c.Queued != 5 {
				t.Fatalf("before the store is back: %+v", c)
			}
			store.answers(nil)
			if c := h.settled("a", 5); c.Stored != 3 || c.Quarantined != 2 {
				t.Fatalf("counts %+v", c)
			}
			if c := h.settled("c", 2); c.Stored != uint64(3-aside) || c.Quarantined != uint64(aside-1) {
				t.Fatalf("counts %+v", c)
			}
			items := h.quarantined()
			if len(items) != aside || items[0].Reason != "damaged" || items[0].Device != "a" || !strings.HasPrefix(items[0].Message, "2 readings") || items[aside-1].Reason != "damaged" {
				t.Fatalf("quarantine %+v", items)
			}
		})
	}
}

// TestAnEmptiedJournalOpens is an operator who purges the stream with NATS's tools while there is a backlog.
func TestAnEmptiedJournalOpens(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(away)
	h := openHub(t, dir, testConfig(), store)
	for seq := uint64(1); seq <= 5; seq++ {
		h.send("a", numbered("b", seq))
	}
	if err := journalStream(t, h.bus).Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.close()
	store.answers(nil)
	h = openHub(t, dir, testConfig(), store)
	if s := h.Status(); s.Backlog != 0 {
		t.Fatalf("status %+v", s)
	}
	h.send("a", numbered("b", 6))
	if c := h.settled("a", 1); c.Stored != 1 {
		t.Fatalf("counts %+v", c)
	}
}

func TestAJournalOlderThanTheProgressIsRefused(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	h := openHub(t, dir, testConfig(), store)
	h.send("a", numbered("b", 1))
	h.settled("a", 1)
	h.close()
	bus := openBus(t, backbone.Config{Dir: dir})
	if err := bus.JetStream().DeleteStream(t.Context(), backbone.Journal); err != nil {
		t.Fatal(err)
	}
	bus.Close()
	bus = openBus(t, backbone.Config{Dir: dir})
	if _, err := Open(t.Context(), testConfig(), bus, store, prometheus.NewRegistry(), quiet()); err == nil || !strings.Contains(err.Error(), "two states") {
		t.Fatalf("open: %v", err)
	}
}

// TestPurgeDropsOnlyWhatIsWrittenAndOldOrTooMuch asks for a purge by hand while some is not written.
func TestPurgeDropsOnlyWhatIsWrittenAndOldOrTooMuch(t *testing.T) {
	const written, waiting = 20, 10
	for _, c := range []struct {
		name      string
		keep      time.Duration
		keepBytes int64
		full      bool
		left      func(n uint64) bool
	}{
		{"young and little", time.Hour, 1 << 30, false, func(n uint64) bool { return n == written+waiting }},
		{"old", 0, 1 << 30, false, func(n uint64) bool { return n == waiting }},
		{"too much", time.Hour, 1, false, func(n uint64) bool { return n == waiting }},
		{"half too much", time.Hour, -2, false, func(n uint64) bool { return n >= (written+waiting)/2-2 && n <= (written+waiting)/2 }},
		{"full", time.Hour, 1 << 30, true, func(n uint64) bool { return n >= (written+waiting)/2-2 && n <= (written+waiting)/2 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &memoryStore{}
			h := openHub(t, t.TempDir(), testConfig(), store)
			for seq := uint64(1); seq <= written; seq++ {
				h.send("a", numbered("b", seq))
			}
			h.settled("a", written)
			eventually(t, "progress is saved", func() bool {
				e, err := h.writer.progress.kv.Get(t.Context(), positionKey)
				return err == nil && strings.Contains(string(e.Value()), fmt.Sprintf(`"position":%d,`, written))
			})
			store.answers(away)
			for seq := uint64(written + 1); seq <= written+waiting; seq++ {
				h.send("a", numbered("b", seq))
			}
			state := journalState(t, h.bus)
			if c.keepBytes == -2 {
				c.keepBytes = int64(state.Bytes / 2)
			}
			// A writer of its own on the same journal: the hub's is busy with the store.
			w := &writer{journal: h.writer.journal, saved: written, log: quiet(), cfg: Config{Keep: c.keep, KeepBytes: c.keepBytes}}
			w.purge(t.Context(), c.full)
			if n := journalState(t, h.bus).Msgs; !c.left(n) {
				t.Errorf("%d envelopes are left", n)
			}
			store.answers(nil)
			h.settled("a", written+waiting)
		})
	}
}
