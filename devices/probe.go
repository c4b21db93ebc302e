package devices

import (
	"context"
	"errors"
	"fmt"
	"time"

	"telemetryhub/wire"
)

// Probes is how the hub finds out that a device answers pings, which its network stack does, while its program is dead:
// it sends the request hub.probe, and any frame is an answer, also the error -32601. A device is sent one by the hub only
// if it speaks JSON-RPC at all: if it has said hello or answered something, or by MQTT subscribed to its commands.
type Probes struct {
	After   time.Duration // the hub sends one when the device has said nothing for so long, and up to a quarter more; 0: never
	Timeout time.Duration // and waits so long until it takes the device for unresponsive
}

// probesEvery is how often the hub looks for devices that are to be probed.
const probesEvery = 5 * time.Second

// Errors of a probe that was not sent.
var (
	ErrOffline  = errors.New("the device is not connected")
	ErrNoProber = errors.New("the device's connection takes no probe")
)

// Prober is a Link whose device can be probed. Probe sends hub.probe, and where the transport has pings, one; an error
// means that surely nothing was sent. Speaks reports whether the hub may do so by itself with a device that has said
// nothing for so long.
type Prober interface {
	Probe() error
	Speaks(quiet time.Duration) bool
}

// Outcomes of a probe.
const (
	ProbeAnswered     = "answered"
	ProbeUnresponsive = "unresponsive" // signs of life came, and no frame
	ProbeSilent       = "silent"       // nothing came
	ProbeGone         = "gone"         // the connection ended
)

// Probed is what came of a probe.
type Probed struct {
	Outcome string
	Took    time.Duration
}

// probe is one that is not answered yet.
type probe struct {
	session *Session
	sent    time.Time
	since   time.Time // the device is unresponsive since then; zero: it may still answer in time
	waiting []chan Probed
}

func (p *probe) tell(outcome string, now time.Time) {
	for _, w := range p.waiting {
		w <- Probed{outcome, now.Sub(p.sent)} // has room for the one
	}
	p.waiting = nil
}

// Heard notes that the device's program has said something, which is more than a sign of life.
func (s *Session) Heard() {
	now := time.Now()
	s.touch(now)
	s.heard.Store(now.UnixMilli())
	if s.probed.Load() {
		s.sessions.answeredProbe(s)
	}
}

// Probe asks the device whether its program lives, and waits for the outcome. Errors: ErrOffline, ErrNoProber, ctx's, or
// why the connection does not take it now.
func (s *Sessions) Probe(ctx context.Context, device string) (Probed, error) {
	n := s.session(device)
	if n == nil {
		return Probed{}, ErrOffline
	}
	waiting := make(chan Probed, 1)
	if err := s.probe(n, waiting); err != nil {
		return Probed{}, err
	}
	select {
	case outcome := <-waiting:
		return outcome, nil
	case <-ctx.Done():
		return Probed{}, ctx.Err()
	}
}

// probe sends one. waiting, if it is not nil, is told the outcome.
func (s *Sessions) probe(n *Session, waiting chan Probed) error {
	prober, ok := n.Link.(Prober)
	if !ok {
		return ErrNoProber
	}
	s.mu.Lock()
	if s.byDevice[n.Device] != n {
		s.mu.Unlock()
		return ErrOffline
	}
	p, again := s.probes[n.Device]
	if !again {
		p = &probe{session: n}
		s.probes[n.Device] = p
	}
	p.sent = time.Now()
	if waiting != nil {
		p.waiting = append(p.waiting, waiting)
	}
	n.probed.Store(true) // before it is sent, so that no answer is missed
	s.mu.Unlock()
	err := prober.Probe()
	if err != nil && !again {
		s.mu.Lock()
		if s.probes[n.Device] == p {
			s.dropProbe(n, ProbeGone)
		}
		s.mu.Unlock()
	}
	return err
}

