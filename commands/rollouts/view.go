package rollouts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"telemetryhub/commands"
)

// view is the rollout as readers see it. Called with mu.
func (r *rollout) view() Rollout {
	v := Rollout{
		Plan: r.plan.public(), State: r.head.State, Limits: r.head.Limits, Counts: maps.Clone(r.head.Counts),
		Ended: r.head.Ended, History: r.head.History,
		Wave: Wave{Of: r.plan.Waves.count(r.plan.Devices)},
	}
	l := r.live
	if l == nil {
		v.Wave.Number = v.Wave.Of
		v.Failures = failuresOf(v.Counts)
		return v
	}
	v.Counts = maps.Clone(l.counts)
	v.Failures = failuresOf(v.Counts)
	v.Wave.Number, v.Wave.Size, v.Wave.Open = l.wave.number, l.wave.to-l.wave.from, l.wave.open
	if r.head.State == Running {
		v.Wave.Rest, v.Waiting, v.ETA = l.wave.rest, l.waiting, l.eta(time.Now())
	}
	return v
}

// public is the plan as people may see it.
func (p Plan) public() Plan {
	if p.Masked != nil {
		p.Params, p.Masked = p.Masked, nil
	}
	return p
}

// eta guesses from the pace since the start, or the last resume, when the last outcome comes.
func (l *live) eta(now time.Time) time.Time {
	open := l.open()
	finished, took := len(l.targets)-open-l.finished, now.Sub(l.began)
	if finished < 1 || took < time.Second || open == 0 {
		return time.Time{}
	}
	return stamp(now.Add(time.Duration(float64(took) * float64(open) / float64(finished))))
}

// Get returns one rollout, with its params.
func (s *Service) Get(ctx context.Context, id string) (Rollout, error) {
	s.mu.Lock()
	r, ok := s.byID[id]
	if !ok {
		s.mu.Unlock()
		return Rollout{}, ErrNotFound
	}
	v, settled := r.view(), r.live == nil
	s.mu.Unlock()
	if settled {
		var p Plan
		if err := s.get(ctx, id+planKey, &p); err != nil {
			return Rollout{}, err
		}
		v.Params = p.public().Params
	}
	return v, nil
}

// List returns rollouts, the newest first and of one state if state is not empty, and the cursor of the next page ("" at
// the end). Their params are left out.
func (s *Service) List(state State, limit int, cursor string) (found []Rollout, next string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := slices.SortedFunc(maps.Keys(s.byID), func(a, b string) int { return cmp.Compare(b, a) })
	for _, id := range ids {
		r := s.byID[id]
		if cursor != "" && id >= cursor || state != "" && r.head.State != state {
			continue
		}
		if len(found) == limit {
			return found, found[limit-1].ID
		}
		v := r.view()
		v.Params = nil
		found = append(found, v)
	}
	return found, ""
}

// Devices returns what became of a rollout's devices, in the order of sending, those with one of the outcomes if any are
// named, and the cursor of the next page ("" at the end). Errors: ErrNotFound, *commands.InvalidError (cursor).
func (s *Service) Devices(ctx context.Context, id string, outcomes []Outcome, limit int, cursor string) (found []DeviceOutcome, next string, err error) {
	at := 0
	if cursor != "" {
		if at, err = strconv.Atoi(cursor); err != nil || at < 0 {
			return nil, "", &commands.InvalidError{Field: "cursor", Message: "it is not one; pass on what next said"}
		}
	}
	s.mu.Lock()
	r, ok := s.byID[id]
	if !ok {
		s.mu.Unlock()
		return nil, "", ErrNotFound
	}
	total := r.plan.Devices
	s.mu.Unlock()
	for n := at / shardSize; n < shards(total); n++ {
		devices, notes, err := s.shard(ctx, r, n)
		if err != nil {
			return nil, "", err
		}
		from, _ := shardRange(n, total)
		for i := max(at-from, 0); i < len(devices); i++ {
			if len(outcomes) > 0 && !slices.Contains(outcomes, notes[i].Outcome) {
				continue
			}
			if len(found) == limit {
				return found, strconv.Itoa(from + i), nil
			}
			d, err := s.outcome(devices[i], notes[i])
			if err != nil {
				return nil, "", err
			}
			found = append(found, d)
		}
	}
	return found, "", nil
}

// shard returns a piece of the devices and their notes, from memory or the bucket.
func (s *Service) shard(ctx context.Context, r *rollout, n int) ([]string, []note, error) {
	s.mu.Lock()
	if l := r.live; l != nil {
		from, to := shardRange(n, len(l.devices))
		devices, notes := l.devices[from:to], slices.Clone(l.targets[from:to])
		s.mu.Unlock()
		return devices, notes, nil
	}
	s.mu.Unlock()
	return s.readShard(ctx, r.plan.ID, n)
}

// outcome joins the note with what the ledger says of the command.
func (s *Service) outcome(device string, t note) (DeviceOutcome, error) {
	d := DeviceOutcome{Device: device, Outcome: t.Outcome, Command: t.Command, Cause: t.Text}
	if t.Command == "" {
		return d, nil
	}
	c, err := s.ledger.Get(t.Command)
	if errors.Is(err, commands.ErrNotFound) { // it is older than the ledger keeps
		return d, nil
	}
	if err != nil {
		return d, fmt.Errorf("rollouts: %w", err)
	}
	c = c.Public()
	if n := len(c.History); n > 0 {
		d.Time = c.History[n-1].Time
		d.Cause = cmp.Or(t.Text, c.History[n-1].Cause)
	}
	return d, nil
}
