package rollouts_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands/rollouts"
)

// TestKilledAtEachWrite ends the process after the first, the second, ... write to the disk, until it is not ended any
// more, and lets the next process go on. Each device is sent the command at most once, and exactly once but for the ones
// whose command was on its way when the process ended.
func TestKilledAtEachWrite(t *testing.T) {
	for _, offline := range []rollouts.OfflineRule{rollouts.QueueOffline, rollouts.SkipOffline} {
		ended := false
		for writes := 1; !ended; writes++ {
			t.Run(fmt.Sprint(offline, writes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { ended = killAfter(t, writes, offline) })
			})
		}
	}
}

// killAfter reports whether the rollout was done before so many writes.
func killAfter(t *testing.T, writes int, offline rollouts.OfflineRule) bool {
	const devices = 12
	ledger, kv := newMemories()
	f := newFleet(devices)
	f.set(fails, 2)
	h := open(t, ledger, kv, f, rollouts.Config{Open: 3, Grace: time.Minute})
	kv.dieAfter(writes)
	request := rollouts.Request{
		To: rollouts.Selector{All: true}, Method: "ping", Offline: offline, IdempotencyKey: "k",
		Waves: rollouts.Waves{Sizes: sizes(t, "5"), Pause: time.Second},
	}
	made, err := h.Create(t.Context(), request)
	time.Sleep(20 * time.Second)
	ended := !kv.dead()
	h.shut(t, time.Second)
	before := f.sent()
	if err != nil && before != 0 {
		t.Fatalf("it was not made, and %d were sent", before)
	}

	kv.dieAfter(-1)
	f.setOffline(true) // they come back after the hub
	h = open(t, ledger, kv, f, rollouts.Config{Open: 3, Grace: time.Minute})
	time.Sleep(10 * time.Second)
	if f.sent() != before {
		t.Errorf("%d were sent to devices that are away", f.sent()-before)
	}
	f.setOffline(false)
	f.connect()
	again := h.create(t, request)
	if err == nil && again.ID != made.ID {
		t.Errorf("the rollout of before is lost")
	}
	end := h.until(t, again.ID, rollouts.Done)
	f.wantOnce(t)
	if sure := end.Counts["done"] + end.Counts["failed"]; sure+end.Counts["unknown"] != devices || sure < devices-3 {
		t.Errorf("%v of %d devices; 3 were on their way", end.Counts, devices)
	}
	all, _, err := h.Devices(t.Context(), again.ID, nil, devices, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		ran := f.ran[d.Device]
		switch {
		case d.Outcome == "done" && ran != 1,
			d.Outcome == "failed" && d.Device != "d00002" && ran != 0, // the ledger could not record it
			d.Outcome == "failed" && ran == 0 && !strings.HasPrefix(d.Cause, "not sent"):
			t.Errorf("%s is %s (%s), and ran %d times", d.Device, d.Outcome, d.Cause, ran)
		}
	}
	return ended
}

func (f *fleet) setOffline(offline bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.devices {
		f.offline[id] = offline
	}
}

func TestAPausedRolloutStaysPausedAndItsOutcomesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(10)
		f.set(silent, 0, 1, 2)
		h := open(t, ledger, kv, f, rollouts.Config{Open: 3})
		made := h.create(t, rollouts.Request{Timeout: time.Hour})
		f.sentBy(time.Second)
		if _, err := h.Pause(t.Context(), made.ID, "ada"); err != nil {
			t.Fatal(err)
		}
		h.shut(t, closing)
		h = open(t, ledger, kv, f, rollouts.Config{Open: 3})
		f.sentBy(time.Hour)
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"unknown": 3, "pending": 7}) // the ledger's restart made them unknown
		if r.State != rollouts.Paused || r.Wave.Number != 1 {
			t.Errorf("it is %s, wave %d", r.State, r.Wave.Number)
		}
		if _, err := h.Resume(t.Context(), made.ID, "ada", nil); err != nil {
			t.Fatal(err)
		}
		h.until(t, made.ID, rollouts.Done)
		f.wantOnce(t)
	})
}

func TestACancelledRolloutSendsNothingAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(10)
		f.set(silent, 0, 1)
		h := open(t, ledger, kv, f, rollouts.Config{Open: 2})
		made := h.create(t, rollouts.Request{Timeout: time.Hour})
		f.sentBy(time.Second)
		// The cancelling is written, the notes of the rest are not.
		kv.dieAfter(2)
		_, _ = h.Cancel(t.Context(), made.ID, "ada")
		h.shut(t, time.Second)
		kv.dieAfter(-1)
		h = open(t, ledger, kv, f, rollouts.Config{})
		f.sentBy(time.Hour)
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"unknown": 2, "cancelled": 8})
		if r.State != rollouts.Cancelled || f.sent() != 2 {
			t.Errorf("it is %s, %d were sent", r.State, f.sent())
		}
	})
}

