package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/ingest"
	"telemetryhub/store"
)

// slowStore answers after a while, or not at all.
type slowStore struct {
	takes time.Duration
	err   error
	asked int
}

func (s *slowStore) Latest(ctx context.Context, _, _ string) (map[string]store.Value, error) {
	s.asked++
	select {
	case <-time.After(s.takes):
		return map[string]store.Value{"Temp": {Value: 21.5, Time: 1000}}, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// list asks for the newest values of some devices as a list does, and returns how many were known and how long it took.
func list(l *latestValues, from, to int) (known int, took time.Duration) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for i := from; i < to; i++ {
		known += len(l.of(ctx, fmt.Sprint("d", i)))
	}
	return known, time.Since(start)
}

func TestAHangingStoreHoldsUpOneListAndThenNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &slowStore{takes: time.Hour}
		l := &latestValues{cache: &ingest.Latest{}, store: hanging, home: noHome}
		for i, want := range []time.Duration{2 * time.Second, 0, 0} {
			if known, took := list(l, 0, 100); known != 0 || took != want {
				t.Errorf("list %d: %d known after %v, want %v", i, known, took, want)
			}
		}
		time.Sleep(10 * time.Second)
		hanging.takes = 0
		if known, _ := list(l, 0, 100); known != 100 {
			t.Errorf("%d known when the store was back", known)
		}
	})
}

func TestAStoreThatFailsIsNotAskedForEachDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := &slowStore{err: errors.New("the store is away")}
		l := &latestValues{cache: &ingest.Latest{}, store: failing, home: noHome}
		list(l, 0, 100)
		if failing.asked != 1 {
			t.Errorf("asked %d times", failing.asked)
		}
	})
}

// Many devices take longer than one list has: the next one goes on at once.
func TestAListThatIsTooLongIsNoFailureOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &latestValues{cache: &ingest.Latest{}, store: &slowStore{takes: 30 * time.Millisecond}, home: noHome}
		first, took := list(l, 0, 100)
		if first != 66 || took != 2*time.Second {
			t.Errorf("%d known after %v", first, took)
		}
		if known, _ := list(l, 0, 100); known != 100 {
			t.Errorf("%d known after the second list", known)
		}
	})
}

func noHome(string) string { return "" }
