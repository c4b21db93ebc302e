package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// wait returns after d, or with the context's error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until asks done every so often until it says yes, fails, or the limit is over.
func until(ctx context.Context, what string, every, limit time.Duration, done func() (bool, error)) error {
	for start := time.Now(); ; {
		ok, err := done()
		switch {
		case err != nil:
			return fmt.Errorf("wait for %s: %w", what, err)
		case ok:
			return nil
		case time.Since(start) > limit:
			return fmt.Errorf("wait for %s: not within %v", what, limit)
		}
		if err := wait(ctx, every); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
	}
}

// How a value is taken to have settled.
const (
	settleEvery   = 500 * time.Millisecond
	settleWithin  = 0.01 // of the value
	settleReads   = 6    // in a row
	settleAtLeast = 3 * time.Second
	settleLimit   = 20 * time.Second
)

// settled reads a value until several in a row are within 1 % of each other, and returns the last one. It gives up
// waiting, not measuring, after settleLimit: stable is then false.
func settled(ctx context.Context, read func() (float64, error)) (value float64, stable bool, err error) {
	var recent []float64
	for start := time.Now(); ; {
		if value, err = read(); err != nil {
			return 0, false, err
		}
		recent = append(recent, value)
		if len(recent) > settleReads {
			recent = recent[1:]
		}
		low, high := math.Inf(1), math.Inf(-1)
		for _, v := range recent {
			low, high = min(low, v), max(high, v)
		}
		switch age := time.Since(start); {
		case len(recent) == settleReads && age >= settleAtLeast && high-low <= settleWithin*high:
			return value, true, nil
		case age >= settleLimit:
			return value, false, nil
		}
		if err := wait(ctx, settleEvery); err != nil {
			return 0, false, err
		}
	}
}

// clockWatch notes the longest time that this program was kept from running.
type clockWatch struct {
	end     chan struct{}
	longest chan time.Duration
}

func watchClock() *clockWatch {
	w := &clockWatch{end: make(chan struct{}), longest: make(chan time.Duration)}
	go func() {
		const every = 50 * time.Millisecond
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		var longest time.Duration
		for last := time.Now(); ; {
			select {
			case <-ticker.C:
				now := time.Now()
				longest, last = max(longest, now.Sub(last)-every), now
			case <-w.end:
				w.longest <- longest
				return
			}
		}
	}()
	return w
}

// stop ends the watch, once, and returns what it saw.
func (w *clockWatch) stop() time.Duration {
	close(w.end)
	return <-w.longest
}
