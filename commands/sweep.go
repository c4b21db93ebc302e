package commands

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	sweepEvery   = time.Hour
	sweepTimeout = 10 * time.Minute
)

// sweepLoop forgets commands that ended longer ago than Keep, and reads old commands back for their late answers.
func (s *Service) sweepLoop() {
	timer := time.NewTimer(time.Minute + rand.N(time.Minute))
	defer timer.Stop()
	for {
		select {
		case l := <-s.lookups:
			s.answerOld(l)
		case <-timer.C:
			if err := s.sweep(time.Now()); err != nil && s.ctx.Err() == nil {
				s.log.Error("command ledger: old commands could not be removed; tried again later", "err", err)
			}
			timer.Reset(sweepEvery + rand.N(sweepEvery/10))
		case <-s.stop:
			return
		}
	}
}

// answerOld takes an answer to a command that is not in memory.
func (s *Service) answerOld(l lateAnswer) {
	c, rev, err := s.read(s.ctx, l.answer.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.mirror.byID[l.answer.ID]
	switch {
	case ok: // it came back meanwhile
		s.answer(e, l)
	case err != nil && !errors.Is(err, ErrNotFound):
		s.stats.DroppedAnswers++
		s.log.Error("command ledger: a late answer could not be taken", "err", err)
	case err != nil || c.Device != l.device || !legal(&c, Change{State: Done, fromDevice: true}):
		s.ignore(l, "unknown or ended")
	default:
		s.answer(s.adopt(c, rev), l)
	}
}

// sweep removes what ended before now - Keep.
func (s *Service) sweep(now time.Time) error {
	cutoff := now.Add(-s.cfg.Keep)
	old := func(c *Command) bool { return c.State.Final() && c.changed().Before(cutoff) }
	s.mu.Lock()
	s.mirror.evict(old)
	s.keys.forget(firstID(cutoff))
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(s.ctx, sweepTimeout)
	defer cancel()
	lister, err := s.kv.ListKeys(ctx)
	if err != nil {
		if errors.Is(err, jetstream.ErrNoKeysFound) {
			return nil
		}
		return fmt.Errorf("list the bucket: %w", err)
	}
	defer func() { _ = lister.Stop() }()
	removed := map[string]bool{}
	for {
		var id string
		var ok bool
		select {
		case id, ok = <-lister.Keys():
		case <-s.stop:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("list the bucket: %w", ctx.Err())
		}
		if !ok {
			break
		}
		if !isID(id) || id >= firstID(cutoff) {
			continue
		}
		gone, err := s.purge(ctx, id, old)
		if err != nil {
			return err
		}
		if gone {
			removed[id] = true
		}
	}
	if len(removed) == 0 {
		return nil
	}
	s.mu.Lock()
	s.mirror.archive.byID = slices.DeleteFunc(s.mirror.archive.byID, func(a archived) bool { return removed[a.id] })
	s.mu.Unlock()
	s.log.Info("command ledger: removed old commands", "commands", len(removed))
	if err := s.kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(-1)); err != nil {
		return fmt.Errorf("remove the markers: %w", err)
	}
	return nil
}

func (s *Service) purge(ctx context.Context, id string, old func(*Command) bool) (bool, error) {
	c, rev, err := s.read(ctx, id)
	if errors.Is(err, ErrNotFound) || (err == nil && !old(&c)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = s.kv.Purge(ctx, id, jetstream.LastRevision(rev))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return false, nil // a late answer came at this moment
	}
	if err != nil {
		return false, fmt.Errorf("remove command %s: %w", id, err)
	}
	return true, nil
}
