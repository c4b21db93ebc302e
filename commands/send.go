package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"telemetryhub/wire"
)

// Send records a command as accepted and sent in one durable record, and then gives it to the device's connection. It
// returns the command as sent, or as failed or expired if it surely did not go out. Refusals, of which nothing is
// recorded, are [*InvalidError], [*OfflineError], [*BusyError] and [ErrClosed].
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
	if id, ok := s.keyed(cmd); ok {
		return s.first(ctx, id, cmd)
	}
	session, online := s.router.Online(r.Device)
	if !online {
		return Command{}, &OfflineError{Device: r.Device}
	}
	e, earlier, err := s.admit(cmd, r, session)
	if err != nil {
		return Command{}, err
	}
	if earlier != "" {
		return s.first(ctx, earlier, cmd)
	}
	defer s.group.Done()       // of admit: Close waits for what is being sent
	rev, err := s.put(*cmd, 0) //nolint:contextcheck // the record is written whole although the asker leaves
	if err != nil {
		s.notRecorded(e)
		return Command{}, fmt.Errorf("commands: the ledger cannot be written, nothing was sent: %w", err)
	}
	s.recorded(e, rev)
	if s.expiredUnsent(e) {
		return s.Wait(ctx, cmd.ID)
	}
	err = s.router.Send(r.Device, session, frame(cmd, time.Now()))
	s.mu.Lock()
	s.sent(e, err)
	s.mu.Unlock()
	if err != nil {
		return s.Wait(ctx, cmd.ID)
	}
	return s.get(ctx, cmd.ID)
}

// keyed returns the id of an earlier command of the same device and Idempotency-Key.
func (s *Service) keyed(cmd *Command) (id string, ok bool) {
	if cmd.IdempotencyKey == "" {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys.find(cmd.Device, cmd.IdempotencyKey)
}

// admit makes the entry of a new command, or returns the earlier command of its key. The
// entry is marked as sending, so that the end of its session is not missed while the record is written.
func (s *Service) admit(cmd *Command, r Request, session uint64) (e *entry, earlier string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, "", ErrClosed
	}
	if id, ok := s.keys.find(cmd.Device, cmd.IdempotencyKey); ok && cmd.IdempotencyKey != "" {
		return nil, id, nil
	}
	if s.busy >= MaxOpen {
		return nil, "", &BusyError{Limit: MaxOpen}
	}
	now := time.Now()
	cmd.ID = s.ids.next(now)
	cmd.Created = stamp(now)
	cmd.Expires = cmd.Created.Add(firstOf(r.Expires, s.cfg.Expires))
	cmd.Session, cmd.Attempt = session, 1
	cmd.record(Change{State: Accepted, Time: cmd.Created, Actor: cmd.Actor})
	cmd.record(Change{State: Sent, Time: cmd.Created})
	e = newEntry(*cmd)
	e.sending, e.counted, e.unsaved = true, true, true
	s.busy++
	s.mirror.add(e)
	if cmd.IdempotencyKey != "" {
		s.keys.add(cmd.Device, cmd.IdempotencyKey, cmd.ID)
	}
	s.group.Add(1)
	return e, "", nil
}

// recorded makes a new command visible.
func (s *Service) recorded(e *entry, rev uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.rev, e.shown, e.unsaved = rev, true, false
	s.show(e, e.next)
	close(e.recorded)
	if s.cfg.Recorded != nil {
		s.cfg.Recorded(e.view)
	}
}

// expiredUnsent ends a command that expired while its record was written, and reports whether it did.
func (s *Service) expiredUnsent(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(e.next.Expires) {
		return false
	}
	e.sending = false
	s.expireUnsent(e, now, "not sent: it expired while it was recorded")
	return true
}

// expireUnsent ends a command that its record calls sent and that surely was not. Called with mu.
func (s *Service) expireUnsent(e *entry, now time.Time, cause string) {
	e.next.Attempt = 0
	s.change(e, Change{State: Expired, Time: stamp(now), Cause: cause}, nil)
}

