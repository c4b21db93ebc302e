package bridge

import (
	"testing"
	"time"
)

func TestBackoffDrawsFromADoublingBound(t *testing.T) {
	for attempt, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 31: time.Minute, 1000: time.Minute} {
		if got := backoff(attempt, time.Second, time.Minute, func(n int64) int64 { return n - 1 }); got != want {
			t.Errorf("attempt %d waits up to %s, want %s", attempt, got, want)
		}
		if got := backoff(attempt, time.Second, time.Minute, func(int64) int64 { return 0 }); got != 0 {
			t.Errorf("attempt %d waits at least %s, want 0", attempt, got)
		}
	}
}
