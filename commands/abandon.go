package commands

import (
	"context"
	"fmt"
	"time"
)

const causeDeleted = "the device was deleted"

// Abandon ends the open commands of a device that was deleted, so that a new device with its id gets none of them: as
// cancelled where surely nothing was sent, else as unknown. It returns when that is durable; when ctx ends first, the
// ledger goes on with it and the error says so.
func (s *Service) Abandon(ctx context.Context, device, actor string) error {
	s.mu.Lock()
	var ended []*entry
	for _, e := range s.mirror.atWork[device] {
		ended = append(ended, e)
		if e.sending {
			e.abandoned, e.abandoner = true, actor // sent says what it means once the Router has returned
			continue
		}
		s.abandon(e, actor)
	}
	s.mu.Unlock()
	for _, e := range ended {
		select {
		case <-e.settled:
		case <-ctx.Done():
			return fmt.Errorf("commands: end those of device %s, which was deleted: %w", device, ctx.Err())
		case <-s.stop:
			return ErrClosed
		}
	}
	return nil
}

// abandon needs mu.
func (s *Service) abandon(e *entry, actor string) {
	step := Change{State: Cancelled, Time: stamp(time.Now()), Cause: causeDeleted, Actor: actor}
	if e.next.State.atDevice() {
		step.State = Unknown
	}
	s.change(e, step, nil)
}
