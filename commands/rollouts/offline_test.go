package rollouts_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

// away has devices go offline, or come back.
func (f *fleet) away(offline bool, devices ...int) {
	f.mu.Lock()
	for _, d := range devices {
		f.offline[fmt.Sprintf("d%05d", d)] = offline
	}
	ledger, session := f.ledger, f.session
	f.mu.Unlock()
	for _, d := range devices {
		id := fmt.Sprintf("d%05d", d)
		if offline {
			ledger.SessionEnded(id, session)
		} else {
			ledger.SessionReady(id, session)
		}
	}
}

func numbers(from, to int) (all []int) {
	for d := from; d < to; d++ {
		all = append(all, d)
	}
	return all
}

func TestOfflineDevicesGetTheCommandWhenTheyComeBack(t *testing.T) {
	inTime(t, 6, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		f.away(true, 0, 1, 4)
		made := h.create(t, rollouts.Request{Waves: rollouts.Waves{Sizes: sizes(t, "3"), Pause: time.Second}, Timeout: 5 * time.Second, Expires: time.Hour})
		if n := f.sentBy(9 * time.Second); n != 1 {
			t.Errorf("%d sent; the wave is waited for", n)
		}
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 1, "queued": 2, "pending": 3})
		if r.Waiting != "wave 1: the outcomes of 2 devices, 2 queued" {
			t.Errorf("waits for %q", r.Waiting)
		}
		if n := f.sentBy(3 * time.Second); n != 3 { // 10 s and the pause
			t.Errorf("%d sent after the wave's timeout", n)
		}
		f.away(false, 1, 4)
		f.sentBy(10 * time.Second)
		r, _ = h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 5, "queued": 1})
		f.sentBy(time.Hour)
		r, _ = h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 5, "expired": 1})
		if r.State != rollouts.Done || r.Failures != 1 {
			t.Errorf("it is %s with %d failures", r.State, r.Failures)
		}
		f.wantOnce(t)
	})
}

func TestOfflineDevicesAreSkippedIfAsked(t *testing.T) {
	inTime(t, 6, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		f.away(true, 0, 1, 4)
		made := h.create(t, rollouts.Request{Offline: rollouts.SkipOffline, Waves: rollouts.Waves{Sizes: sizes(t, "2")}})
		end := h.until(t, made.ID, rollouts.Done)
		wantCounts(t, end, map[rollouts.Outcome]int{"done": 3, "skipped": 3})
		f.away(false, 0, 1, 4)
		if n := f.sentBy(time.Hour); n != 3 {
			t.Errorf("%d sent", n)
		}
	})
}

func TestCancelTakesBackWhatIsQueued(t *testing.T) {
	inTime(t, 100, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		half := numbers(0, 50)
		f.away(true, half...)
		made := h.create(t, rollouts.Request{})
		f.sentBy(time.Second)
		if _, err := h.Cancel(t.Context(), made.ID, "ada"); err != nil {
			t.Fatal(err)
		}
		f.sentBy(3 * time.Second)
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 50, "cancelled": 50})
		f.away(false, half...)
		if n := f.sentBy(time.Hour); n != 50 || h.Stats().Open != 0 {
			t.Errorf("%d sent, %d open", n, h.Stats().Open)
		}
		got, _, err := h.Devices(t.Context(), made.ID, []rollouts.Outcome{"cancelled"}, 1, "")
		if err != nil || len(got) != 1 || got[0].Cause != "cancelled before it was sent" {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestAFullQueueOfOfflineDevicesHoldsUpNobodyElse(t *testing.T) {
	inTime(t, 40, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		h.LimitShares(10, 2)
		f.away(true, numbers(0, 20)...)
		made := h.create(t, rollouts.Request{Expires: 10 * time.Minute, Timeout: time.Second})
		f.sentBy(30 * time.Second)
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 20, "queued": 10, "pending": 10})
		if open := h.ledger.Stats().Open; open != 10 {
			t.Errorf("%d commands are open", open)
		}
		f.away(false, numbers(10, 20)...) // those that wait in the rollout
		f.sentBy(10 * time.Second)
		r, _ = h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 30, "queued": 10})
		f.away(false, numbers(0, 10)...)
		wantCounts(t, h.until(t, made.ID, rollouts.Done), map[rollouts.Outcome]int{"done": 40})
		f.wantOnce(t)
	})
}