// answeredProbe ends the probe of a session that has said something.
func (s *Sessions) answeredProbe(n *Session) {
	now := time.Now()
	s.mu.Lock()
	p := s.probes[n.Device]
	if p == nil || p.session != n {
		s.mu.Unlock()
		return
	}
	since := p.since
	s.dropProbe(n, ProbeAnswered)
	s.troubles.ProbesAnswered++
	if !since.IsZero() {
		s.change(n.Device, ChangeResponsive, n.presence())
	}
	s.mu.Unlock()
	if !since.IsZero() {
		quiet := now.Sub(since).Round(time.Second)
		s.Note(n.Device, Event{Kind: EventProbe, Reason: "responsive", Message: fmt.Sprintf("it has said something again, after %s", quiet), Remote: n.Remote})
		s.log.Info("device is responsive again", "device", n.Device, "session", n.id, "after", quiet)
	}
}

// dropProbe ends the probe of a session, if there is one. It needs mu.
func (s *Sessions) dropProbe(n *Session, outcome string) {
	if p := s.probes[n.Device]; p != nil && p.session == n {
		delete(s.probes, n.Device)
		n.probed.Store(false)
		p.tell(outcome, time.Now())
	}
}

// unresponsiveSince needs sessions.mu.
func (s *Session) unresponsiveSince() time.Time {
	if p := s.sessions.probes[s.Device]; p != nil && p.session == s {
		return p.since
	}
	return time.Time{}
}

// judgeProbes finds those that were not answered in time.
func (s *Sessions) judgeProbes(now time.Time) {
	var dead []*Session
	s.mu.Lock()
	for device, p := range s.probes {
		n := p.session
		if now.Sub(p.sent) < s.life.Probes.Timeout {
			continue
		}
		if n.seen.Load() < p.sent.UnixMilli() { // a matter of keepalive
			p.tell(ProbeSilent, now)
			continue
		}
		if p.since.IsZero() {
			p.since = time.UnixMilli(n.heard.Load())
			s.troubles.ProbesUnanswered++
			s.change(device, ChangeUnresponsive, n.presence())
			dead = append(dead, n)
		}
		p.tell(ProbeUnresponsive, now)
	}
	s.mu.Unlock()
	for _, n := range dead {
		s.Note(n.Device, Event{
			Kind: EventProbe, Reason: ProbeUnresponsive, Remote: n.Remote, Limit: s.life.Probes.Timeout.Milliseconds(),
			Message: fmt.Sprintf("it shows signs of life, and did not answer %s within %s: its program is dead, or busy", wire.MethodProbe, s.life.Probes.Timeout),
		})
		s.log.Warn("device is unresponsive", "device", n.Device, "session", n.id, "transport", n.Transport)
	}
}

// holdProbe lets the time of a session's probe stand still: the hub does not read what may be its answer.
func (s *Sessions) holdProbe(n *Session, now time.Time) {
	if !n.probed.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.probes[n.Device]; p != nil && p.session == n {
		p.sent = now
	}
}

// sendProbes probes the devices that have said nothing for long. Each waits up to a quarter longer than the others, so that
// devices that came together are not probed together.
func (s *Sessions) sendProbes(now time.Time) {
	if s.life.Probes.After == 0 {
		return
	}
	var quiet []*Session
	s.mu.RLock()
	for _, n := range s.byDevice {
		wait := s.life.Probes.After * time.Duration(1024+n.id%256) / 1024
		if now.UnixMilli()-n.heard.Load() >= wait.Milliseconds() && !n.probed.Load() {
			quiet = append(quiet, n)
		}
	}
	s.mu.RUnlock()
	for _, n := range quiet {
		if prober, ok := n.Link.(Prober); ok && prober.Speaks(now.Sub(time.UnixMilli(n.heard.Load()))) {
			_ = s.probe(n, nil) // what it does not take now it takes at the next look
		}
	}
}

// Probe implements Prober.
func (n *conn) Probe() error { return n.out.probe() }

// Speaks implements Prober. Who asked for a long keepalive is not disturbed more often.
func (n *conn) Speaks(quiet time.Duration) bool {
	return n.speaks.Load() && quiet > time.Duration(n.keepalive.Load())
}

// probe adds hub.probe, and a ping: an answer to that alone says that the device is alive and its program is not.
func (o *outbox) probe() error {
	frame := o.encode(wire.AppendProbe(nil), 0)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ping = true
	return o.request(frame)
}
