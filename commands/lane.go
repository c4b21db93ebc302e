package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"telemetryhub/wire"
)

// How long a connection that does not take a command is left alone; it doubles with each refusal in a row.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// lane is the line in which one device's commands stand: those that wait, and those that are out. It exists while there
// are any, or while the device can be sent commands. It is guarded by Service.mu.
//
// Commands go out in the order of their ids, also those that are sent again, and never more than Config.Outstanding at
// a time. One that is about to go out is departing until the record that calls it sent is durable; those behind it wait.
type lane struct {
	device   string
	session  uint64   // the connection that takes commands; 0: none
	waiting  []*entry // accepted or queued, by id
	out      []*entry // departing, or sent and not ended, by id
	roused   bool     // in Service.roused
	handing  bool     // somebody gives commands to the Router
	failures int      // refusals in a row
	pause    time.Time
	over     []over // of which the Router is still to be told
}

// over is a command that was sent, however its delivery, and has ended.
type over struct {
	session uint64
	id      string
}

// lane returns the device's, and makes it where there is none. Called with mu.
func (s *Service) lane(device string) *lane {
	l := s.lanes[device]
	if l == nil {
		l = &lane{device: device}
		s.lanes[device] = l
	}
	return l
}

// rouse has a lane looked at by the alarm loop: something may go out. Called with mu.
func (s *Service) rouse(l *lane) {
	if !l.roused {
		l.roused = true
		s.roused = append(s.roused, l)
	}
	select {
	case s.wakeUp <- struct{}{}:
	default:
	}
}

// wakeLanes does what the roused lanes are roused for.
func (s *Service) wakeLanes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.roused) > 0 {
		l := s.roused[0]
		s.roused = s.roused[1:]
		l.roused = false
		s.tellOver(l)
		s.advance(l, time.Now())
		s.dispatch(l)
		s.sweepLane(l)
	}
}

// tellOver tells the Router what has ended. Called with mu, which it leaves meanwhile.
func (s *Service) tellOver(l *lane) {
	gone := l.over
	l.over = nil
	if len(gone) == 0 {
		return
	}
	s.mu.Unlock()
	for _, o := range gone {
		s.router.Ended(l.device, o.session, o.id)
	}
	s.mu.Lock()
}

// sweepLane forgets a lane that nothing is known of. Called with mu.
func (s *Service) sweepLane(l *lane) {
	if l.session == 0 && len(l.waiting)+len(l.out)+len(l.over) == 0 && !l.handing && s.lanes[l.device] == l {
		delete(s.lanes, l.device)
	}
}

// free reports whether a new command may go out at once. Called with mu.
func (s *Service) free(l *lane, now time.Time) bool {
	return l.session != 0 && len(l.waiting) == 0 && len(l.out) < s.cfg.Outstanding && !now.Before(l.pause)
}

// advance lets as many commands depart as may. Called with mu.
func (s *Service) advance(l *lane, now time.Time) {
	for len(l.waiting) > 0 && l.session != 0 && len(l.out) < s.cfg.Outstanding && !s.closed {
		e := l.waiting[0]
		switch {
		case !e.shown: // its first record is on its way; recorded rouses the lane
			return
		case !now.Before(e.next.Expires):
			s.expireWaiting(l, e, now)
			continue
		case now.Before(l.pause):
			e.due = l.pause
			if e.next.Expires.Before(e.due) {
				e.due = e.next.Expires
			}
			s.setAlarm(e)
			return
		}
		l.waiting = l.waiting[1:]
		l.out = insert(l.out, e)
		e.due = time.Time{}
		s.setAlarm(e)
		s.change(e, Change{State: Sent, Time: stamp(now)}, func(c *Command) { c.Session, c.Attempt = l.session, 1 })
		e.depart()
	}
}

// depart marks that the entry goes out once its newest change is durable. Called with mu.
func (e *entry) depart() { e.departing, e.departs = true, e.version }

// expireWaiting ends a command that was not sent in its time. Called with mu.
func (s *Service) expireWaiting(l *lane, e *entry, now time.Time) {
	cause := "not sent: the device was not ready for it in time"
	if l.session != 0 {
		cause = "not sent: the commands before it took too long"
	}
	s.change(e, Change{State: Expired, Time: stamp(now), Cause: cause}, nil)
}

// next returns what the Router is to be given now. Called with mu.
func (l *lane) next() *entry {
	for _, e := range l.out {
		switch {
		case e.again && l.session != 0:
			return e
		case e.departing && e.durable >= e.departs:
			return e
		case e.departing:
			return nil
		}
	}
	return nil
}

