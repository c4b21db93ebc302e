package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"telemetryhub/backbone"
)

func TestEachNewReadingIsStoredOnceAndEachResentOneIsCounted(t *testing.T) {
	store := &memoryStore{}
	h := openHub(t, t.TempDir(), testConfig(), store)
	for seq := uint64(1); seq <= 20; seq++ {
		h.send("a", numbered("boot", seq))
		if seq%2 == 0 {
			h.send("a", numbered("boot", seq))
		}
	}
	h.send("a", numbered("other boot", 1))
	h.send("b", numbered("boot", 1))
	if c := h.settled("a", 31); c.Stored != 21 || c.Duplicate != 10 {
		t.Fatalf("counts %+v", c)
	}
	h.settled("b", 1)
	lines := store.accepted()
	if len(lines) != 22 || lines[0] != fmt.Sprintf("telemetry,device=a n=1 %d", received-99_999) {
		t.Fatalf("the store has\n%s", joinLines(lines))
	}
	if got := h.last("a", "boot"); got != 20 {
		t.Fatalf("durable %d", got)
	}
}

func TestFlawedReadingsAreSetAsideWithReasonAndFrame(t *testing.T) {
	store := &memoryStore{}
	h := openHub(t, t.TempDir(), testConfig(), store)
	nasty := `{"boot":"b","seq":1,"readings":[{"ts":1,"values":{"x":1}},{"values":{"x":[1]}},{"values":{"x":"<&>\n\""}},7]}`
	h.send("a", nasty)
	h.Refuse("a", "bad_json")
	c := h.settled("a", 5)
	if c.Stored != 1 || c.Quarantined != 3 || c.Refused["bad_json"] != 1 {
		t.Fatalf("counts %+v", c)
	}
	var got []string
	for _, q := range h.quarantined() {
		if q.Received.UnixMilli() != received || q.Device != "a" || q.Boot != "b" {
			t.Errorf("quarantined %+v", q)
		}
		got = append(got, fmt.Sprintf("%d %s %s", q.Seq, q.Reason, q.Frame))
	}
	want := []string{`1 time_past {"ts":1,"values":{"x":1}}`, `2 bad_value {"values":{"x":[1]}}`, `4 bad_reading 7`}
	if !slices.Equal(got, want) {
		t.Fatalf("quarantine\n%s\nwant\n%s", joinLines(got), joinLines(want))
	}
	page, next, err := h.Quarantine(t.Context(), Filter{}, 0, 2)
	if err != nil || len(page) != 2 || page[0].Seq != 4 {
		t.Fatalf("first page %v %d %v", page, next, err)
	}
	if page, next, err = h.Quarantine(t.Context(), Filter{}, next, 2); err != nil || len(page) != 1 || page[0].Seq != 1 || next != 0 {
		t.Fatalf("second page %v %d %v", page, next, err)
	}
}

func TestLinesThatTheStoreRejectsAreFoundAndTheOthersStored(t *testing.T) {
	store := &memoryStore{}
	store.answers(func(_ context.Context, lines []byte) error {
		for _, bad := range []string{"n=3 ", "n=4 ", "n=70 "} {
			if strings.Contains(string(lines), bad) {
				return &RejectedError{Message: "field type conflict"}
			}
		}
		return nil
	})
	h := openHub(t, t.TempDir(), testConfig(), store)
	var readings []string
	for i := range 100 {
		readings = append(readings, fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, received+i, i+1))
	}
	h.send("a", `{"boot":"b","seq":1,"readings":[`+strings.Join(readings, ",")+`]}`)
	if c := h.settled("a", 100); c.Stored != 97 || c.Quarantined != 3 {
		t.Fatalf("counts %+v", c)
	}
	var seqs []uint64
	for _, q := range h.quarantined() {
		if q.Reason != "store_rejected" || q.Message != "field type conflict" || !strings.Contains(q.Frame, fmt.Sprintf("n=%d ", q.Seq)) {
			t.Errorf("quarantined %+v", q)
		}
		seqs = append(seqs, q.Seq)
	}
	slices.Sort(seqs)
	if !slices.Equal(seqs, []uint64{3, 4, 70}) {
		t.Fatalf("quarantined %v", seqs)
	}
	lines := store.accepted()
	slices.Sort(lines)
	if len(slices.Compact(lines)) != 97 || len(lines) != 97 {
		t.Fatalf("%d lines stored, %d of them different", len(lines), len(slices.Compact(lines)))
	}
}

