package rollouts_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands/rollouts"
)

// sentBy waits a time and returns how many devices were sent something by then.
func (f *fleet) sentBy(d time.Duration) int {
	time.Sleep(d)
	synctest.Wait()
	return f.sent()
}

// inTime runs a test in virtual time.
func inTime(t *testing.T, devices int, cfg rollouts.Config, test func(t *testing.T, h *hub, f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		ledger, kv := newMemories()
		f := newFleet(devices)
		f.disk = kv.disk
		test(t, open(t, ledger, kv, f, cfg), f)
	})
}

func TestWavesFollowEachOtherAfterThePause(t *testing.T) {
	inTime(t, 20, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		made := h.create(t, rollouts.Request{Waves: rollouts.Waves{Sizes: sizes(t, "1", "25%", "10"), Pause: time.Minute}})
		if made.Wave.Of != 4 { // 1, 5, 10, 4
			t.Errorf("%d waves", made.Wave.Of)
		}
		for i, want := range []int{1, 6, 16} {
			if n := f.sentBy(time.Second); n != want {
				t.Errorf("wave %d: %d sent, want %d", i+1, n, want)
			}
			r, _ := h.Get(t.Context(), made.ID)
			if r.Wave.Number != i+1 || r.Wave.Open != 0 || r.Wave.Rest.IsZero() || r.Waiting != fmt.Sprintf("the pause after wave %d", i+1) {
				t.Errorf("wave %d: %+v, waits for %q", i+1, r.Wave, r.Waiting)
			}
			if n := f.sentBy(58 * time.Second); n != want {
				t.Errorf("wave %d: before the pause is over %d sent, want %d", i+1, n, want)
			}
			time.Sleep(time.Second)
		}
		end := h.until(t, made.ID, rollouts.Done)
		if took := end.Ended.Sub(end.Created); took != 3*time.Minute {
			t.Errorf("it took %v", took)
		}
		f.wantOnce(t)
	})
}

func TestAWaveWaitsForItsOutcomes(t *testing.T) {
	inTime(t, 4, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 0)
		made := h.create(t, rollouts.Request{Waves: rollouts.Waves{Sizes: sizes(t, "2")}, Timeout: 10 * time.Second})
		if n := f.sentBy(9 * time.Second); n != 2 {
			t.Errorf("%d sent while an answer is missing, want 2", n)
		}
		if r, _ := h.Get(t.Context(), made.ID); r.Waiting != "wave 1: the outcome of 1 device" {
			t.Errorf("waits for %q", r.Waiting)
		}
		end := h.until(t, made.ID, rollouts.Done)
		wantCounts(t, end, map[rollouts.Outcome]int{"done": 3, "unknown": 1})
		if took := end.Ended.Sub(end.Created).Round(time.Second); took != 10*time.Second {
			t.Errorf("it took %v, want the command's timeout", took)
		}
	})
}

func TestAWaveIsNotWaitedForBeyondItsTimeout(t *testing.T) {
	inTime(t, 4, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 0)
		made := h.create(t, rollouts.Request{Waves: rollouts.Waves{Sizes: sizes(t, "2"), Timeout: 3 * time.Second}, Timeout: time.Minute})
		if n := f.sentBy(2900 * time.Millisecond); n != 2 {
			t.Errorf("%d sent before the timeout", n)
		}
		if n := f.sentBy(200 * time.Millisecond); n != 4 {
			t.Errorf("%d sent after the timeout", n)
		}
		end := h.until(t, made.ID, rollouts.Done)
		wantCounts(t, end, map[rollouts.Outcome]int{"done": 3, "unknown": 1})
	})
}

func TestNoMoreThanTheLimitAreAtTheirDevices(t *testing.T) {
	inTime(t, 10, rollouts.Config{Open: 3}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		made := h.create(t, rollouts.Request{})
		for want := 3; want <= 9; want += 3 {
			if n := f.sentBy(time.Second); n != want {
				t.Fatalf("%d are at their devices, want %d", n, want)
			}
			f.answerKept()
		}
		f.sentBy(time.Second)
		f.answerKept()
		wantCounts(t, h.until(t, made.ID, rollouts.Done), map[rollouts.Outcome]int{"done": 10})
	})
}

func TestALimitOfFailuresStopsIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		fails  []int
		waves  rollouts.Waves
		limits rollouts.Limits
		sent   int
		cause  string // "": it is not stopped
	}{
		{"count", []int{2, 4, 5, 7, 9}, rollouts.Waves{}, limits(t, "3", "", 0), 6, "3 of 6 devices failed; the limit is 3"},
		{"count not reached", []int{2, 4}, rollouts.Waves{}, limits(t, "3", "", 0), 30, ""},
		{"percent after the minimum", []int{0, 1}, rollouts.Waves{}, limits(t, "20%", "", 8), 8, "2 of 8 devices failed; the limit is 20%"},
		{"percent, ten by default", []int{0}, rollouts.Waves{}, limits(t, "10%", "", 0), 10, "1 of 10 devices failed; the limit is 10%"},
		{"percent not reached", []int{0, 29}, rollouts.Waves{}, limits(t, "20%", "", 8), 30, ""},
		{"wave", []int{1, 11, 12}, rollouts.Waves{Sizes: sizes(t, "10")}, limits(t, "", "2", 0), 13, "2 of 3 devices of wave 2 failed; the limit is 2"},
		{"wave percent at its end", []int{0, 5, 6}, rollouts.Waves{Sizes: sizes(t, "5")}, limits(t, "", "40%", 0), 10, "2 of 5 devices of wave 2 failed; the limit is 40%"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTime(t, 30, rollouts.Config{Open: 1}, func(t *testing.T, h *hub, f *fleet) {
				f.set(fails, c.fails...)
				made := h.create(t, rollouts.Request{Waves: c.waves, Limits: c.limits})
				r := h.until(t, made.ID, rollouts.Stopped, rollouts.Done)
				f.sentBy(time.Hour)
				if f.sent() != c.sent {
					t.Errorf("%d were sent, want %d", f.sent(), c.sent)
				}
				if c.cause == "" && r.State != rollouts.Done || c.cause != "" && (r.State != rollouts.Stopped || r.Cause() != c.cause) {
					t.Errorf("it is %s: %q, want %q", r.State, r.Cause(), c.cause)
				}
			})
		})
	}
}

func limits(t *testing.T, all, wave string, minimum int) rollouts.Limits {
	t.Helper()
	return rollouts.Limits{Failures: amount(t, all), WaveFailures: amount(t, wave), Minimum: minimum}
}

// TestALimitHoldsWhateverIsUnderWay sends to many at a time: what fails beyond the limit was sent before it was reached.
func TestALimitHoldsWhateverIsUnderWay(t *testing.T) {
	inTime(t, 500, rollouts.Config{Open: 20}, func(t *testing.T, h *hub, f *fleet) {
		for d := range 500 {
			f.set(fails, d)
		}
		made := h.create(t, rollouts.Request{Limits: limits(t, "5", "", 0)})
		h.until(t, made.ID, rollouts.Stopped)
		f.sentBy(time.Minute)
		if n := f.sent(); n < 5 || n > 5+20 {
			t.Errorf("%d were sent; the limit is 5, and 20 may be under way", n)
		}
		if r, _ := h.Get(t.Context(), made.ID); r.Failures != f.sent() {
			t.Errorf("%d failures of %d", r.Failures, f.sent())
		}
	})
}

func TestResumeCountsFailuresAnew(t *testing.T) {
	inTime(t, 30, rollouts.Config{Open: 1}, func(t *testing.T, h *hub, f *fleet) {
		f.set(fails, 0, 1, 2, 3, 4, 5)
		made := h.create(t, rollouts.Request{Limits: limits(t, "2", "", 0)})
		h.until(t, made.ID, rollouts.Stopped)
		if _, err := h.Resume(t.Context(), made.ID, "ada", nil); err != nil {
			t.Fatal(err)
		}
		r := h.until(t, made.ID, rollouts.Stopped)
		if f.sent() != 4 || r.Failures != 4 || r.Cause() != "2 of 2 devices failed since it was resumed; the limit is 2" {
			t.Errorf("%d sent, %d failures, %q", f.sent(), r.Failures, r.Cause())
		}
		raised := limits(t, "3", "", 0)
		r, err := h.Resume(t.Context(), made.ID, "ada", &raised)
		if err != nil || r.Limits != raised {
			t.Fatalf("%+v, %v", r.Limits, err)
		}
		r = h.until(t, made.ID, rollouts.Done)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 24, "failed": 6})
		var story []string
		for _, c := range r.History {
			story = append(story, string(c.State)+" "+c.Actor)
		}
		if got := strings.Join(story, ", "); got != "running , stopped , running ada, stopped , running ada, done " {
			t.Errorf("story: %s", got)
		}
		f.wantOnce(t)
	})
}

