package commands

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"telemetryhub/wire"
)

// The longest texts of a device that are kept, in bytes.
const (
	maxCause   = 200
	maxMessage = 256
)

// byDevice is the actor of what a device says.
const byDevice = "device"

// lateAnswer is an answer on its way to the ledger.
type lateAnswer struct {
	device  string
	session uint64
	answer  wire.Answer
	at      time.Time
}

// Answered takes a device's answer to a command. It does not wait for the disk.
func (s *Service) Answered(device string, session uint64, a wire.Answer) {
	l := lateAnswer{device: device, session: session, answer: a, at: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if !isID(a.ID) {
		s.ignore(l, "no such id")
		return
	}
	if e, ok := s.mirror.byID[a.ID]; ok {
		s.answer(e, l)
		return
	}
	select { // an old command, whose record must be read
	case s.lookups <- l:
	default:
		s.stats.DroppedAnswers++
	}
}

// answer makes a device's answer the outcome of its command, unless it has one. Called with mu.
func (s *Service) answer(e *entry, l lateAnswer) {
	if e.next.Device != l.device || !e.shown || e.departing {
		s.ignore(l, "no command of this device")
		return
	}
	state, cause := outcomeOf(l.answer)
	late := e.next.State.Final() || l.session != e.next.Session
	if late {
		cause = strings.TrimPrefix(cause+"; the answer came late, when the command was "+string(e.next.State), "; ")
	}
	result, fault := l.answer.Result, l.answer.Fault
	if size := len(result) + len(fault); size > MaxResult {
		result, fault = nil, nil
		cause = strings.TrimPrefix(fmt.Sprintf("%s; its answer of %d bytes is over the limit of %d and was not kept", cause, size, MaxResult), "; ")
	}
	step := Change{State: state, Time: stamp(l.at), Cause: cause, Actor: byDevice, fromDevice: true}
	if !s.change(e, step, func(c *Command) { c.Result, c.Error, c.Late = result, fault, late }) {
		s.ignore(l, "it has ended")
	}
}

// outcomeOf is the word for what a device answered.
func outcomeOf(a wire.Answer) (state State, cause string) {
	if a.Fault == nil {
		return Done, ""
	}
	switch a.Code {
	case wire.CodeInvalidRequest, wire.CodeMethodNotFound, wire.CodeInvalidParams:
		state = Rejected
	case wire.CodeExpired:
		state = Expired
	case wire.CodeCancelled:
		state = Cancelled
	default:
		state = Failed
	}
	return state, faultText(a)
}

func (s *Service) ignore(l lateAnswer, why string) {
	s.stats.IgnoredAnswers++
	s.log.Debug("command: answer ignored", "device", l.device, "session", l.session, "id_bytes", len(l.answer.ID), "why", why)
}

// Progressed takes what a device says of its work. It gives the answer the whole timeout again. Progress on
// another connection than the command was sent on, or after its end, is ignored.
func (s *Service) Progressed(device string, session uint64, p wire.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.mirror.byID[p.ID]
	if s.closed || !ok || e.next.Device != device || e.next.Session != session || !e.next.State.atDevice() || e.departing {
		s.stats.IgnoredAnswers++
		return
	}
	now := time.Now()
	e.next.Progress = &Progress{Percent: min(max(p.Percent, 0), 100), Message: clip(p.Message, maxMessage)}
	if !e.sending {
		s.awaitAnswer(e, now)
	}
	step := Change{State: Running, Time: stamp(now), Actor: byDevice, fromDevice: true}
	if p.Status == wire.ProgressReceived {
		step.State = Received
	}
	if legal(&e.next, step) {
		s.change(e, step, nil)
		return
	}
	if e.shown { // the same state, only further on: told, not written
		e.view.Progress = e.next.Progress
		s.feeds.Publish(e.view)
	}
}

// SessionEnded takes the end of a device's connection: what was sent on it at most once is unknown now, and what was
// about to be sent waits for the next.
func (s *Service) SessionEnded(device string, session uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[device]
	if s.closed || l == nil {
		return
	}
	if l.session == session {
		l.session = 0
	}
	now := time.Now()
	for _, e := range slices.Clone(l.out) {
		if l.session == 0 && e.again {
			e.again, e.due = false, e.next.Expires // until the device is ready again
			s.setAlarm(e)
		}
		switch {
		case e.next.Session != session || !e.next.State.atDevice():
		case e.departing:
			s.requeue(l, e, "not sent: the connection ended before", now)
		case e.sending:
			e.lost = true // sent says what it means once the Router has returned
		default:
			s.connectionLost(l, e, now)
		}
	}
	s.sweepLane(l)
}

// SessionReady takes that a device can be sent commands on a connection: after its hello, its first frame, or a while.
// What it was sent at least once on an earlier connection and has not answered is sent again, then what waits, in
// order. It may be called more than once a session.
func (s *Service) SessionReady(device string, session uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	l := s.lane(device)
	if session < l.session {
		return // the word of a connection that was replaced
	}
	l.session, l.failures, l.pause = session, 0, time.Time{}
	for _, e := range l.out {
		if e.repeats() && e.next.State.atDevice() && e.next.Session != session && !e.sending && !e.departing {
			e.again, e.due = true, time.Time{}
			s.setAlarm(e)
		}
	}
	s.rouse(l)
}

// Pending returns how many commands wait to be sent to a device, those included that are sent again when it is ready.
func (s *Service) Pending(device string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[device]
	if l == nil {
		return 0
	}
	n := len(l.waiting)
	for _, e := range l.out {
		if e.departing || e.again || e.repeats() && e.next.Session != l.session {
			n++
		}
	}
	return n
}

func faultText(a wire.Answer) string {
	var fault struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(a.Fault, &fault) // an error without a readable message still has its code
	text := fmt.Sprintf("the device answered error %d", a.Code)
	if fault.Message != "" {
		text += ": " + tell(fault.Message)
	}
	return text
}

// tell makes a text from outside fit for a cause.
func tell(text string) string { return clip(text, maxCause) }

// clip shortens a text at a character and blanks what moves a terminal's cursor.
func clip(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
