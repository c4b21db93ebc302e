package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"telemetryhub/ingest"
	"telemetryhub/store"
)

// Pace of looking for a store that was not there, or not as it has to be, when the hub was started.
const (
	storeCheckTime  = 5 * time.Second
	storeCheckEvery = 10 * time.Second
)

// storeCheck knows what is wrong with the store before the first reading is written to it: a missing bucket is to be told
// when the hub starts, and a database that may be made is made as soon as its server is there.
type storeCheck struct {
	store interface {
		Check(ctx context.Context) error
	}
	log *slog.Logger

	mu    sync.Mutex
	fault error // nil: it was found well
}

// look asks the store, and logs what is wrong when that has changed.
func (c *storeCheck) look(ctx context.Context) (well bool) {
	ctx, cancel := context.WithTimeout(ctx, storeCheckTime)
	defer cancel()
	err := storeOutcome(c.store.Check(ctx))
	c.mu.Lock()
	had := c.fault
	c.fault = err
	c.mu.Unlock()
	misconfigured, isConfig := errors.AsType[*ingest.MisconfiguredError](err)
	switch {
	case err == nil && had != nil:
		c.log.Info("the store is ready")
	case err == nil, had != nil && had.Error() == err.Error():
	case isConfig:
		c.log.Error("the store refuses the hub; readings wait in the journal until that is mended", "err", misconfigured.Message, "mend", misconfigured.Mend)
	default:
		c.log.Warn("the store is not ready; readings wait in the journal", "err", err)
	}
	return err == nil
}

// run looks until the store was found well. From then on the writer knows how it is.
func (c *storeCheck) run(ctx context.Context) {
	tick := time.NewTicker(storeCheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.look(ctx) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// message says how the store is, by what the writer met last or, before that, by what was found; "" if it is well.
func (c *storeCheck) message(writing error) string {
	if writing == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		writing = c.fault
	}
	if writing == nil {
		return ""
	}
	if m, ok := errors.AsType[*ingest.MisconfiguredError](writing); ok {
		return fmt.Sprintf("it refuses the hub; readings wait in the journal until that is mended: %s; %s", m.Message, m.Mend)
	}
	return fmt.Sprintf("away; readings wait in the journal: %v", writing)
}

func (h *hub) openStoreCheck(ctx context.Context, s *store.Store) {
	h.storeCheck = &storeCheck{store: s, log: h.log}
	if !h.storeCheck.look(ctx) {
		h.background("store check", h.storeCheck.run) //nolint:contextcheck // the loop ends with the hub, not with its start
	}
}
