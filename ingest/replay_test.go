package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// replay runs one and waits for its end.
func (h *hub) replay(from, to int64, device string) Replay {
	h.t.Helper()
	if _, err := h.StartReplay(time.UnixMilli(from), time.UnixMilli(to), device); err != nil {
		h.t.Fatal(err)
	}
	eventually(h.t, "the replay ends", func() bool {
		r, ok := h.Replay()
		return ok && r.State != ReplayRunning
	})
	r, _ := h.Replay()
	return r
}

// TestAReplayWritesWhatWasStoredAndNothingElse has duplicates without times, flaws, rejected, retried and dropped ones.
func TestAReplayWritesWhatWasStoredAndNothingElse(t *testing.T) {
	store := &memoryStore{}
	store.answers(rejects("n=3 ", "n=4 ", "n=5 "))
	h := openHub(t, t.TempDir(), testConfig(), store)
	for seq := uint64(1); seq <= 6; seq++ {
		h.send("a", numbered("b", seq))
	}
	h.send("a", `{"boot":"c","seq":1,"values":{"x":1}}`)
	h.send("a", `{"boot":"c","seq":1,"values":{"x":1}}`) // the journal gives it a time of its own
	h.send("a", `{"boot":"c","seq":2,"readings":[{"values":{"x":[1]}},{"values":{"x":3}}]}`)
	h.send("e", numbered("b", 1))
	h.settled("a", 10)
	h.settled("e", 1)
	store.answers(nil)
	for _, q := range h.quarantined() { // n=3 is retried, n=4 dropped, n=5 stays
		switch q.Seq {
		case 3:
			h.retry(q.ID)
		case 4:
			if _, err := h.Drop(t.Context(), q.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	before, had := h.mustAddUp(), store.accepted()
	if len(had) != 7 {
		t.Fatalf("stored\n%s", joinLines(had))
	}
	store.mu.Lock()
	store.lines = nil // the disaster
	store.mu.Unlock()
	r := h.replay(0, received+1, "")
	got := store.accepted()
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(had))) {
		t.Fatalf("replayed\n%s\nstored\n%s", joinLines(got), joinLines(had))
	}
	if r.State != ReplayDone || r.Written != 7 || r.PassedOver != 5 || r.Missing != 0 || r.Envelopes != r.Of {
		t.Errorf("replay %+v", r)
	}
	if after := h.mustAddUp(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the account changed from %+v to %+v", before, after)
	}
	for _, c := range []struct {
		from, to int64
		device   string
		written  uint64
	}{{0, received + 1, "e", 1}, {0, received, "", 0}, {received, received + 1, "a", 6}} {
		if r := h.replay(c.from, c.to, c.device); r.Written != c.written {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

func TestAReplayWaitsForTheStoreAndCanBeCancelled(t *testing.T) {
	store := &memoryStore{}
	h := openHub(t, t.TempDir(), testConfig(), store)
	h.send("a", numbered("b", 1))
	h.settled("a", 1)
	if _, ok := h.Replay(); ok {
		t.Fatal("a replay before the first")
	}
	store.answers(away)
	if _, err := h.StartReplay(time.UnixMilli(0), time.Now(), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it says why it waits", func() bool {
		r, _ := h.Replay()
		return r.Fault == errAway.Error() && r.State == ReplayRunning
	})
	if _, err := h.StartReplay(time.UnixMilli(0), time.Now(), ""); !errors.Is(err, ErrReplayRunning) {
		t.Fatalf("a second one: %v", err)
	}
	if r, ok := h.CancelReplay(); !ok || r.State != ReplayCancelled {
		t.Fatalf("cancelled: %+v", r)
	}
	store.answers(nil)
	if r := h.replay(0, received+1, ""); r.State != ReplayDone || r.Written != 1 {
		t.Fatalf("after that: %+v", r)
	}
	store.answers(hang)
	if _, err := h.StartReplay(time.UnixMilli(0), time.Now(), ""); err != nil {
		t.Fatal(err)
	}
	h.close() // ends it
	if _, err := h.StartReplay(time.UnixMilli(0), time.Now(), ""); !errors.Is(err, ErrStopped) {
		t.Fatalf("after the stop: %v", err)
	}
}

// TestAReplayLetsLiveReadingsGoFirst keeps the writer busy: the replay must not come to the store.
func TestAReplayLetsLiveReadingsGoFirst(t *testing.T) {
	store := &memoryStore{}
	h := openHub(t, t.TempDir(), testConfig(), store)
	h.send("old", numbered("b", 1))
	h.settled("old", 1)
	live := make(chan struct{})
	store.answers(func(ctx context.Context, lines []byte) error {
		if countLines(splitLines(lines), "device=old") > 0 {
			return nil
		}
		select {
		case <-live:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	for seq := uint64(1); seq <= 2*replayBacklog; seq++ {
		h.send("live", numbered("b", seq))
	}
	if _, err := h.StartReplay(time.UnixMilli(0), time.Now(), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has read its envelopes", func() bool {
		r, _ := h.Replay()
		return r.Of > 0 && r.Envelopes == r.Of
	})
	if r, _ := h.Replay(); r.Written != 0 || r.State != ReplayRunning {
		t.Errorf("it did not wait: %+v", r)
	}
	close(live)
	eventually(t, "it ends", func() bool {
		r, _ := h.Replay()
		return r.State == ReplayDone && r.Written > 0
	})
}
