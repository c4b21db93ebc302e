package judge_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"telemetryhub/cmd/device-sim/judge"
	"telemetryhub/cmd/device-sim/readings"
)

const (
	run   = 123456789
	start = 1_700_000_000_000
)

// memory is a store that a test can spoil.
type memory struct {
	points []judge.Point
	fail   error // after the points
}

func (m *memory) Points(_ context.Context, _ string, from, to int64) iter.Seq2[judge.Point, error] {
	return func(yield func(judge.Point, error) bool) {
		for _, p := range m.points {
			if p.TS >= from && p.TS < to && !yield(p, nil) {
				return
			}
		}
		if m.fail != nil {
			yield(judge.Point{}, m.fail)
		}
	}
}

// sent makes a device of count readings, 10 ms apart, and a store that has them all.
func sent(count uint64, byNumber bool) (judge.Subject, *memory) {
	s := judge.Subject{
		Device: "d", Ledger: &judge.Ledger{}, Sent: count, Acked: count, Spans: []judge.Span{{From: start - 1000, To: start + 100_000}},
	}
	if byNumber {
		s.Run = run
	} else {
		s.Alone = true
	}
	s.Source = readings.NewSynth(readings.NewWave(), 1, 2, run)
	store := &memory{}
	for n := uint64(1); n <= count; n++ {
		ts := int64(start + 10*n)
		s.Ledger.Append(ts)
		values := make(map[string]any)
		for i, v := range s.Source.Values(nil, n) {
			values[s.Source.Names()[i]] = v
		}
		store.points = append(store.points, judge.Point{TS: ts, Values: values})
	}
	return s, store
}

func wantVerdict(t *testing.T, s judge.Subject, store judge.Store, stored, lost, duplicated uint64, fault string) {
	t.Helper()
	v, err := judge.Check(t.Context(), store, s)
	if err != nil {
		t.Fatal(err)
	}
	if v.Stored != stored || v.Lost != lost || v.Duplicated != duplicated {
		t.Errorf("stored %d lost %d duplicated %d, want %d %d %d; faults %q", v.Stored, v.Lost, v.Duplicated, stored, lost, duplicated, v.Faults)
	}
	if v.Good() != (lost == 0 && duplicated == 0) {
		t.Errorf("Good() = %v of %+v", v.Good(), v)
	}
	if fault != "" && !strings.Contains(strings.Join(v.Faults, "\n"), fault) {
		t.Errorf("faults %q, want %q among them", v.Faults, fault)
	}
}

func TestAllIsWell(t *testing.T) {
	for _, byNumber := range []bool{true, false} {
		s, store := sent(100, byNumber)
		wantVerdict(t, s, store, 100, 0, 0, "")
	}
}

func TestALostReadingIsFound(t *testing.T) {
	for _, byNumber := range []bool{true, false} {
		s, store := sent(100, byNumber)
		store.points = append(store.points[:41], store.points[42:]...)
		wantVerdict(t, s, store, 99, 1, 0, "reading 42 (ts 1700000000420) was acked and is not stored")
		s.Acked = 41 // sent and not acked: it may be missing
		wantVerdict(t, s, store, 99, 0, 0, "")
	}
}

func TestADoubledReadingIsFound(t *testing.T) {
	s, store := sent(100, true)
	again := store.points[41]
	again.TS += 3 // as a resent reading that was given the time of its receipt
	store.points = append(store.points, again)
	wantVerdict(t, s, store, 100, 0, 1, "reading 42 (ts 1700000000420) is stored more than once")
	s.Acked = 0 // not even one that was not acked
	wantVerdict(t, s, store, 100, 0, 1, "")

	s, store = sent(100, false)
	store.points = append(store.points, store.points[41])
	wantVerdict(t, s, store, 100, 0, 1, "reading 42")
	store.points[100].TS += 3 // a time that was never sent
	wantVerdict(t, s, store, 100, 0, 1, "never sent")
}

func TestAChangedReadingIsLost(t *testing.T) {
	for name, spoil := range map[string]func(*judge.Point){
		"temperature is":         func(p *judge.Point) { p.Values["temperature"] = p.Values["temperature"].(float64) + 1e-12 },
		"(string)":               func(p *judge.Point) { p.Values["humidity"] = "50.1" },
		"vibration is missing":   func(p *judge.Point) { delete(p.Values, "vibration") },
		"its time is":            func(p *judge.Point) { p.TS++ },
		"it has 6 fields, sent ": func(p *judge.Point) { p.Values["more"] = 1.0 },
	} {
		s, store := sent(10, true)
		spoil(&store.points[4])
		wantVerdict(t, s, store, 9, 1, 0, name)
	}
}

func TestClocklessReadingsMayHaveAnyTime(t *testing.T) {
	s, store := sent(10, true)
	s.Clockless, s.Ledger = true, &judge.Ledger{}
	for range 10 {
		s.Ledger.Append(0)
	}
	for i := range store.points {
		store.points[i].TS += 77
	}
	wantVerdict(t, s, store, 10, 0, 0, "")
	store.points = store.points[1:]
	wantVerdict(t, s, store, 9, 1, 0, "reading 1 (no time)")
}

func TestPointsNeverSent(t *testing.T) {
	s, store := sent(10, true)
	other := judge.Point{TS: start + 5, Values: map[string]any{"n": 3.0, "run": 99.0}} // another run's
	bad := judge.Point{TS: start + 6, Values: map[string]any{"n": -1.0, "run": float64(run)}}
	store.points = append(store.points, other)
	wantVerdict(t, s, store, 10, 0, 0, "")
	store.points = append(store.points, bad)
	wantVerdict(t, s, store, 10, 0, 1, "never sent")
	bad.Values["n"] = 11.0
	wantVerdict(t, s, store, 10, 0, 1, "never sent")
}

func TestWithoutAllPagesThereIsNoVerdict(t *testing.T) {
	s, store := sent(10, true)
	store.fail = errors.New("connection refused")
	if v, err := judge.Check(t.Context(), store, s); !errors.Is(err, store.fail) || v.Stored != 0 {
		t.Errorf("verdict %+v, error %v", v, err)
	}
}

func TestLedgerKeepsTimesInTheOrderSent(t *testing.T) {
	var l judge.Ledger
	want := []int64{1458031648545, 1458031648546, 1458031660000, 1458031650000, 0, 0, 1458031648545}
	for _, ts := range want {
		l.Append(ts)
	}
	got := l.Times()
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("times %v, want %v", got, want)
		}
	}
	if oldest, newest := l.Span(); oldest != 0 || newest != 1458031660000 || l.Len() != 7 {
		t.Errorf("span %d to %d of %d", oldest, newest, l.Len())
	}
}