// dispatch gives the Router what may go out, in order. Called with mu, which it leaves while the Router works.
func (s *Service) dispatch(l *lane) {
	if l.handing {
		return // whoever hands finds what we would
	}
	l.handing = true
	defer func() { l.handing = false }()
	for e := l.next(); e != nil && !s.closed; e = l.next() {
		now := time.Now()
		switch {
		case e.departing && !now.Before(e.next.Expires):
			s.expireUnsent(e, now, "not sent: it expired while it was recorded")
			continue
		case e.again && !now.Before(e.next.Expires): // its alarm is late, as on a machine that slept
			s.expireUnanswered(e, now)
			continue
		case e.again:
			step := Change{State: Sent, Time: stamp(now), Cause: fmt.Sprintf("sent again, attempt %d", e.next.Attempt+1)}
			s.change(e, step, func(c *Command) { c.Session = l.session; c.Attempt++ })
		}
		e.departing, e.again, e.sending, e.lost = false, false, true, false
		session, cmd := e.next.Session, frame(&e.next, now)
		s.mu.Unlock()
		err := s.router.Send(l.device, session, cmd)
		s.mu.Lock()
		e.sending = false
		s.sent(l, e, err)
	}
}

// sent takes the outcome of a sending. Called with mu.
func (s *Service) sent(l *lane, e *entry, err error) {
	now := time.Now()
	if err == nil {
		l.failures = 0
	}
	switch {
	case !e.next.State.atDevice(): // answered meanwhile
	case err != nil:
		s.notSent(l, e, err, now)
	case e.abandoned != "":
		s.abandon(e, e.abandoned, e.abandoner)
	case e.lost:
		s.connectionLost(l, e, now)
	default:
		s.awaitAnswer(e, now)
	}
}

// notSent takes that the Router surely did not send. An error about the command itself ends it; any other is about the
// connection, and the command waits for a better one. Called with mu.
func (s *Service) notSent(l *lane, e *entry, err error, now time.Time) {
	cause, end := "not sent: "+tell(err.Error()), Failed
	refused, unfit := errors.AsType[*wire.Error](err)
	if unfit {
		cause = "not sent: " + tell(refused.Message)
		if refused.Code == wire.CodeMethodNotFound || refused.Code == wire.CodeInvalidParams {
			end = Rejected // as if the device had said so: what is known of it says it for the device
		}
	}
	switch first := e.next.Attempt == 1; {
	case first && e.abandoned != "":
		e.next.Attempt = 0
		s.abandon(e, e.abandoned, e.abandoner)
	case e.abandoned != "":
		s.abandon(e, e.abandoned, e.abandoner)
	case first && unfit:
		e.next.Attempt = 0
		s.change(e, Change{State: end, Time: stamp(now), Cause: cause}, nil)
	case first:
		if l.session == e.next.Session { // the connection is there, and does not take it
			l.pause = now.Add(min(firstPause<<min(l.failures, 10), longestPause))
			l.failures++
		}
		s.requeue(l, e, cause, now)
	case e.lost:
		s.connectionLost(l, e, now)
	default: // a further sending: it is tried again after the same time
		s.awaitAnswer(e, now)
	}
}

// requeue lets a command that was about to go out, and surely did not, wait again in its place. Called with mu.
func (s *Service) requeue(l *lane, e *entry, cause string, now time.Time) {
	e.departing, e.next.Attempt = false, 0
	l.out = remove(l.out, e)
	l.waiting = insert(l.waiting, e)
	s.change(e, Change{State: Queued, Time: stamp(now), Cause: cause}, func(c *Command) { c.Session = 0 })
	e.due = e.next.Expires
	s.setAlarm(e)
	s.rouse(l)
}

// awaitAnswer sets the time for the answer, from now. Called with mu.
func (s *Service) awaitAnswer(e *entry, now time.Time) {
	e.due = now.Add(e.next.timeout())
	if e.repeats() && e.due.After(e.next.Expires) {
		e.due = e.next.Expires
	}
	s.setAlarm(e)
}

// repeats reports whether the entry is sent again while it is not answered. Called with mu.
func (e *entry) repeats() bool { return e.next.Delivery == AtLeastOnce && e.next.CancelAsked.IsZero() }

// connectionLost says what the end of its connection means for a command that was sent. Called with mu.
func (s *Service) connectionLost(l *lane, e *entry, now time.Time) {
	if e.repeats() && l.session != 0 && l.session != e.next.Session { // a newer one is ready already
		e.again = true
		s.rouse(l)
		return
	}
	if e.repeats() {
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

// insert puts an entry in its place by id.
func insert(list []*entry, e *entry) []*entry {
	i, _ := slices.BinarySearchFunc(list, e.next.ID, byID)
	return slices.Insert(list, i, e)
}

// remove takes an entry out, if it is there.
func remove(list []*entry, e *entry) []*entry {
	i, found := slices.BinarySearchFunc(list, e.next.ID, byID)
	if !found {
		return list
	}
	return slices.Delete(list, i, i+1)
}

func byID(e *entry, id string) int { return strings.Compare(e.next.ID, id) }
