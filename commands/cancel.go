package commands

import (
	"context"
	"fmt"
	"time"
)

// Cancel ends a command that was not sent: it returns the command as cancelled. One that was sent cannot be called back;
// the device is asked to give it up, the command is returned as it stands, with CancelAsked, and its end is what the
// device answers. It is not sent again from then on. Where the device cannot be asked, because it is not connected, a
// command that was sent at least once becomes unknown. One that has ended is ErrTooLate.
//
// It returns when that is durable, or with the state reached when ctx ends.
func (s *Service) Cancel(ctx context.Context, id, actor string) (Command, error) {
	s.mu.Lock()
	e, ok := s.mirror.byID[id]
	if !ok || !e.shown {
		s.mu.Unlock()
		c, err := s.get(ctx, id)
		if err != nil {
			return Command{}, err
		}
		return c, fmt.Errorf("%w: the command is %s", ErrTooLate, c.State)
	}
	step := Change{State: Cancelled, Time: stamp(time.Now()), Cause: "cancelled before it was sent", Actor: actor}
	if e.departing {
		e.next.Attempt = 0 // its record calls it sent, and it was not
	}
	switch {
	case s.change(e, step, nil):
		s.mu.Unlock()
		return s.Wait(ctx, id)
	case e.next.State.Final():
		defer s.mu.Unlock()
		return e.view, fmt.Errorf("%w: the command is %s", ErrTooLate, e.next.State)
	}
	return s.askToCancel(ctx, e, actor)
}

// askToCancel asks the device. Called with mu, which it gives up.
func (s *Service) askToCancel(ctx context.Context, e *entry, actor string) (Command, error) {
	device, id := e.next.Device, e.next.ID
	session := uint64(0)
	if l := s.lanes[device]; l != nil {
		session = l.session
	}
	now := time.Now()
	if session == 0 && !e.sending {
		cause := fmt.Sprintf("cancelled while the device was not connected; sent %d times, it may have run", e.next.Attempt)
		s.change(e, Change{State: Unknown, Time: stamp(now), Cause: cause, Actor: actor}, func(c *Command) { c.CancelAsked = stamp(now) })
		s.mu.Unlock()
		return s.Wait(ctx, id)
	}
	s.note(e, Change{Time: stamp(now), Cause: "the device was asked to cancel it", Actor: actor}, func(c *Command) { c.CancelAsked = stamp(now) })
	version := e.version
	if e.again {
		e.again = false // it is not sent again: the answer to what was sent is awaited
	}
	if !e.sending {
		s.awaitAnswer(e, now)
	}
	s.mu.Unlock()
	err := s.router.Cancel(device, session, id)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !e.next.State.Final() {
		s.note(e, Change{Time: stamp(time.Now()), Cause: "it could not be asked: " + tell(err.Error())}, func(*Command) {})
		version = e.version
	}
	return s.awaitVersion(ctx, e, version), nil
}

// awaitVersion returns the command once a version of it is durable, or as it is when ctx or the ledger ends. Called with mu.
func (s *Service) awaitVersion(ctx context.Context, e *entry, version int) Command {
	for e.durable < version && ctx.Err() == nil && !s.closed {
		written := e.written
		if written == nil {
			written = make(chan struct{})
			e.written = written
		}
		s.mu.Unlock()
		select {
		case <-written:
		case <-ctx.Done():
		case <-s.stop:
		}
		s.mu.Lock()
	}
	return e.view
}
