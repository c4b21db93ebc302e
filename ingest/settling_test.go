package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/backbone"
)

// rejects makes a store that rejects lines with one of these words in them.
func rejects(words ...string) func(context.Context, []byte) error {
	return func(_ context.Context, lines []byte) error {
		for _, w := range words {
			if strings.Contains(string(lines), w) {
				return &RejectedError{Message: "field type conflict"}
			}
		}
		return nil
	}
}

func (h *hub) retry(id uint64) Settled {
	h.t.Helper()
	s, err := h.Retry(h.t.Context(), id)
	if err != nil {
		h.t.Fatalf("retry %d: %v", id, err)
	}
	return s
}

func TestARetriedReadingIsStoredOnceWithItsOwnTimeAndMovesInTheAccount(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(rejects("n=2 "))
	cfg := testConfig()
	cfg.SaveEvery = time.Hour
	h := openHub(t, dir, cfg, store)
	for seq := uint64(1); seq <= 3; seq++ {
		h.send("a", numbered("b", seq))
	}
	h.settled("a", 3)
	h.send("a", `{"ts":1,"values":{"x":1}}`)
	h.settled("a", 4)
	items := h.quarantined()
	if len(items) != 2 || items[0].Seq != 2 {
		t.Fatalf("quarantine %+v", items)
	}
	id := items[0].ID
	if s := h.retry(id); s.Fate != FateQuarantined || s.Reason != "store_rejected" || s.Message != "field type conflict" {
		t.Fatalf("retried too early: %+v", s)
	}
	if c := h.mustAddUp(); c.Received != 4 || c.Stored != 2 || c.Quarantined != 2 {
		t.Fatalf("counts %+v", c)
	}
	if items = h.quarantined(); len(items) != 2 || items[1].ID != id || items[1].Seq != 2 || items[1].Boot != "b" {
		t.Fatalf("a reading that failed again must stay once, with its id: %+v", items)
	}
	store.answers(nil)
	if s := h.retry(id); s.Fate != FateStored {
		t.Fatalf("retried: %+v", s)
	}
	want := fmt.Sprintf("telemetry,device=a n=2 %d", received-100_000+2)
	if n := countLines(store.accepted(), want); n != 1 {
		t.Fatalf("%d lines %q in\n%s", n, want, joinLines(store.accepted()))
	}
	if c := h.mustAddUp(); c.Received != 4 || c.Stored != 3 || c.Quarantined != 1 || c.Duplicate != 0 {
		t.Fatalf("counts %+v", c)
	}
	if s := h.retry(id); s.Fate != FateGone {
		t.Fatalf("retried twice: %+v", s)
	}
	if _, err := h.Retry(t.Context(), 1000); !errors.Is(err, ErrNotQuarantined) {
		t.Fatalf("retry of an unknown id: %v", err)
	}
	// What it tells of a crash: the progress is saved before the answer, and what is after it moves nothing twice.
	crashed := openHub(t, copyOf(t, dir), cfg, &memoryStore{})
	if c := crashed.mustAddUp(); c.Received != 4 || c.Stored != 3 || c.Quarantined != 1 {
		t.Fatalf("counts after a crash %+v", c)
	}
	crashed.send("a", numbered("b", 2))
	if c := crashed.settled("a", 5); c.Duplicate != 1 {
		t.Fatalf("its number was forgotten: %+v", c)
	}
}

func TestADroppedReadingIsRefusedOnce(t *testing.T) {
	dir := t.TempDir()
	h := openHub(t, dir, testConfig(), &memoryStore{})
	h.send("a", `{"readings":[{"values":{"x":[1]}},{"values":{"x":1}}]}`)
	h.settled("a", 2)
	id := h.quarantined()[0].ID
	results := make(chan Settled, 8)
	for range cap(results) {
		go func() {
			s, err := h.Drop(context.Background(), id)
			if err != nil {
				s.Fate = Fate(err.Error())
			}
			results <- s
		}()
	}
	for range cap(results) {
		if s := <-results; s.Fate != FateDropped && s.Fate != FateGone {
			t.Errorf("dropped: %+v", s)
		}
	}
	if c := h.mustAddUp(); c.Received != 2 || c.Stored != 1 || c.Quarantined != 0 || c.Refused["dropped"] != 1 {
		t.Fatalf("counts %+v", c)
	}
	if left := h.quarantined(); len(left) != 0 {
		t.Fatalf("left in the quarantine: %+v", left)
	}
	again := openHub(t, copyOf(t, dir), testConfig(), &memoryStore{})
	if c := again.mustAddUp(); c.Refused["dropped"] != 1 || len(again.quarantined()) != 0 {
		t.Fatalf("after a crash %+v, %+v", c, again.quarantined())
	}
}

