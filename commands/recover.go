package commands

import (
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
		s.count(e)
		s.ids.follow(c.ID)
		l := s.lane(c.Device)
		if c.State.atDevice() {
			l.out = insert(l.out, e)
		} else {
			l.waiting = insert(l.waiting, e)
		}
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

// count makes an entry one of the open ones. Called with mu, or before there is anybody else.
func (s *Service) count(e *entry) {
	e.counted = true
	s.busy++
	s.held += len(e.next.Params)
}

// discount takes that a command has ended and is written. Called with mu.
func (s *Service) discount(e *entry) {
	if e.counted {
		e.counted = false
		s.busy--
		s.held -= len(e.next.Params)
	}
}

// settleLeftovers goes on with what an earlier process left open. All its connections are gone: what it may have sent
// is unknown or sent again, and what surely waits goes on waiting.
func (s *Service) settleLeftovers(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting, out := 0, 0
	for _, l := range s.lanes {
		for _, e := range slices.Clone(l.waiting) {
			s.keepWaiting(l, e, now)
			waiting++
		}
		for _, e := range slices.Clone(l.out) {
			out++
			if e.repeats() {
				e.due = e.next.Expires // sent again when the device is ready, or expired then
				s.setAlarm(e)
				continue
			}
			s.change(e, Change{State: Unknown, Time: stamp(now), Cause: "the hub was restarted while the answer was open"}, nil)
		}
	}
	if waiting+out > 0 {
		s.log.Info("command ledger: goes on with what an earlier run left open", "waiting", waiting, "sent", out)
	}
}

func (s *Service) keepWaiting(l *lane, e *entry, now time.Time) {
	if !now.Before(e.next.Expires) {
		s.expireWaiting(l, e, now)
		return
	}
	e.due = e.next.Expires
	s.setAlarm(e)
	if e.next.State == Accepted {
		s.change(e, Change{State: Queued, Time: stamp(now), Cause: "the hub was restarted before it was sent"}, nil)
	}
}
