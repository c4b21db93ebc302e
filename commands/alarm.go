package commands

import (
	"container/heap"
	"fmt"
	"time"

	"telemetryhub/wire"
)

// alarms are the entries that something is due for, the earliest first and by id among equals, so that
// what is sent again on one connection keeps its order. An entry has one place for all that is due.
type alarms []*entry

func (a alarms) Len() int { return len(a) }

func (a alarms) Less(i, j int) bool {
	if c := a[i].wake.Compare(a[j].wake); c != 0 {
		return c < 0
	}
	return a[i].next.ID < a[j].next.ID
}

func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].alarm, a[j].alarm = i, j
}

// Push is heap's.
func (a *alarms) Push(x any) {
	e, ok := x.(*entry)
	if !ok {
		return
	}
	e.alarm = len(*a)
	*a = append(*a, e)
}

// Pop is heap's.
func (a *alarms) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	e.alarm = -1
	return e
}

// setAlarm puts the entry where its due and retry say. Called with mu.
func (s *Service) setAlarm(e *entry) {
	wake := e.due
	if wake.IsZero() || (!e.retry.IsZero() && e.retry.Before(wake)) {
		wake = e.retry
	}
	switch {
	case wake.IsZero() && e.alarm >= 0:
		heap.Remove(&s.alarms, e.alarm)
	case wake.IsZero():
	case e.alarm >= 0:
		e.wake = wake
		heap.Fix(&s.alarms, e.alarm)
	default:
		e.wake = wake
		heap.Push(&s.alarms, e)
	}
	if e.alarm == 0 {
		select {
		case s.wakeUp <- struct{}{}:
		default:
		}
	}
}

// alarmLoop is the one goroutine that waits for timeouts, tries writing again and sends again.
func (s *Service) alarmLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		again, wait := s.ring(time.Now())
		for _, e := range again {
			s.sendAgain(e)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.wakeUp:
		case <-s.stop:
			return
		}
	}
}

// ring does what is due, and returns what must be sent again (in order) and how long nothing is due.
func (s *Service) ring(now time.Time) (again []*entry, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.alarms) > 0 {
		e := s.alarms[0]
		if wait := e.wake.Sub(now); wait > 0 {
			return again, wait
		}
		if !e.retry.IsZero() && !now.Before(e.retry) {
			e.retry = time.Time{}
			s.save(e)
		}
		if !e.due.IsZero() && !now.Before(e.due) {
			e.due = time.Time{}
			if s.overdue(e, now) {
				again = append(again, e)
			}
		}
		s.setAlarm(e)
	}
	return again, time.Hour
}

// overdue ends a command whose answer did not come, or reports that it is to be sent again. Called with mu.
func (s *Service) overdue(e *entry, now time.Time) bool {
	c := &e.next
	if !c.State.atDevice() {
		return false
	}
	if c.Delivery == AtLeastOnce {
		if now.Before(c.Expires) {
			return true
		}
		cause := fmt.Sprintf("not answered before it expired; sent %d times, it may have run", c.Attempt)
		s.change(e, Change{State: Expired, Time: stamp(now), Cause: cause}, nil)
		return false
	}
	cause := fmt.Sprintf("no answer within %v", c.timeout())
	if c.State != Sent {
		cause += " after its last progress"
	}
	s.change(e, Change{State: Unknown, Time: stamp(now), Cause: cause}, nil)
	return false
}

// sendAgain sends an at-least-once command again on the session that is ready, or on the one it
// was sent on; if that is gone, it waits for the next one.
func (s *Service) sendAgain(e *entry) {
	s.mu.Lock()
	device := e.next.Device
	s.mu.Unlock()
	online, ok := s.router.Online(device)
	now := time.Now()
	s.mu.Lock()
	session := e.next.Session
	if e.ready != 0 {
		session, e.ready = e.ready, 0
	}
	if !e.next.State.atDevice() || s.closed {
		s.mu.Unlock()
		return
	}
	if !ok || online != session {
		e.due = e.next.Expires
		s.setAlarm(e)
		s.mu.Unlock()
		return
	}
	step := Change{State: Sent, Time: stamp(now), Cause: fmt.Sprintf("sent again, attempt %d", e.next.Attempt+1)}
	s.change(e, step, func(c *Command) { c.Session = session; c.Attempt++ })
	e.sending, e.lost = true, false
	cmd := frame(&e.next, now)
	s.mu.Unlock()

	err := s.router.Send(device, session, cmd)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent(e, err)
}

// sent takes the outcome of a sending. Called with mu.
func (s *Service) sent(e *entry, err error) {
	e.sending = false
	now := time.Now()
	switch {
	case !e.next.State.atDevice(): // answered meanwhile
	case err != nil && e.next.Attempt == 1:
		step := Change{State: Failed, Time: stamp(now), Cause: "not sent: " + tell(err.Error())}
		s.change(e, step, func(c *Command) { c.Attempt = 0 })
	case e.abandoned:
		s.abandon(e, e.abandoner)
	case e.lost:
		s.connectionLost(e, now)
	default: // also a failed further sending: it is tried again after the same time
		s.awaitAnswer(e, now)
	}
}

// awaitAnswer sets the time for the answer, from now. Called with mu.
func (s *Service) awaitAnswer(e *entry, now time.Time) {
	e.due = now.Add(e.next.timeout())
	if e.next.Delivery == AtLeastOnce && e.due.After(e.next.Expires) {
		e.due = e.next.Expires
	}
	s.setAlarm(e)
}

// connectionLost says what the end of its connection means for a command. Called with mu.
func (s *Service) connectionLost(e *entry, now time.Time) {
	if e.next.Delivery == AtLeastOnce && e.ready != 0 {
		return // a newer one is ready already
	}
	if e.next.Delivery == AtLeastOnce {
		e.due = e.next.Expires // until the device is ready again
		s.setAlarm(e)
		return
	}
	s.change(e, Change{State: Unknown, Time: stamp(now), Cause: "connection lost before the answer"}, nil)
}

// frame is the command as the device gets it.
func frame(c *Command, now time.Time) wire.Command {
	return wire.Command{
		ID: c.ID, Method: c.Method, Params: c.Params, Expires: c.Expires, TTL: c.Expires.Sub(now),
		Attempt: c.Attempt, AtLeastOnce: c.Delivery == AtLeastOnce,
	}
}
