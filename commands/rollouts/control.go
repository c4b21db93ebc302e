package rollouts

import (
	"context"
	"fmt"
	"time"
)

// Pause stops the sending; what was sent goes on. Errors: ErrNotFound, *StateError.
func (s *Service) Pause(ctx context.Context, id, actor string) (Rollout, error) {
	return s.control(ctx, id, func(r *rollout, now time.Time) error {
		if r.head.State != Running {
			return &StateError{ID: id, State: r.head.State, Want: "one that is running"}
		}
		s.step(r, Change{State: Paused, Time: now, Cause: "paused", Actor: actor})
		return nil
	})
}

// Resume goes on with a rollout that is paused or stopped, with other limits if limits is not nil. After a stop,
// failures are counted anew. Errors: ErrNotFound, *StateError, *commands.InvalidError.
func (s *Service) Resume(ctx context.Context, id, actor string, limits *Limits) (Rollout, error) {
	if limits != nil {
		if err := limits.check(); err != nil {
			return Rollout{}, err
		}
	}
	return s.control(ctx, id, func(r *rollout, now time.Time) error {
		cause := "resumed"
		switch r.head.State {
		case Paused:
		case Stopped:
			cause = "resumed; failures are counted anew"
			r.head.Run++
			r.live.ended, r.live.failures = 0, 0
		default:
			return &StateError{ID: id, State: r.head.State, Want: "one that is paused or stopped"}
		}
		if limits != nil {
			r.head.Limits = *limits
		}
		r.live.began, r.live.finished = now, len(r.live.targets)-r.live.open()
		r.countWave()
		s.step(r, Change{State: Running, Time: now, Cause: cause, Actor: actor})
		return nil
	})
}

// Cancel ends a rollout: the rest is not sent, and what is queued is cancelled. What was sent goes on, and still gets its
// outcome; the counts say how much that is. Errors: ErrNotFound, *StateError.
func (s *Service) Cancel(ctx context.Context, id, actor string) (Rollout, error) {
	return s.control(ctx, id, func(r *rollout, now time.Time) error {
		if r.head.State.Final() {
			return &StateError{ID: id, State: r.head.State, Want: "one that has not ended"}
		}
		left := r.live.counts[Pending] - len(r.live.sending)
		cause := fmt.Sprintf("cancelled before %d of %d devices were sent anything", left, len(r.live.devices))
		s.step(r, Change{State: Cancelled, Time: now, Cause: cause, Actor: actor})
		s.cancelRest(r)
		return nil
	})
}

// control makes a change and returns when it is durable.
func (s *Service) control(ctx context.Context, id string, change func(*rollout, time.Time) error) (Rollout, error) {
	s.mu.Lock()
	r, ok := s.byID[id]
	switch {
	case s.closed:
		s.mu.Unlock()
		return Rollout{}, ErrClosed
	case !ok:
		s.mu.Unlock()
		return Rollout{}, ErrNotFound
	case r.live == nil:
		defer s.mu.Unlock()
		return r.view(), &StateError{ID: id, State: r.head.State, Want: "one that has not ended"}
	}
	if err := change(r, stamp(time.Now())); err != nil {
		defer s.mu.Unlock()
		return r.view(), err
	}
	l, version := r.live, r.live.version
	s.mu.Unlock()
	return s.durable(ctx, r, l, version)
}

// durable waits until a version of the rollout is written.
func (s *Service) durable(ctx context.Context, r *rollout, l *live, version uint64) (Rollout, error) {
	for {
		s.mu.Lock()
		view, saved, failed, tried := r.view(), l.saved >= version, l.saveErr, l.tried
		s.mu.Unlock()
		switch {
		case saved:
			return view, nil
		case failed != nil:
			return view, fmt.Errorf("rollouts: the change holds, but could not be written yet; it is tried again: %w", failed)
		}
		select {
		case <-tried:
		case <-ctx.Done():
			return view, fmt.Errorf("rollouts: the change holds, but was not written yet: %w", ctx.Err())
		case <-s.stop:
			return view, ErrClosed
		}
	}
}
