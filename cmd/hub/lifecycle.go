package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// stopList is what has been opened, in order. It is closed backwards, which is along the flow of the data: stop
// listening, say goodbye to devices, flush the journal, close the stores.
type stopList struct{ entries []stopEntry }

type stopEntry struct {
	name string
	stop func(ctx context.Context) error
}

// add registers how a thing that was just opened is closed.
func (l *stopList) add(name string, stop func(ctx context.Context) error) {
	l.entries = append(l.entries, stopEntry{name, stop})
}

// run closes everything within budget, which is not cut short by the context that asked for the stop; goes on after a failure, and joins the errors.
func (l *stopList) run(budget time.Duration, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	var errs []error
	for _, e := range slices.Backward(l.entries) {
		start := time.Now()
		err := e.stop(ctx)
		log.Debug("stopped", "part", e.name, "took", time.Since(start).Round(time.Millisecond), "err", err)
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", e.name, err))
		}
	}
	l.entries = nil
	return errors.Join(errs...)
}