// notRecorded ends a command whose first record failed. The record may still have reached the disk, so
// the ledger goes on trying to say there that nothing was sent.
func (s *Service) notRecorded(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.WriteFailures++
	e.sending = false
	s.keys.remove(e.next.Device, e.next.IdempotencyKey, e.next.ID)
	step := Change{State: Failed, Time: stamp(time.Now()), Cause: "not sent: the ledger could not be written"}
	s.change(e, step, func(c *Command) { c.Attempt = 0; c.IdempotencyKey = "" })
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

func (s *Service) validate(r Request) (*Command, error) {
	if err := wire.CheckDeviceID(r.Device); err != nil {
		return nil, &InvalidError{Field: "device", Message: err.Error()}
	}
	if err := CheckMethod(r.Method); err != nil {
		return nil, err
	}
	params, err := s.checkParams(r.Params)
	if err != nil {
		return nil, err
	}
	r.Params = params
	masked, err := s.onTerms(&r)
	if err != nil {
		return nil, err
	}
	switch r.Delivery {
	case "":
		r.Delivery = AtMostOnce
	case AtMostOnce, AtLeastOnce:
	default:
		return nil, &InvalidError{Field: "delivery", Message: fmt.Sprintf("%q is neither %s nor %s", r.Delivery, AtMostOnce, AtLeastOnce)}
	}
	if err := errors.Join(s.checkDuration("expires", r.Expires), s.checkDuration("timeout", r.Timeout)); err != nil {
		return nil, err
	}
	if len(r.IdempotencyKey) > MaxKey || !utf8.ValidString(r.IdempotencyKey) {
		return nil, &InvalidError{
			Field: "idempotency_key", Message: fmt.Sprintf("it is a text of at most %d bytes", MaxKey),
			Limit: MaxKey, Value: int64(len(r.IdempotencyKey)),
		}
	}
	return &Command{
		Device: r.Device, Method: r.Method, Params: r.Params, Masked: masked, Delivery: r.Delivery, Actor: r.Actor, Role: r.Role, Origin: r.Origin,
		TimeoutMs: firstOf(r.Timeout, s.cfg.Timeout).Milliseconds(), IdempotencyKey: r.IdempotencyKey,
	}, nil
}

// CheckMethod returns what is wrong with the name of a method, or nil.
func CheckMethod(method string) *InvalidError {
	invalid := func(message string) *InvalidError { return &InvalidError{Field: "method", Message: message} }
	switch {
	case method == "":
		return invalid("it is empty")
	case len(method) > MaxMethod:
		return &InvalidError{
			Field: "method", Message: fmt.Sprintf("it has %d bytes; at most %d are taken", len(method), MaxMethod),
			Limit: MaxMethod, Value: int64(len(method)),
		}
	case !utf8.ValidString(method) || strings.ContainsFunc(method, func(r rune) bool { return !unicode.IsPrint(r) }):
		return invalid("it has characters that cannot be printed")
	case strings.HasPrefix(method, "hub."):
		return invalid("names that begin with hub. are the hub's own")
	}
	return nil
}

// checkParams returns the params without blanks between their parts.
func (s *Service) checkParams(params json.RawMessage) (json.RawMessage, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if len(params) > s.cfg.MaxParams {
		return nil, &InvalidError{
			Field: "params", Message: fmt.Sprintf("they have %d bytes; at most %d are taken", len(params), s.cfg.MaxParams),
			Limit: int64(s.cfg.MaxParams), Value: int64(len(params)),
		}
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, params); err != nil {
		return nil, &InvalidError{Field: "params", Message: "they are not JSON: " + err.Error()}
	}
	text := compact.Bytes()
	if text[0] != '{' && text[0] != '[' {
		return nil, &InvalidError{Field: "params", Message: "they are a JSON object or array"}
	}
	if !utf8.Valid(text) {
		return nil, &InvalidError{Field: "params", Message: "they are not UTF-8"}
	}
	return text, nil
}

func (s *Service) checkDuration(field string, d time.Duration) error {
	if d == 0 || (d >= time.Millisecond && d <= s.cfg.Keep) {
		return nil
	}
	return &InvalidError{Field: field, Message: fmt.Sprintf("%v is not between 1ms and %v", d, s.cfg.Keep)}
}

func firstOf(asked, configured time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	return configured
}
