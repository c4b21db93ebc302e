package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// Full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015): any wait up to a bound that doubles.
const (
	backoffBase = 250 * time.Millisecond
	backoffCap  = 10 * time.Second
)

// pause is the wait before connection attempt number failures+1 after so many that failed in a row. asked is what the
// hub said: the device's own slot, which holds whatever failed before; only a little comes on top, for hubs that tell
// several devices the same.
func pause(failures int, asked time.Duration) time.Duration {
	if asked > 0 {
		return asked + rand.N(backoffBase)
	}
	bound := backoffCap
	if failures < 6 {
		bound = min(backoffCap, backoffBase<<failures)
	}
	return rand.N(bound)
}

// sleep waits, and says whether it waited to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
