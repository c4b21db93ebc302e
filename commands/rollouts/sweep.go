package rollouts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	sweepEvery   = time.Hour
	sweepTimeout = 10 * time.Minute
)

// sweepLoop forgets old rollouts and what is left of those that were not made, and notes late answers.
func (s *Service) sweepLoop() {
	timer := time.NewTimer(time.Minute + rand.N(time.Minute))
	defer timer.Stop()
	for {
		select {
		case <-s.visit:
			s.visitStale()
		case <-timer.C:
			s.visitStale()
			if err := s.sweep(time.Now()); err != nil && s.ctx.Err() == nil {
				s.log.Error("rollouts: old ones could not be removed; tried again later", "err", err)
			}
			timer.Reset(sweepEvery + rand.N(sweepEvery/10))
		case <-s.stop:
			return
		}
	}
}

// forget drops the settled rollouts that ended before now - Keep, and the oldest beyond MaxKept.
func (s *Service) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var settled []*rollout
	for _, r := range s.byID {
		if r.live == nil {
			settled = append(settled, r)
		}
	}
	slices.SortFunc(settled, func(a, b *rollout) int { return cmp.Compare(a.plan.ID, b.plan.ID) })
	for i, r := range settled {
		if len(settled)-i > MaxKept || r.head.Ended.Before(now.Add(-s.cfg.Keep)) {
			delete(s.byID, r.plan.ID)
			if s.keys[r.plan.IdempotencyKey] == r.plan.ID {
				delete(s.keys, r.plan.IdempotencyKey)
			}
		}
	}
}

// sweep removes the records of rollouts that are not in memory: forgotten, or never made whole.
func (s *Service) sweep(now time.Time) error {
	s.forget(now)
	ctx, cancel := context.WithTimeout(s.ctx, sweepTimeout)
	defer cancel()
	gone, err := s.leftovers(ctx)
	if err != nil || len(gone) == 0 {
		return err
	}
	// Heads first: without one, what is left is no rollout.
	slices.SortStableFunc(gone, func(a, b string) int {
		return cmp.Compare(len(b)-len(strings.TrimSuffix(b, headKey)), len(a)-len(strings.TrimSuffix(a, headKey)))
	})
	for _, key := range gone {
		if err := s.kv.Purge(ctx, key); err != nil {
			return fmt.Errorf("remove %s: %w", key, err)
		}
	}
	s.log.Info("rollouts: removed old records", "records", len(gone))
	if err := s.kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(-1)); err != nil {
		return fmt.Errorf("remove the markers: %w", err)
	}
	return nil
}

// leftovers lists the keys of rollouts that are not in memory; what could not be read stays where it is.
func (s *Service) leftovers(ctx context.Context) (gone []string, err error) {
	s.making.Lock() // one that is being made is not in memory yet
	defer s.making.Unlock()
	lister, err := s.kv.ListKeys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the bucket: %w", err)
	}
	defer func() { _ = lister.Stop() }()
	for {
		var key string
		var ok bool
		select {
		case key, ok = <-lister.Keys():
		case <-s.stop:
			return nil, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("list the bucket: %w", ctx.Err())
		}
		if !ok {
			return gone, nil
		}
		id := idOf(key)
		s.mu.Lock()
		_, kept := s.byID[id]
		s.mu.Unlock()
		if !kept && !s.damaged[id] {
			gone = append(gone, key)
		}
	}
}
