package commands

import (
	"container/heap"
	"fmt"
	"slices"
	"time"
)

// The clock may be set, and goes on while the machine sleeps, when no timer runs: it is looked at so often, and what is
// due is set anew when it was moved by that much.
const (
	lookAtClock = time.Minute
	clockMoved  = time.Second
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
	if !wake.IsZero() { // an expiry is a time of the wall clock, a timeout one of the monotonic clock: all are compared by the latter
		now := time.Now()
		wake = now.Add(wake.Sub(now))
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

// alarmLoop is the one goroutine that waits for timeouts and expiries, tries writing again and looks after lanes.
func (s *Service) alarmLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	looked := time.Now()
	for {
		now := time.Now()
		if moved := now.Round(0).Sub(looked.Round(0)) - now.Sub(looked); moved.Abs() >= clockMoved {
			s.resetAlarms()
		}
		looked = now
		timer.Reset(min(s.ring(now), lookAtClock))
		s.wakeLanes()
		select {
		case <-timer.C:
		case <-s.wakeUp:
		case <-s.stop:
			return
		}
	}
}

// resetAlarms says anew how long it is until each thing is due, by a clock that was set.
func (s *Service) resetAlarms() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range slices.Clone(s.alarms) {
		s.setAlarm(e)
	}
}

// ring does what is due, and returns how long nothing is.
func (s *Service) ring(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.alarms) > 0 {
		e := s.alarms[0]
		if wait := e.wake.Sub(now); wait > 0 {
			return wait
		}
		if !e.retry.IsZero() && !now.Before(e.retry) {
			e.retry = time.Time{}
			s.save(e)
		}
		if !e.due.IsZero() && !now.Before(e.due) {
			e.due = time.Time{}
			s.overdue(e, now)
		}
		s.setAlarm(e)
	}
	return time.Hour
}

// overdue ends a command that was not sent or not answered in time, or has it sent again. Called with mu.
func (s *Service) overdue(e *entry, now time.Time) {
	c, l := &e.next, s.lane(e.next.Device)
	switch expired := !now.Before(c.Expires); {
	case c.State.Final() || e.departing || e.sending:
	case !c.State.atDevice() && expired:
		s.expireWaiting(l, e, now)
	case !c.State.atDevice(): // the lane's pause is over
		e.due = c.Expires
		s.rouse(l)
	case e.repeats() && expired:
		s.expireUnanswered(e, now)
	case e.repeats() && l.session == 0:
		e.due = c.Expires
	case e.repeats():
		e.again = true
		s.rouse(l)
	default:
		s.change(e, Change{State: Unknown, Time: stamp(now), Cause: unanswered(c)}, nil)
	}
}

// expireUnanswered ends a command that was sent at least once. Called with mu.
func (s *Service) expireUnanswered(e *entry, now time.Time) {
	cause := fmt.Sprintf("not answered before it expired; sent %d times, it may have run", e.next.Attempt)
	s.change(e, Change{State: Expired, Time: stamp(now), Cause: cause}, nil)
}

// unanswered says for how long a device was silent.
func unanswered(c *Command) string {
	switch {
	case !c.CancelAsked.IsZero():
		return fmt.Sprintf("no answer within %v after the device was asked to cancel it", c.timeout())
	case c.State != Sent:
		return fmt.Sprintf("no answer within %v after its last progress", c.timeout())
	}
	return fmt.Sprintf("no answer within %v", c.timeout())
}