func TestATooLargeBatchIsHalved(t *testing.T) {
	store := &memoryStore{}
	store.answers(func(_ context.Context, lines []byte) error {
		if len(lines) > 400 {
			return &TooLargeError{Message: "413"}
		}
		return nil
	})
	h := openHub(t, t.TempDir(), testConfig(), store)
	h.send("a", `{"readings":[{"values":{"n":1}},{"values":{"n":2}},{"values":{"s":"`+strings.Repeat("x", 500)+`"}},{"values":{"n":4}}]}`)
	if c := h.settled("a", 4); c.Stored != 3 || c.Quarantined != 1 {
		t.Fatalf("counts %+v", c)
	}
	if q := h.quarantined(); len(q) != 1 || q[0].Message != "413" {
		t.Fatalf("quarantine %+v", q)
	}
}

// retryLater is an error that says when.
type retryLater struct{ after time.Duration }

func (e *retryLater) Error() string             { return "busy" }
func (e *retryLater) RetryAfter() time.Duration { return e.after }

func TestTheStoresPauseIsKept(t *testing.T) {
	store := &memoryStore{}
	var mu sync.Mutex
	var at []time.Time
	store.answers(func(context.Context, []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if at = append(at, time.Now()); len(at) == 1 {
			return &retryLater{700 * time.Millisecond} // beyond what the first pause of its own could be
		}
		return nil
	})
	h := openHub(t, t.TempDir(), testConfig(), store)
	h.send("a", numbered("b", 1))
	h.settled("a", 1)
	mu.Lock()
	defer mu.Unlock()
	if len(at) != 2 || at[1].Sub(at[0]) < 700*time.Millisecond {
		t.Fatalf("tries at %v", at)
	}
}

func TestAMisconfiguredStoreRejectsNothing(t *testing.T) {
	store := &memoryStore{}
	store.answers(func(context.Context, []byte) error {
		return &MisconfiguredError{Message: "401 unauthorized", Mend: "set store.influxdb.token"}
	})
	h := openHub(t, t.TempDir(), testConfig(), store)
	h.send("a", numbered("b", 1))
	eventually(t, "the store was tried twice", func() bool { return store.tries() >= 2 })
	var fault *MisconfiguredError
	if s := h.Status(); !errors.As(s.Store, &fault) || s.Backlog != 1 || s.Journal != nil {
		t.Fatalf("status %+v", s)
	}
	if c := h.mustAddUp(); c.Queued != 1 || c.Quarantined != 0 {
		t.Fatalf("counts %+v", c)
	}
	store.answers(nil)
	h.settled("a", 1)
	if s := h.Status(); s.Store != nil || s.Backlog != 0 {
		t.Fatalf("status %+v", s)
	}
}

// TestStopsInTheMiddleLoseAndDoubleNothing stops and opens a hub again and again while devices send and resend.
func TestStopsInTheMiddleLoseAndDoubleNothing(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	cfg := testConfig()
	cfg.BatchLines = 7
	var sent, resent uint64
	for round := range 4 {
		h := openHub(t, dir, cfg, store)
		if got := h.last("a", "boot"); got != sent {
			t.Fatalf("round %d: durable %d of %d", round, got, sent)
		}
		if c := h.of("a"); c.Received != sent+resent {
			t.Fatalf("round %d: %+v; want %d received", round, c, sent+resent)
		}
		audited := auditAllTheTime(h)
		if sent > 0 {
			h.send("a", numbered("boot", sent))
			resent++
		}
		if round == 2 {
			store.answers(away) // stop with a backlog
		}
		for range 40 {
			sent++
			h.send("a", numbered("boot", sent))
		}
		audited()
		h.close()
		store.answers(nil)
	}
	h := openHub(t, dir, cfg, store)
	if c := h.settled("a", sent+resent); c.Stored != sent || c.Duplicate != resent {
		t.Fatalf("counts %+v; want %d stored and %d duplicates", c, sent, resent)
	}
	lines := store.accepted()
	slices.Sort(lines)
	if uint64(len(lines)) != sent || uint64(len(slices.Compact(lines))) != sent {
		t.Fatalf("%d lines for %d readings", len(lines), sent)
	}
}

