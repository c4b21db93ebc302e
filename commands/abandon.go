package commands

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Abandon ends the open commands of a device that was deleted or disabled, so that neither it nor a new device with its
// id gets any of them: as cancelled where surely nothing was sent, else as unknown. The cause stands in their story. It
// returns when that is durable; when ctx ends first, the ledger goes on with it and the error says so.
func (s *Service) Abandon(ctx context.Context, device, actor, cause string) error {
	s.mu.Lock()
	var ended []*entry
	if l := s.lanes[device]; l != nil {
		ended = slices.Concat(l.waiting, l.out)
	}
	for _, e := range ended {
		switch {
		case e.sending || !e.shown: // sent and written say what it means, once the Router or the bucket has answered
			e.abandoned, e.abandoner = cause, actor
		case e.departing:
			e.next.Attempt = 0
			s.abandon(e, cause, actor)
		default:
			s.abandon(e, cause, actor)
		}
	}
	s.mu.Unlock()
	for _, e := range ended {
		select {
		case <-e.settled:
		case <-ctx.Done():
			return fmt.Errorf("commands: end those of device %s, as %s: %w", device, cause, ctx.Err())
		case <-s.stop:
			return ErrClosed
		}
	}
	return nil
}

// abandon needs mu.
func (s *Service) abandon(e *entry, cause, actor string) {
	step := Change{State: Cancelled, Time: stamp(time.Now()), Cause: cause, Actor: actor}
	if e.next.Attempt > 0 {
		step.State = Unknown
	}
	s.change(e, step, nil)
}