func TestCancelEndsAlsoWhatWaitsForRoomInTheQueue(t *testing.T) {
	inTime(t, 40, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		h.LimitShares(10, 2)
		f.away(true, numbers(0, 20)...)
		made := h.create(t, rollouts.Request{})
		f.sentBy(10 * time.Second)
		if _, err := h.Cancel(t.Context(), made.ID, "ada"); err != nil {
			t.Fatal(err)
		}
		f.sentBy(10 * time.Second)
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 20, "cancelled": 20})
		if h.Stats().Open != 0 {
			t.Errorf("%d rollouts are open", h.Stats().Open)
		}
	})
}

// TestAStartDoesNotPauseAgainAfterWavesThatAreOver has the first and the last device wait for room in the queue while all waves go out.
func TestAStartDoesNotPauseAgainAfterWavesThatAreOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(20)
		h := open(t, ledger, kv, f, rollouts.Config{})
		h.LimitShares(0, 10)
		f.away(true, 0, 19)
		made := h.create(t, rollouts.Request{Timeout: time.Second, Waves: rollouts.Waves{Sizes: sizes(t, "1"), Pause: 30 * time.Second}})
		f.sentBy(time.Hour)
		if f.sent() != 18 {
			t.Errorf("%d sent", f.sent())
		}
		h.shut(t, closing)
		f.away(false, 0, 19)
		h = open(t, ledger, kv, f, rollouts.Config{})
		restarted := time.Now()
		h.until(t, made.ID, rollouts.Done)
		if took := time.Since(restarted); took > time.Minute || f.sent() != 20 {
			t.Errorf("it took %v, %d sent", took, f.sent())
		}
		f.wantOnce(t)
	})
}

func TestQueuedCommandsOutliveTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(4)
		h := open(t, ledger, kv, f, rollouts.Config{})
		f.away(true, 0, 1)
		made := h.create(t, rollouts.Request{Expires: time.Hour})
		f.sentBy(time.Second)
		h.shut(t, closing)
		h = open(t, ledger, kv, f, rollouts.Config{})
		r, _ := h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 2, "queued": 2})
		f.away(false, 0)
		f.sentBy(time.Second)
		r, _ = h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 3, "queued": 1})
		f.sentBy(time.Hour)
		h.until(t, made.ID, rollouts.Done)
		f.wantOnce(t)
	})
}

func TestADeviceWhoseQueueIsFullIsSkipped(t *testing.T) {
	inTime(t, 2, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		f.away(true, 0)
		for range commands.Defaults().Queue {
			if _, err := h.ledger.Send(t.Context(), commands.Request{Device: "d00000", Method: "m"}); err != nil {
				t.Fatal(err)
			}
		}
		made := h.create(t, rollouts.Request{})
		wantCounts(t, h.until(t, made.ID, rollouts.Done), map[rollouts.Outcome]int{"done": 1, "skipped": 1})
		got, _, err := h.Devices(t.Context(), made.ID, []rollouts.Outcome{"skipped"}, 1, "")
		if err != nil || len(got) != 1 || !strings.Contains(got[0].Cause, "commands wait for device d00000") {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestLostChangesAreFetchedFromTheLedger says that the feed lost some, while devices answer.
func TestLostChangesAreFetchedFromTheLedger(t *testing.T) {
	inTime(t, 3, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 0, 1)
		made := h.create(t, rollouts.Request{Timeout: time.Hour})
		f.sentBy(time.Second)
		h.MissChanges()
		f.answerKept()
		h.MissChanges()
		wantCounts(t, h.until(t, made.ID, rollouts.Done), map[rollouts.Outcome]int{"done": 3})
		f.wantOnce(t)
	})
}