// TestACrashWithinARetryMovesTheReadingOnce crashes when the store has the reading and nothing is saved: the journal
// as it is then, the progress as it was before.
func TestACrashWithinARetryMovesTheReadingOnce(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(rejects("n=1 "))
	h := openHub(t, dir, testConfig(), store)
	h.send("a", numbered("b", 1))
	h.settled("a", 1)
	id := h.quarantined()[0].ID
	eventually(t, "the progress is saved", func() bool {
		p, _, err := h.writer.progress.load(t.Context())
		return err == nil && p.Position == journalState(t, h.bus).LastSeq
	})
	store.answers(hang)
	ctx, cancel := context.WithCancel(t.Context())
	tries := store.tries()
	queued := make(chan Settled, 1)
	go func() {
		s, _ := h.Retry(ctx, id)
		queued <- s
	}()
	eventually(t, "the retry is at the store", func() bool { return store.tries() > tries })
	h.mustAddUp()
	cancel()
	if s := <-queued; s.Fate != FateQueued {
		t.Fatalf("a retry that waits for the store: %+v", s)
	}
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same files, opened twice: each time it goes on by itself
		again := &memoryStore{}
		crashed := openHub(t, copyOf(t, left), testConfig(), again)
		if s := crashed.retry(id); s.Fate != FateStored && s.Fate != FateGone {
			t.Fatalf("after the crash: %+v", s)
		}
		if c := crashed.mustAddUp(); c.Received != 1 || c.Stored != 1 || c.Quarantined != 0 || len(crashed.quarantined()) != 0 {
			t.Fatalf("counts after the crash %+v", c)
		}
		if n := countLines(again.accepted(), "n=1 "); n != 1 {
			t.Fatalf("%d lines", n)
		}
		crashed.close()
	}
}

// TestARaisedLimitLetsARetryThrough sets aside by a limit of time and raises it.
func TestARaisedLimitLetsARetryThrough(t *testing.T) {
	dir := t.TempDir()
	h := openHub(t, dir, testConfig(), &memoryStore{})
	h.send("a", `{"ts":86400000,"values":{"x":1}}`)
	h.send("a", `{"ts":0,"measurement":"m","values":{"x":"t, \"q\\"}}`)
	h.settled("a", 2)
	if s := h.retry(h.quarantined()[0].ID); s.Fate != FateQuarantined || s.Reason != "time_past" {
		t.Fatalf("retried %+v", s)
	}
	h.close()
	cfg, store := testConfig(), &memoryStore{}
	cfg.Times.Past = time.UnixMilli(0)
	raised := openHub(t, dir, cfg, store)
	for _, q := range raised.quarantined() {
		if s := raised.retry(q.ID); s.Fate != FateStored {
			t.Errorf("%s: %+v", q.Frame, s)
		}
	}
	if got, want := joinLines(slices.Sorted(slices.Values(store.accepted()))), "m,device=a x=\"t, \\\"q\\\\\" 0\ntelemetry,device=a x=1 86400000"; got != want {
		t.Fatalf("the store has\n%s\nwant\n%s", got, want)
	}
}

// TestBulkSettlesWhatTheFilterTakes drops and retries by device and reason.
func TestBulkSettlesWhatTheFilterTakes(t *testing.T) {
	store := &memoryStore{}
	store.answers(rejects("n="))
	h := openHub(t, t.TempDir(), testConfig(), store)
	for seq := uint64(1); seq <= 10; seq++ {
		h.send("a", numbered("b", seq))
		h.send("c", numbered("b", seq))
		h.send("c", `{"values":{"x":[1]}}`)
	}
	h.settled("a", 10)
	h.settled("c", 20)
	all, err := h.DropAll(t.Context(), Filter{Device: "c", Reason: "bad_value"}, 0, 1000)
	if err != nil || all.Fates[FateDropped] != 10 || all.Next != 0 {
		t.Fatalf("dropped %+v, %v", all, err)
	}
	store.answers(nil)
	if all, err = h.RetryAll(t.Context(), Filter{Reason: "store_rejected"}, 0, 15); err != nil || all.Fates[FateStored] != 15 || all.Next == 0 {
		t.Fatalf("retried %+v, %v", all, err)
	}
	if all, err = h.RetryAll(t.Context(), Filter{Reason: "store_rejected"}, all.Next, 15); err != nil || all.Fates[FateStored] != 5 || all.Next != 0 {
		t.Fatalf("retried %+v, %v", all, err)
	}
	if c := h.mustAddUp(); c.Received != 30 || c.Stored != 20 || c.Refused["dropped"] != 10 || c.Quarantined != 0 {
		t.Fatalf("counts %+v", c)
	}
}

// TestWhatIsSetAsideAgainAfterACrashIsKnown does not rely on NATS's window of duplicates, which a long absence outlasts.
func TestWhatIsSetAsideAgainAfterACrashIsKnown(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig()
	cfg.SaveEvery = time.Hour
	h := openHub(t, dir, cfg, &memoryStore{})
	h.send("a", `{"readings":[{"values":{"x":[1]}},{"values":{"y":[1]}}]}`)
	h.settled("a", 2)
	bus := openBus(t, backbone.Config{Dir: copyOf(t, dir)})
	crashed := openHubOn(t, bus, cfg, &memoryStore{})
	if n := len(crashed.writer.quarantine.there); n != 2 {
		t.Fatalf("knows %d of its last", n)
	}
	crashed.settled("a", 2)
	if got := crashed.quarantined(); len(got) != 2 {
		t.Fatalf("%d in the quarantine: %+v", len(got), got)
	}
}
