package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// Send records a command, and returns it once that is durable: as sent if its device is connected, ready and has nothing
// else to do, for then one record holds both accepted and sent, and the command goes out as soon as it is on disk; else
// as queued. It returns failed if the command surely cannot be sent to this device. Refusals, of which nothing is
// recorded, are [*InvalidError], [*QueueFullError], [*BusyError] and [ErrClosed].
//
// Once the record is on its way, the end of ctx does not stop the sending: it only ends the waiting.
func (s *Service) Send(ctx context.Context, r Request) (Command, error) {
	cmd, err := s.validate(r)
	if err != nil {
		return Command{}, err
	}
	if err := ctx.Err(); err != nil {
		return Command{}, fmt.Errorf("commands: send: %w", err)
	}
	e, earlier, err := s.admit(cmd, r)
	if err != nil {
		return Command{}, err
	}
	if earlier != "" {
		return s.first(ctx, earlier, cmd)
	}
	select {
	case <-e.recorded:
	case <-ctx.Done():
		return Command{}, fmt.Errorf("commands: send: the command may be recorded and sent: %w", ctx.Err())
	}
	if e.refused != nil {
		return Command{}, fmt.Errorf("commands: the ledger cannot be written, nothing was sent: %w", e.refused)
	}
	s.mu.Lock()
	ended := e.next.State.Final()
	s.mu.Unlock()
	if ended {
		return s.Wait(ctx, cmd.ID)
	}
	return s.get(ctx, cmd.ID)
}

// Retry sends an ended command again, as a new one that names the old; of by it takes who asks for it and the
// IdempotencyKey. One that has not ended is ErrOpen; other errors are those of Get and Send.
func (s *Service) Retry(ctx context.Context, id string, by Request) (Command, error) {
	old, err := s.get(ctx, id)
	if err != nil {
		return Command{}, err
	}
	if !old.State.Final() {
		return Command{}, fmt.Errorf("%w: it is %s", ErrOpen, old.State)
	}
	by.Device, by.Method, by.Params, by.Delivery, by.RetryOf = old.Device, old.Method, old.Params, old.Delivery, id
	by.Expires, by.Timeout = old.Expires.Sub(old.Created), old.timeout()
	return s.Send(ctx, by)
}

// admit makes the entry of a new command and hands its record to the writers, or returns the earlier command of its key.
func (s *Service) admit(cmd *Command, r Request) (e *entry, earlier string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, "", ErrClosed
	}
	if id, ok := s.keys.find(cmd.Device, cmd.IdempotencyKey); ok && cmd.IdempotencyKey != "" {
		return nil, id, nil
	}
	if s.busy >= MaxOpen {
		return nil, "", &BusyError{Limit: MaxOpen, Value: s.busy, Unit: "commands"}
	}
	if held := s.held + len(cmd.Params); held > MaxOpenBytes {
		return nil, "", &BusyError{Limit: MaxOpenBytes, Value: held, Unit: "bytes of params"}
	}
	l, now := s.lane(cmd.Device), time.Now()
	defer s.sweepLane(l)
	free := s.free(l, now)
	if !free && len(l.waiting) >= s.cfg.Queue {
		return nil, "", &QueueFullError{Device: cmd.Device, Limit: s.cfg.Queue, Value: len(l.waiting)}
	}
	cmd.ID = s.ids.next(now)
	cmd.Created = stamp(now)
	cmd.Expires = cmd.Created.Add(firstOf(r.Expires, s.cfg.Expires))
	cmd.record(Change{State: Accepted, Time: cmd.Created, Actor: cmd.Actor})
	switch {
	case free:
		cmd.Session, cmd.Attempt = l.session, 1
		cmd.record(Change{State: Sent, Time: cmd.Created})
	case l.session == 0:
		cmd.record(Change{State: Queued, Time: cmd.Created, Cause: "the device is not connected, or not yet ready"})
	default:
		cmd.record(Change{State: Queued, Time: cmd.Created, Cause: "the device has others to do first"})
	}
	e = newEntry(*cmd)
	e.version = 1
	if free {
		l.out = insert(l.out, e)
		e.depart()
	} else {
		l.waiting = insert(l.waiting, e)
		e.due = cmd.Expires
		s.setAlarm(e)
	}
	s.count(e)
	s.mirror.add(e)
	if cmd.IdempotencyKey != "" {
		s.keys.add(cmd.Device, cmd.IdempotencyKey, cmd.ID)
	}
	s.save(e)
	return e, "", nil
}

// expireUnsent ends a command that its record calls sent and that surely was not. Called with mu.
func (s *Service) expireUnsent(e *entry, now time.Time, cause string) {
	e.next.Attempt = 0
	s.change(e, Change{State: Expired, Time: stamp(now), Cause: cause}, nil)
}

// notRecorded ends a command whose first record failed. The record may still have reached the disk, so
// the ledger goes on trying to say there that nothing was sent. Called with mu.
func (s *Service) notRecorded(e *entry, err error) {
	e.refused = err
	s.keys.remove(e.next.Device, e.next.IdempotencyKey, e.next.ID)
	e.next.Attempt = 0
	step := Change{State: Failed, Time: stamp(time.Now()), Cause: "not sent: the ledger could not be written"}
	s.change(e, step, func(c *Command) { c.IdempotencyKey = "" })
	close(e.recorded)
}

// first returns the command that an Idempotency-Key already stands for, once that is durable.
func (s *Service) first(ctx context.Context, id string, cmd *Command) (Command, error) {
	s.mu.Lock()
	e := s.mirror.byID[id]
	s.mu.Unlock()
	if e != nil {
		select {
		case <-e.recorded:
		case <-ctx.Done():
			return Command{}, fmt.Errorf("commands: send: %w", ctx.Err())
		}
	}
	have, err := s.get(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return Command{}, errors.New("commands: the first command with this Idempotency-Key could not be recorded; send it again")
	}
	if err != nil {
		return Command{}, err
	}
	if have.Method != cmd.Method || !bytes.Equal(have.Params, cmd.Params) || have.Delivery != cmd.Delivery {
		return Command{}, &InvalidError{Field: "idempotency_key", Message: "it was used for another command (" + id + ")"}
	}
	return have, nil
}