// TestALateAnswerBeforeAKill has an answer reach the ledger, and the process end before the rollout notes it.
func TestALateAnswerBeforeAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(2)
		f.set(silent, 0)
		h := open(t, ledger, kv, f, rollouts.Config{})
		made := h.create(t, rollouts.Request{Timeout: time.Second})
		h.until(t, made.ID, rollouts.Done)
		f.sentBy(time.Second)
		kv.dieAfter(1) // the ledger's
		f.answerKept()
		f.sentBy(time.Second)
		h.shut(t, time.Second)
		kv.dieAfter(-1)
		h = open(t, ledger, kv, f, rollouts.Config{})
		f.sentBy(time.Second)
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 2})
		done, _, _ := h.Devices(t.Context(), made.ID, []rollouts.Outcome{"done"}, 10, "")
		if len(done) != 2 {
			t.Errorf("done: %+v", done)
		}
	})
}

func TestADamagedRolloutStopsNobodyAndIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(3)
		h := open(t, ledger, kv, f, rollouts.Config{})
		bad, good := h.create(t, rollouts.Request{}), h.create(t, rollouts.Request{})
		h.until(t, bad.ID, rollouts.Done)
		h.until(t, good.ID, rollouts.Done)
		h.shut(t, closing)
		if _, err := kv.Put(t.Context(), bad.ID+".plan", []byte("{")); err != nil {
			t.Fatal(err)
		}
		h = open(t, ledger, kv, f, rollouts.Config{})
		f.sentBy(3 * time.Hour) // also through the sweep
		if list, _ := h.List("", 10, ""); len(list) != 1 || list[0].ID != good.ID || h.Stats().Damaged != 1 {
			t.Errorf("%d rollouts, %+v", len(list), h.Stats())
		}
		if keys := strings.Join(kv.keys(), " "); !strings.Contains(keys, bad.ID+".head") {
			t.Errorf("keys: %s", keys)
		}
	})
}

func TestOldRolloutsAndHalfMadeOnesAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(3)
		h := open(t, ledger, kv, f, rollouts.Config{Keep: 24 * time.Hour})
		kv.dieAfter(2)
		if _, err := h.Create(t.Context(), rollouts.Request{To: rollouts.Selector{All: true}, Method: "ping"}); err == nil || f.sent() != 0 {
			t.Fatalf("%v, %d sent", err, f.sent())
		}
		kv.dieAfter(-1)
		if len(kv.keys()) != 2 {
			t.Fatalf("keys: %v", kv.keys())
		}
		old := h.create(t, rollouts.Request{IdempotencyKey: "k"})
		f.sentBy(12 * time.Hour)
		if keys := kv.keys(); len(keys) != 4 || !strings.HasPrefix(keys[0], old.ID) {
			t.Errorf("after the first sweep: %v", keys)
		}
		f.sentBy(14 * time.Hour)
		if list, _ := h.List("", 10, ""); len(list) != 0 || len(kv.keys()) != 0 {
			t.Errorf("%d rollouts, keys %v", len(list), kv.keys())
		}
		if again := h.create(t, rollouts.Request{IdempotencyKey: "k"}); again.ID == old.ID {
			t.Error("the old one's key is kept")
		}
	})
}

func TestABucketThatCannotBeWrittenIsToldAndTriedAgain(t *testing.T) {
	inTime(t, 10, rollouts.Config{Open: 1}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 0)
		made := h.create(t, rollouts.Request{Timeout: time.Hour})
		f.sentBy(time.Second)
		memory := f.disk
		memory.dieAfter(0)
		if _, err := h.Pause(t.Context(), made.ID, "ada"); err == nil || !strings.Contains(err.Error(), "the change holds, but could not be written yet") {
			t.Errorf("pause: %v", err)
		}
		memory.dieAfter(-1)
		f.sentBy(10 * time.Second)
		if st := h.Stats(); st.SaveFailures == 0 {
			t.Errorf("stats %+v", st)
		}
		if r, err := h.Resume(t.Context(), made.ID, "ada", nil); err != nil || r.State != rollouts.Running {
			t.Errorf("%s, %v", r.State, err)
		}
		f.answerKept()
		h.until(t, made.ID, rollouts.Done)
	})
}

func TestALedgerThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	inTime(t, 10, rollouts.Config{Open: 1}, func(t *testing.T, h *hub, f *fleet) {
		made := h.create(t, rollouts.Request{Waves: rollouts.Waves{Sizes: sizes(t, "1"), Pause: time.Second}})
		f.sentBy(1500 * time.Millisecond)
		f.disk.dieAfter(0)
		f.sentBy(10 * time.Second)
		if r, _ := h.Get(t.Context(), made.ID); f.sent() != 2 || !strings.Contains(r.Waiting, "the process is dead") {
			t.Errorf("%d sent, waits for %q", f.sent(), r.Waiting)
		}
		f.disk.dieAfter(-1)
		end := h.until(t, made.ID, rollouts.Done)
		f.wantOnce(t)
		if f.sent() != 10 || end.Counts["done"] != 10 {
			t.Errorf("%d sent, %v", f.sent(), end.Counts)
		}
	})
}
