package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// line is one connection to an external broker. Messages come by receive, in paho's goroutine, and wait in queue; take
// decodes them in order and hands them to the journal, whose commits move them from waiting to ready; acknowledge sends
// the acknowledgements, in the order of receipt as the protocol wants them. A message occupies a place in window from its
// receipt to its acknowledgement.
type line struct {
	external *External
	devices  *bridgedDevices
	client   paho.Client // set by start
	window   *window
	inlet    atomic.Pointer[inlet] // set by dial
	resumed  atomic.Bool           // the broker had a session of ours
	refused  atomic.Bool           // CONNACK said no
	living   atomic.Bool           // connected and subscribed: a stop drains it
	queue    chan paho.Message
	outgoing chan publication // commands
	work     sync.WaitGroup

	alive context.Context // ends with the connection; its cause is why
	fail  context.CancelCauseFunc

	mu      sync.Mutex
	current paho.Message // the one that take has given to the journal
	receipt *receipt     // its own
	joined  uint64       // the last commit that one of ours joined
	durable uint64       // the last commit that is durable
	waiting []uncommitted
	ready   []paho.Message
	wake    chan struct{} // ready or waiting has changed
}

// uncommitted is a message that may be acknowledged after commit gen, and not while it is held.
type uncommitted struct {
	message paho.Message
	gen     uint64
	held    *bool    // nil: it is not; guarded by the line's mu
	receipt *receipt // of QoS 2; nil: none
}

var errStopped = &ending{endClosed, errors.New("the bridge is closed")}

func newLine(e *External) *line {
	l := &line{
		external: e,
		window:   newWindow(e.cfg.Window),
		queue:    make(chan paho.Message, e.cfg.Window.Messages),
		outgoing: make(chan publication, commandQueue),
		wake:     make(chan struct{}, 1),
	}
	l.alive, l.fail = context.WithCancelCause(e.harder)
	l.devices = newBridgedDevices(l)
	return l
}

// dial opens the connection for paho. It is closed when the line ends, whatever paho waits for.
func (l *line) dial(*url.URL, paho.ClientOptions) (net.Conn, error) {
	nc, err := l.external.dial(l.alive)
	if err != nil {
		l.fail(&ending{endConnect, err})
		return nil, err
	}
	context.AfterFunc(l.alive, func() { _ = nc.Close() })
	in := newInlet(nc, l)
	l.inlet.Store(in)
	return in, nil
}

// resumes notes whether the broker had kept our session.
func (l *line) resumes(session bool) {
	l.resumed.Store(session)
	if !session {
		l.external.receipts.forget()
	}
}

// wait waits for paho's token or the end of the connection. While the hub does not read, no answer can come, and the
// wait goes on.
func (l *line) wait(t paho.Token) error { return l.waitFor(t, l.external.cfg.Timing.Connect) }

func (l *line) waitFor(t paho.Token, limit time.Duration) error {
	patience := time.NewTimer(limit)
	defer patience.Stop()
	for {
		select {
		case <-t.Done():
			if t.Error() != nil && l.alive.Err() != nil {
				return context.Cause(l.alive) // paho knows less of it
			}
			return t.Error()
		case <-l.alive.Done():
			return context.Cause(l.alive)
		case <-patience.C:
			if in := l.inlet.Load(); in == nil || in.listens.Load() != 0 {
				return &ending{endSilent, fmt.Errorf("no answer from the broker within %s", limit)}
			}
			patience.Reset(limit)
		}
	}
}

func (l *line) start(client paho.Client) {
	l.client = client
	l.work.Go(l.takeAll)
	l.work.Go(l.acknowledge)
	l.work.Go(l.sendAll)
}

// stopConnecting ends a connection that has not come about when the bridge is closed.
func (l *line) stopConnecting() {
	if !l.living.Load() {
		l.fail(errStopped)
	}
}