// auditAllTheTime checks the account while the hub works; the returned function ends it.
func auditAllTheTime(h *hub) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var before Counts
		for ctx.Err() == nil {
			now := h.mustAddUp()
			if now.Received < before.Received || now.Stored < before.Stored {
				h.t.Errorf("counts went down: %+v after %+v", now, before)
			}
			before = now
		}
	}()
	return func() { cancel(); <-done }
}

func TestWhatWasReadBeforeReadingFailedIsStored(t *testing.T) {
	store := &memoryStore{}
	bus := openBus(t, backbone.Config{Dir: t.TempDir()})
	over := &flakyBus{Backbone: bus}
	over.failEvery.Store(3)
	cfg := testConfig()
	cfg.BatchAge = 50 * time.Millisecond // several envelopes a batch
	h := openHubOver(t, bus, over, cfg, store)
	const sent = 50
	for seq := uint64(1); seq <= sent; seq++ {
		h.send("a", numbered("b", seq))
	}
	if c := h.settled("a", sent); c.Stored != sent {
		t.Fatalf("counts %+v", c)
	}
	if n := len(store.accepted()); n != sent {
		t.Fatalf("%d lines", n)
	}
}

// TestAConsumerThatNATSForgotIsReplaced is a store that was away for minutes: NATS has dropped the consumer meanwhile,
// with nobody asking who could be told.
func TestAConsumerThatNATSForgotIsReplaced(t *testing.T) {
	store := &memoryStore{}
	entered, release := make(chan struct{}, 1), make(chan struct{})
	store.answers(func(ctx context.Context, _ []byte) error {
		select {
		case entered <- struct{}{}:
		default:
		}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	cfg := testConfig()
	cfg.BatchLines = 1
	h := openHub(t, t.TempDir(), cfg, store)
	h.send("a", numbered("b", 1))
	<-entered
	const more = 400 // more than is read in advance, so that no request is open
	for seq := uint64(2); seq <= more; seq++ {
		h.send("a", numbered("b", seq))
	}
	stream := journalStream(t, h.bus)
	for info := range stream.ListConsumers(t.Context()).Info() {
		if err := stream.DeleteConsumer(t.Context(), info.Name); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	h.settled("a", more)
	if n := len(store.accepted()); n != more {
		t.Fatalf("%d lines", n)
	}
}

func TestAStopWhileTheStoreIsAwayTakesNoTime(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(func(context.Context, []byte) error { return &retryLater{time.Hour} })
	h := openHub(t, dir, testConfig(), store)
	h.send("a", numbered("b", 1))
	eventually(t, "the store was tried", func() bool { return store.tries() >= 1 })
	h.close()
	store.answers(nil)
	h = openHub(t, dir, testConfig(), store)
	if c := h.settled("a", 1); c.Stored != 1 {
		t.Fatalf("counts %+v", c)
	}
}

func TestAStopEndsAStoreThatHangs(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	store.answers(hang)
	h := openHub(t, dir, testConfig(), store)
	h.send("a", numbered("b", 1))
	eventually(t, "the store was tried", func() bool { return store.tries() >= 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.stopped = true
	if err := h.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("stop: %v", err)
	}
	h.bus.Close()
	store.answers(nil)
	h = openHub(t, dir, testConfig(), store)
	if c := h.settled("a", 1); c.Stored != 1 || c.Duplicate != 0 {
		t.Fatalf("counts %+v", c)
	}
}
