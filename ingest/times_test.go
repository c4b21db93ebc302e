package ingest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"telemetryhub/wire"
)

func timesOf(t *wire.Telemetry) (times []int64, flaws []string) {
	for _, r := range t.Readings {
		times, flaws = append(times, r.Time), append(flaws, r.Flaw)
	}
	return times, flaws
}

func TestReadingsWithoutATimeGetAMillisecondEach(t *testing.T) {
	limits := testConfig().Times
	d := &arrival{}
	last := int64(0)
	for _, at := range []int64{received, received, received + 1, received - 5000, received + 100} { // the hub's clock may step back
		frame := telemetry(t, `{"readings":[{"values":{"x":1}},{"values":{"x":2}},{"ts":5,"values":{"x":1}},{"values":{"x":3}}]}`)
		if !d.timeReadings(frame, at, limits, of(maxNames)) {
			t.Fatal("readings without a time were not told of")
		}
		for i, r := range frame.Readings {
			if i == 2 {
				if r.Flaw != wire.ReasonTimePast || r.Time != 5 {
					t.Fatalf("a reading with its own time: %+v", r)
				}
				continue
			}
			if r.Flaw != "" || r.Time <= last || r.Time < at {
				t.Fatalf("received at %d, after %d: %+v", at, last, r)
			}
			last = r.Time
		}
	}
	if last != received+100+2 {
		t.Fatalf("the last time is %d after receipt; the clock should have caught up", last-received)
	}
}

func TestTimesBeyondTheLimitsAreFlawsAndNotMoved(t *testing.T) {
	limits := TimeLimits{Past: time.UnixMilli(1000), Future: time.Minute}
	for _, c := range []struct {
		reading string
		at      int64
		flaw    string
	}{
		{`{"ts":1000,"values":{"x":1}}`, 1000, ""},
		{`{"ts":999,"values":{"x":1}}`, 999, wire.ReasonTimePast},
		{fmt.Sprintf(`{"ts":%d,"values":{"x":1}}`, received+60_000), received + 60_000, ""},
		{fmt.Sprintf(`{"ts":%d,"values":{"x":1}}`, received+60_001), received + 60_001, wire.ReasonTimeFuture},
		{`{"age_ms":0,"values":{"x":1}}`, received, ""},
		{`{"age_ms":1500.4,"values":{"x":1}}`, received - 1500, ""},
		{fmt.Sprintf(`{"age_ms":%d,"values":{"x":1}}`, received-1000), 1000, ""},
		{fmt.Sprintf(`{"age_ms":%d,"values":{"x":1}}`, received), 0, wire.ReasonTimePast},
		{`{"ts":999,"values":{"x":[]}}`, 999, wire.ReasonBadValue}, // the first flaw stays
	} {
		frame := telemetry(t, `{"readings":[`+c.reading+`]}`)
		if (&arrival{}).timeReadings(frame, received, limits, of(maxNames)) {
			t.Errorf("%s took the hub's clock", c.reading)
		}
		if times, flaws := timesOf(frame); times[0] != c.at || flaws[0] != c.flaw {
			t.Errorf("%s: %d %q; want %d %q", c.reading, times[0], flaws[0], c.at, c.flaw)
		}
	}
}

// TestTheClockOfReadingsWithoutATimeSurvivesARestart sends bursts within one millisecond of the hub's clock.
func TestTheClockOfReadingsWithoutATimeSurvivesARestart(t *testing.T) {
	dir, store := t.TempDir(), &memoryStore{}
	for round := range 4 {
		h := openHub(t, dir, testConfig(), store)
		if round == 2 {
			store.answers(away) // the next start reads the clock from the journal, not from the account
		} else {
			store.answers(nil)
		}
		for range 3 {
			h.send("a", `{"readings":[{"values":{"x":1}},{"values":{"x":2}}]}`)
		}
		if round != 2 {
			eventually(t, "all is written", func() bool { return h.of("a").Queued == 0 })
		}
		h.close()
	}
	store.answers(nil)
	h := openHub(t, dir, testConfig(), store)
	h.settled("a", 24)
	var times []string
	for _, line := range store.accepted() {
		var x, at int64
		if _, err := fmt.Sscanf(line, "telemetry,device=a x=%d %d", &x, &at); err != nil {
			t.Fatal(line, err)
		}
		times = append(times, fmt.Sprint(at-received))
	}
	if slices.Sort(times); len(slices.Compact(times)) != 24 {
		t.Fatalf("24 readings have the times %v", times)
	}
}