// live returns when the connection has ended or Close was called, and in that case not before what was received is
// acknowledged.
func (l *line) live() error {
	l.living.Store(true)
	timing := l.external.cfg.Timing
	sweep := time.NewTicker(timing.Idle / 4)
	defer sweep.Stop()
	pulse := time.NewTicker(timing.Keepalive / 4)
	defer pulse.Stop()
	for {
		select {
		case <-sweep.C:
			l.devices.sweep(time.Now().Add(-timing.Idle))
		case <-pulse.C:
			l.checkPulse(timing.Keepalive)
		case <-l.alive.Done():
			return context.Cause(l.alive)
		case <-l.external.stopping.Done():
			l.drain()
			return errStopped
		}
	}
}

// checkPulse shows the broker that the hub lives, and leaves one that does not answer. While the hub does not read, for
// its window is full, the broker's silence says nothing.
func (l *line) checkPulse(keepalive time.Duration) {
	in := l.inlet.Load()
	if in.unsent() >= keepalive/2 {
		in.ping()
	}
	if silence := in.silence(); silence > keepalive*3/2 {
		l.fail(&ending{endSilent, fmt.Errorf("the broker has sent nothing for %s, no answers to pings either", silence.Round(time.Second))})
	}
}

// drain waits until all that was received is acknowledged. receive takes nothing more.
func (l *line) drain() {
	l.window.empty(l.alive.Done())
	if err := l.external.sayStatus(l, l.client, statusOffline); err != nil && l.alive.Err() == nil {
		l.external.log.Warn("external mqtt broker was not told that the hub stops", "err", err)
	}
}

// end closes the connection and waits for all that belongs to it.
func (l *line) end() {
	if l.client != nil && l.alive.Err() == nil {
		l.client.Disconnect(250) // ms; it sends what is on its way and DISCONNECT
	}
	l.fail(errStopped)
	l.work.Wait()
	l.devices.detachAll(l.farewell())
}

// farewell says why the sessions of the devices behind the broker end.
func (l *line) farewell() string {
	cause := context.Cause(l.alive)
	if errors.Is(cause, errStopped) {
		return "the hub ended its connection to the external broker"
	}
	return fmt.Sprintf("the bridge %s lost its external broker, and with it all devices behind it: %v", l.external.cfg.Name, cause)
}

// receive is paho's handler. While the window is full it does not return and paho reads nothing more, answers to pings
// included; the connection lives on all the same (checkPulse).
func (l *line) receive(_ paho.Client, m paho.Message) {
	at := time.Now() // before the wait for a place
	select {
	case <-l.external.stopping.Done():
		return
	default:
	}
	if l.window.enter(weight(m), l.alive.Done(), l.external.stopping.Done()) {
		l.external.traffic.received(time.Now())
		l.queue <- &arrival{Message: m, at: at} // as long as the window: never full
	}
}

// weight is what a message counts in the window, in bytes.
func weight(m paho.Message) int { return len(m.Topic()) + len(m.Payload()) }

// takeAll hands the messages to the journal, one after the other.
func (l *line) takeAll() {
	var s scratch
	for {
		select {
		case m := <-l.queue:
			l.external.metrics.received.Inc()
			err := l.take(&s, m)
			if r, ok := errors.AsType[*refusal](err); ok {
				l.external.metrics.refused.count(r.reason)
				continue
			}
			if err != nil {
				l.failJournal(err)
				return
			}
		case <-l.alive.Done():
			return
		}
	}
}

