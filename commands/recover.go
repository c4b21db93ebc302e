package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// load fills the mirror from the bucket. A record that cannot be read is counted, named in the log and left where it is.
func (s *Service) load(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watcher, err := s.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("watch the bucket: %w", err)
	}
	defer func() { _ = watcher.Stop() }() // it ends with ctx too
	for {
		var kve jetstream.KeyValueEntry
		var ok bool
		select {
		case kve, ok = <-watcher.Updates():
		case <-ctx.Done():
			return fmt.Errorf("read the bucket: %w", context.Cause(ctx))
		}
		if !ok {
			return errors.New("read the bucket: the watcher ended")
		}
		if kve == nil { // all that was there
			return nil
		}
		c, err := decodeRecord(kve.Value())
		if err != nil || c.ID != kve.Key() {
			s.stats.Damaged++
			s.log.Error("command ledger: a record cannot be read", "key", kve.Key(), "err", err)
			continue
		}
		s.adopt(c, kve.Revision())
	}
}

// adopt takes a durable command into the mirror. Called with mu, or before there is anybody else.
func (s *Service) adopt(c Command, rev uint64) *entry {
	e := newEntry(c)
	e.view, e.rev, e.shown = c, rev, true
	close(e.recorded)
	if c.State.Final() {
		close(e.settled)
	} else {
		e.counted = true
		s.busy++
	}
	s.mirror.add(e)
	if c.IdempotencyKey != "" {
		s.keys.add(c.Device, c.IdempotencyKey, c.ID)
	}
	if s.mirror.bytes > s.mirror.limit {
		s.mirror.evict(nil)
	}
	return e
}

func newEntry(c Command) *entry {
	return &entry{next: c, recorded: make(chan struct{}), settled: make(chan struct{}), alarm: -1}
}

// settleLeftovers ends what an earlier process left open and what cannot go on: all its connections are gone.
func (s *Service) settleLeftovers(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*entry
	for _, device := range s.mirror.atWork {
		for _, e := range device {
			open = append(open, e)
		}
	}
	slices.SortFunc(open, func(a, b *entry) int { return cmp.Compare(a.next.ID, b.next.ID) })
	for _, e := range open {
		expired := !now.Before(e.next.Expires)
		step := Change{Time: stamp(now)}
		switch {
		case e.next.State.atDevice() && e.next.Delivery == AtLeastOnce:
			e.due = e.next.Expires // sent again when the device is ready, or expired then
			s.setAlarm(e)
			continue
		case e.next.State.atDevice():
			step.State, step.Cause = Unknown, "the hub was restarted while the answer was open"
		case expired:
			step.State, step.Cause = Expired, "it expired before it was sent"
		default:
			step.State, step.Cause = Failed, "not sent: the hub was restarted before it was sent"
		}
		s.change(e, step, nil)
	}
	if len(open) > 0 {
		s.log.Info("command ledger: settled what an earlier run left open", "commands", len(open))
	}
}
