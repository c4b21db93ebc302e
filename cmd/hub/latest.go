package main

import (
	"context"
	"sync"
	"time"

	"telemetryhub/api"
	"telemetryhub/ingest"
	"telemetryhub/store"
)

// Bounds of asking the store for what it had before this start.
const (
	seedPause = 10 * time.Second // after it failed to say it is not asked again
	seedSlow  = time.Second      // an answer that did not come within it is a failure, whatever else took the list's time
)

// latestValues are the newest values in memory. What was stored before this start is read once for each device.
type latestValues struct {
	cache *ingest.Latest
	store latestStore
	home  func(device string) string

	mu     sync.Mutex
	paused time.Time // until then the store is not asked
}

type latestStore interface {
	Latest(ctx context.Context, device, measurement string) (map[string]store.Value, error)
}

func (l *latestValues) of(ctx context.Context, device string) map[string]api.Value {
	known, complete := l.cache.Get(device)
	if !complete && l.seed(ctx, device) {
		known, _ = l.cache.Get(device)
	}
	values := make(map[string]api.Value, len(known))
	for name, v := range known {
		values[name] = api.Value{Value: v.Value, TS: v.Time}
	}
	return values
}

// seed reports whether the store said what it has of the device.
func (l *latestValues) seed(ctx context.Context, device string) bool {
	asked := time.Now()
	if ctx.Err() != nil || l.isPaused(asked) {
		return false
	}
	stored, err := l.store.Latest(ctx, device, l.home(device))
	if now := time.Now(); err != nil {
		if ctx.Err() == nil || now.Sub(asked) >= seedSlow { // else it had no time
			l.pause(now.Add(seedPause))
		}
		return false
	}
	values := make(map[string]ingest.Value, len(stored))
	for name, v := range stored {
		values[name] = ingest.Value{Value: v.Value, Time: v.Time}
	}
	l.cache.Seed(device, values)
	return true
}

func (l *latestValues) isPaused(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.paused)
}

func (l *latestValues) pause(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = until
}