func TestPauseAndResume(t *testing.T) {
	inTime(t, 10, rollouts.Config{Open: 2}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 0, 1)
		made := h.create(t, rollouts.Request{Timeout: time.Hour})
		f.sentBy(time.Second)
		if _, err := h.Resume(t.Context(), made.ID, "ada", nil); err == nil || !strings.Contains(err.Error(), "is running; only one that is paused or stopped can do that") {
			t.Errorf("resume of a running one: %v", err)
		}
		r, err := h.Pause(t.Context(), made.ID, "ada")
		if err != nil || r.State != rollouts.Paused || r.History[1].Actor != "ada" {
			t.Fatalf("%+v, %v", r, err)
		}
		f.answerKept()
		if n := f.sentBy(time.Hour); n != 2 {
			t.Errorf("%d were sent while paused", n)
		}
		if r, _ = h.Get(t.Context(), made.ID); r.Counts["done"] != 2 || r.State != rollouts.Paused {
			t.Errorf("an outcome while paused: %s %v", r.State, r.Counts)
		}
		if _, err := h.Pause(t.Context(), made.ID, "ada"); err == nil {
			t.Error("paused twice")
		}
		if _, err := h.Resume(t.Context(), made.ID, "bob", nil); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, h.until(t, made.ID, rollouts.Done), map[rollouts.Outcome]int{"done": 10})
		if _, err := h.Cancel(t.Context(), made.ID, "ada"); err == nil || !strings.Contains(err.Error(), "is done; only one that has not ended can do that") {
			t.Errorf("cancel of a done one: %v", err)
		}
	})
}

func TestCancelEndsTheRest(t *testing.T) {
	inTime(t, 10, rollouts.Config{Open: 2}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 2, 3)
		made := h.create(t, rollouts.Request{Timeout: time.Minute})
		f.sentBy(time.Second)
		r, err := h.Cancel(t.Context(), made.ID, "ada")
		if err != nil || r.State != rollouts.Cancelled || r.Cause() != "cancelled before 6 of 10 devices were sent anything" {
			t.Fatalf("%s %q, %v", r.State, r.Cause(), err)
		}
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 2, "sent": 2, "cancelled": 6})
		if n := f.sentBy(2 * time.Minute); n != 4 {
			t.Errorf("%d were sent", n)
		}
		r, _ = h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 2, "unknown": 2, "cancelled": 6})
		f.answerKept() // late
		f.sentBy(time.Second)
		r, _ = h.Get(t.Context(), made.ID)
		wantCounts(t, r, map[rollouts.Outcome]int{"done": 4, "cancelled": 6})
		if r.State != rollouts.Cancelled || h.Stats().Open != 0 {
			t.Errorf("it is %s, %d are open", r.State, h.Stats().Open)
		}
	})
}

func TestALateAnswerMendsTheCounts(t *testing.T) {
	inTime(t, 3, rollouts.Config{}, func(t *testing.T, h *hub, f *fleet) {
		f.set(silent, 1)
		made := h.create(t, rollouts.Request{Timeout: time.Second, Waves: rollouts.Waves{Sizes: sizes(t, "2"), Pause: time.Minute}})
		f.sentBy(2 * time.Second)
		r, _ := h.Get(t.Context(), made.ID)
		if r.Failures != 1 || r.Counts["unknown"] != 1 {
			t.Errorf("no answer: %v", r.Counts)
		}
		f.answerKept()
		f.sentBy(time.Second)
		if r, _ = h.Get(t.Context(), made.ID); r.Failures != 0 || r.Counts["done"] != 2 {
			t.Errorf("a late answer: %v", r.Counts)
		}
		h.until(t, made.ID, rollouts.Done)
	})
}

func TestViewsComeAtAPaceAndAfterEachChange(t *testing.T) {
	inTime(t, 600, rollouts.Config{Open: 1}, func(t *testing.T, h *hub, f *fleet) {
		feed := h.Subscribe(1000)
		defer feed.Close()
		slow := h.Subscribe(1)
		made := h.create(t, rollouts.Request{Waves: rollouts.Waves{Sizes: sizes(t, "1"), Pause: 10 * time.Millisecond}})
		end := h.until(t, made.ID, rollouts.Done) // 6 s
		synctest.Wait()
		n, last := len(feed.C()), rollouts.Rollout{}
		for range n {
			last = <-feed.C()
		}
		if n < 10 || n > 20 {
			t.Errorf("%d views in %v", n, end.Ended.Sub(end.Created))
		}
		if last.State != rollouts.Done || last.Counts["done"] != 600 {
			t.Errorf("the last one is %s %v", last.State, last.Counts)
		}
		if slow.Missed() == 0 || h.Stats().MissedViews == 0 {
			t.Error("nobody missed anything")
		}
	})
}
