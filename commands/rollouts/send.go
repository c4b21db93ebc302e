package rollouts

import (
	"errors"
	"time"

	"telemetryhub/commands"
)

// send gives one device its command.
func (s *Service) send(r *rollout, i int) {
	l := r.live
	defer l.senders.Done()
	device := l.devices[i]
	c, why, err := s.sendTo(r, device)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay(l.sending[i], -1)
	delete(l.sending, i)
	defer l.poke()
	invalid, forbidden := (*commands.InvalidError)(nil), (*commands.ForbiddenError)(nil)
	switch {
	case err == nil && why != "":
		s.set(r, i, Skipped, c.ID, why)
	case err == nil:
		s.takeOlder(r, i, c)
		l.trouble = ""
	case errors.As(err, &invalid), errors.As(err, &forbidden): // it was taken when the rollout was made: the device has changed
		s.set(r, i, Outcome(commands.Rejected), "", "not sent: "+err.Error())
	default:
		s.stats.SendFailures++
		if l.trouble != err.Error() {
			s.log.Warn("rollout: a command could not be sent; it is tried again", "rollout", r.plan.ID, "device", device, "err", err)
		}
		l.trouble, l.backoff, l.next = err.Error(), time.Now().Add(lookAgain), min(l.next, i)
	}
}

// sendTo sends, or says why the device is skipped.
func (s *Service) sendTo(r *rollout, device string) (c commands.Command, why string, err error) {
	d, known := s.fleet.Find(device)
	switch {
	case !known:
		return c, "the device was deleted", nil
	case !d.Enabled:
		return c, "the device was disabled", nil
	case r.plan.Offline == SkipOffline && !s.fleet.Online(device):
		return c, "the device was offline", nil
	}
	c, err = s.ledger.Send(s.ctx, r.plan.command(device))
	full := (*commands.QueueFullError)(nil)
	switch {
	case errors.As(err, &full):
		return c, full.Error(), nil
	case err == nil && c.State == commands.Queued && r.plan.Offline == SkipOffline && !s.fleet.Online(device):
		// It went away at this moment.
		if c, err = s.ledger.Cancel(s.ctx, c.ID, r.plan.Actor); err == nil && c.State == commands.Cancelled {
			return c, "the device was offline", nil
		}
		return c, "", nil // it came back at this moment, and has ended or was asked to give it up: the feed tells
	}
	return c, "", err
}

func (p *Plan) command(device string) commands.Request {
	return commands.Request{
		Device: device, Method: p.Method, Params: p.Params, Delivery: p.Delivery, Expires: p.Expires, Timeout: p.Timeout,
		Actor: p.Actor, Role: p.Role, Origin: p.Origin, IdempotencyKey: keyOf(p.ID),
	}
}

// askLedger compares the devices that have no outcome with the ledger, which is the truth: after a start, when a crash
// may have come between a sending and its note, and when the feed lost changes.
func (s *Service) askLedger(r *rollout) {
	l := r.live
	for i := range l.devices {
		s.mu.Lock()
		t, sending := l.targets[i], l.isSending(i)
		s.mu.Unlock()
		if sending || t.Outcome.Final() && !t.Outcome.mendable() {
			continue
		}
		c, err := s.commandOf(r.plan.ID, l.devices[i], t.Command)
		s.mu.Lock()
		switch {
		case err == nil:
			s.takeOlder(r, i, c)
		case errors.Is(err, commands.ErrNotFound) && t.Command != "" && !t.Outcome.Final():
			s.set(r, i, Outcome(commands.Unknown), t.Command, "the ledger no longer has the command")
		case !errors.Is(err, commands.ErrNotFound):
			l.recheck, l.backoff, l.trouble = true, time.Now().Add(lookAgain), err.Error()
		}
		s.mu.Unlock()
	}
}

// commandOf finds a device's command, by its id or by the rollout's key.
func (s *Service) commandOf(rollout, device, command string) (commands.Command, error) {
	if command == "" {
		return s.ledger.Keyed(device, keyOf(rollout))
	}
	return s.ledger.Get(command)
}

// cancelRest ends what was not sent: pending devices at once, queued commands by the ledger. Called with mu.
func (s *Service) cancelRest(r *rollout) {
	l := r.live
	if len(l.held) > 0 {
		l.next, l.held = min(l.next, l.held[0]), nil
	}
	for ; l.next < len(l.targets); l.next++ {
		if l.targets[l.next].Outcome == Pending && !l.isSending(l.next) {
			s.set(r, l.next, Outcome(commands.Cancelled), "", "not sent: the rollout was cancelled")
		}
	}
	if l.counts[Outcome(commands.Queued)] == 0 || l.cancels || time.Now().Before(l.backoff) {
		return
	}
	var queued []string
	for _, t := range l.targets {
		if t.Outcome == Outcome(commands.Queued) {
			queued = append(queued, t.Command)
		}
	}
	l.cancels = true
	l.senders.Add(1)
	go s.cancelQueued(r, queued, r.head.History[len(r.head.History)-1].Actor)
}

// cancelQueued cancels commands that wait for their devices; the feed tells what became of each.
func (s *Service) cancelQueued(r *rollout, ids []string, actor string) {
	l := r.live
	defer l.senders.Done()
	work := make(chan string)
	done := make(chan error, maxSending)
	for range maxSending {
		go func() {
			var failed error
			for id := range work {
				if _, err := s.ledger.Cancel(s.ctx, id, actor); err != nil && !errors.Is(err, commands.ErrTooLate) && !errors.Is(err, commands.ErrNotFound) {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for _, id := range ids {
		select {
		case work <- id:
		case <-s.stop:
		}
	}
	close(work)
	var failed error
	for range maxSending {
		failed = errors.Join(failed, <-done)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.cancels, l.recheck, l.backoff = false, true, time.Now().Add(lookAgain)
	if failed != nil {
		l.trouble = failed.Error()
		s.log.Warn("rollout: queued commands could not be cancelled; it is tried again", "rollout", r.plan.ID, "err", failed)
	}
	l.poke()
}