// take deals with one message. After a refusal it is settled, for the broker would send it again for ever.
func (l *line) take(s *scratch, in paho.Message) error {
	e := l.external
	m := message{topic: in.Topic(), payload: in.Payload(), qos: in.Qos(), retained: in.Retained(), at: heardAt(in)}
	e.traffic.redelivers(in)
	if taken, err := l.screen(in); taken || err != nil {
		return err
	}
	device, about, ok := splitTopic(e.cfg.Prefix, m.topic)
	switch {
	case ok && about.fromDevice() && !e.cfg.Foreign:
	case e.maps != nil:
		return l.takeMapped(s, in, m)
	default:
		return l.refuse(in, "", &refusal{reason: ReasonTopic, message: "not a topic of a device"})
	}
	// A device that is not in the registry has no counters of its own: whoever publishes would choose their number.
	d, ok := e.hub.find(e.sighting(device, m))
	if !ok {
		return l.refuse(in, "", &refusal{reason: ReasonUnknownDevice, message: "no such device"})
	}
	if !d.Enabled {
		return l.refuse(in, device, &refusal{reason: ReasonDisabled, message: "the device is disabled"})
	}
	profile := e.hub.Profiles.Of(device)
	size := sizeBefore(m.payload, e.mark)
	e.hub.Throttle.Overrun(device, profile, size)
	if r := checkSize(size, min(profile.Limits.MaxFrame, int64(e.cfg.Window.MaxPayload))); r != nil {
		e.hub.Throttle.Passed(devices.LimitMaxFrame, profile, 1)
		return l.refuse(in, device, r)
	}
	switch about {
	case subjectState:
		return l.takeState(s, in, device, m)
	case subjectResponse:
		return l.takeAnswer(s, in, device, m)
	}
	// The broker marks as retained what it kept from some time before: its age when it was sent says nothing now.
	if r := s.decode(device, about, m, func(k wire.Clock) bool { return k == wire.ClockGiven }); r != nil {
		return l.refuse(in, device, r)
	}
	if !m.retained { // a retained message is no sign of life
		if session := l.devices.seen(device); session != nil {
			session.LearnUnits(s.telemetry.Units)
		}
	}
	countReadings(in, s.telemetry.Readings)
	l.mu.Lock()
	l.current = in
	l.mu.Unlock()
	_, err := e.hub.Sink.AppendWithin(e.harder, device, &s.telemetry, time.Now().UnixMilli(), l)
	if r, ok := errors.AsType[*refusal](journalRefusal(err)); ok {
		return l.refuse(in, device, r)
	}
	return err
}

func (l *line) takeAnswer(s *scratch, in paho.Message, device string, m message) error {
	if m.retained {
		return l.refuse(in, device, &refusal{reason: ReasonRetained, message: "an answer is not retained"})
	}
	r, err := s.response(m.payload)
	if err != nil {
		return l.refuse(in, device, unusable(err))
	}
	session := l.devices.seen(device)
	if session == nil {
		return l.refuse(in, device, &refusal{reason: ReasonNoSession, message: "the device is connected in another way and answers there"})
	}
	r.tell(session)
	l.settle(in)
	return nil
}

// refuse counts a message that is not taken, device "" one of none that is registered.
func (l *line) refuse(in paho.Message, device string, r *refusal) error {
	l.external.example(in, device, r)
	if device == "" {
		l.external.hub.Sink.Refuse("", r.reason)
	} else {
		l.external.hub.refused(device, r)
	}
	l.settle(in)
	return r
}

// send queues a command without waiting.
func (l *line) send(out publication) error {
	if l.alive.Err() != nil {
		return errEnded
	}
	select {
	case l.outgoing <- out:
		return nil
	default:
		return errBusy
	}
}

func (l *line) sendAll() {
	for {
		select {
		case out := <-l.outgoing:
			if err := l.publish(&out); err != nil {
				l.fail(fmt.Errorf("publish to a device: %w", err))
				return
			}
		case <-l.alive.Done():
			return
		}
	}
}

// publish sends all of a publication. A command that has expired or ended while it waited is not sent, for the device
// would do it however late; one that has begun goes on until it expires.
func (l *line) publish(out *publication) error {
	if !out.sending.departs(time.Now()) {
		l.external.metrics.commandsLate.Inc()
		return nil
	}
	for one := out; one != nil; one = one.then {
		if one != out && out.sending.expired(time.Now()) {
			l.external.metrics.commandsLate.Inc()
			break
		}
		// The token is complete when it is written, with QoS 1 when the broker has it; an error ends the connection anyway.
		l.external.echoes.note(one.topic, one.payload)
		if err := l.wait(l.client.Publish(one.topic, one.qos, false, one.payload)); err != nil {
			return err
		}
	}
	if out.kind != kindState {
		l.external.metrics.commands.Inc()
	}
	return nil
}
