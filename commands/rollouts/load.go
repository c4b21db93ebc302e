package rollouts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/commands"
)

// load reads the heads and plans of all rollouts, and the devices of those that are not settled. A rollout that cannot be
// read is counted, named in the log and left where it is.
func (s *Service) load(ctx context.Context) error {
	heads, err := s.heads(ctx)
	if err != nil {
		return err
	}
	for id, h := range heads {
		r := &rollout{head: h}
		if err := s.loadOne(ctx, id, r); err != nil {
			s.damaged[id] = true
			s.log.Error("rollout: its records cannot be read", "rollout", id, "err", err)
			continue
		}
		s.byID[id] = r
		if r.plan.IdempotencyKey != "" {
			s.keys[r.plan.IdempotencyKey] = id
		}
		if r.live == nil {
			r.plan.Params = nil
			if h.mendable() { // a late answer may have come just before the end of the process
				s.late(r)
			}
			continue
		}
		r.live.grace = time.Now().Add(s.cfg.Grace)
		r.live.recheck = true
		s.begin(r)
		s.log.Info("rollout: it goes on", "rollout", id, "state", h.State, "devices", r.plan.Devices)
	}
	return nil
}

func (s *Service) loadOne(ctx context.Context, id string, r *rollout) error {
	if err := s.get(ctx, id+planKey, &r.plan); err != nil {
		return err
	}
	if r.plan.ID != id || len(r.head.History) == 0 {
		return errors.New("the plan or the head is not this rollout's")
	}
	if r.head.Settled {
		return nil
	}
	devices, targets, err := s.readAll(ctx, &r.plan)
	if err != nil {
		return err
	}
	r.live = newLive(devices, targets)
	return nil
}

func (s *Service) readAll(ctx context.Context, p *Plan) ([]string, []note, error) {
	devices, targets := make([]string, 0, p.Devices), make([]note, 0, p.Devices)
	for n := range shards(p.Devices) {
		ids, notes, err := s.readShard(ctx, p.ID, n)
		if err != nil {
			return nil, nil, err
		}
		from, to := shardRange(n, p.Devices)
		if len(ids) != to-from || len(notes) != len(ids) {
			return nil, nil, fmt.Errorf("shard %d has %d devices and %d notes, not %d", n, len(ids), len(notes), to-from)
		}
		devices, targets = append(devices, ids...), append(targets, notes...)
	}
	return devices, targets, nil
}

// begin counts a rollout's outcomes and finds its wave. Called with mu, or before there is anybody else.
func (s *Service) begin(r *rollout) {
	l := r.live
	for i := range l.targets {
		s.tally(r, i, 1)
	}
	l.finished = len(l.targets) - l.open()
	r.findWave()
}

// heads reads the heads of all rollouts.
func (s *Service) heads(ctx context.Context) (map[string]head, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watcher, err := s.kv.Watch(ctx, "*"+headKey, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("watch the bucket: %w", err)
	}
	defer func() { _ = watcher.Stop() }() // it ends with ctx too
	found := map[string]head{}
	for {
		var e jetstream.KeyValueEntry
		var ok bool
		select {
		case e, ok = <-watcher.Updates():
		case <-ctx.Done():
			return nil, fmt.Errorf("read the bucket: %w", context.Cause(ctx))
		}
		if !ok {
			return nil, errors.New("read the bucket: the watcher ended")
		}
		if e == nil { // all that was there
			return found, nil
		}
		id := idOf(e.Key())
		var h head
		if err := json.Unmarshal(e.Value(), &h); err != nil || !IsID(id) {
			s.damaged[id] = true
			s.log.Error("rollout: a head cannot be read", "key", e.Key(), "err", err)
			continue
		}
		found[id] = h
	}
}

// visitStale asks the ledger about the unknown and expired commands of settled rollouts that had late answers.
func (s *Service) visitStale() {
	for {
		s.mu.Lock()
		var r *rollout
		for _, one := range s.byID {
			if one.stale && one.live == nil {
				r = one
				break
			}
		}
		if r == nil {
			s.mu.Unlock()
			return
		}
		r.stale = false
		s.mu.Unlock()
		if err := s.mend(r); err != nil {
			if s.ctx.Err() == nil {
				s.log.Error("rollout: late answers could not be noted; tried again later", "rollout", r.plan.ID, "err", err)
			}
			s.mu.Lock()
			r.stale = true
			s.mu.Unlock()
			return
		}
	}
}

// mend brings the notes of a settled rollout up to the ledger.
func (s *Service) mend(r *rollout) error {
	s.mu.Lock()
	mended := r.head
	s.mu.Unlock()
	mended.Counts = counts{}
	changed := false
	for n := range shards(r.plan.Devices) {
		_, notes, err := s.readShard(s.ctx, r.plan.ID, n)
		if err != nil {
			return err
		}
		before := slices.Clone(notes)
		for i := range notes {
			t := &notes[i]
			if t.Outcome.mendable() && t.Command != "" {
				c, err := s.ledger.Get(t.Command)
				if err != nil && !errors.Is(err, commands.ErrNotFound) {
					return err
				}
				if err == nil && c.State.Final() {
					t.Outcome = Outcome(c.State)
				}
			}
			mended.Counts[t.Outcome]++
		}
		if slices.Equal(before, notes) {
			continue
		}
		changed = true
		if err := s.put(s.ctx, shardKey(r.plan.ID, notesKey, n), notes); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	if err := s.put(s.ctx, r.plan.ID+headKey, mended); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.head.Counts = mended.Counts
	s.feeds.Publish(r.view())
	return nil
}
