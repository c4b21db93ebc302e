package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
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
	window   chan struct{}
	queue    chan paho.Message
	outgoing chan publication // commands
	work     sync.WaitGroup

	alive context.Context // ends with the connection; its cause is why
	fail  context.CancelCauseFunc

	mu      sync.Mutex
	current paho.Message // the one that take has given to the journal
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
	held    *bool // nil: it is not; guarded by the line's mu
}

var errStopped = errors.New("the bridge is closed")

func newLine(e *External) *line {
	l := &line{
		external: e,
		window:   make(chan struct{}, e.cfg.MaxInFlight),
		queue:    make(chan paho.Message, e.cfg.MaxInFlight),
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
		return nil, err
	}
	context.AfterFunc(l.alive, func() { _ = nc.Close() })
	return &watchedConn{Conn: nc, broken: func(err error) { l.fail(fmt.Errorf("connection lost: %w", err)) }}, nil
}

// wait waits for paho's token, the end of the connection or Close.
func (l *line) wait(t paho.Token) error {
	patience := time.NewTimer(2 * dialTimeout)
	defer patience.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-l.alive.Done():
		return context.Cause(l.alive)
	case <-l.external.stopping.Done():
		return errStopped
	case <-patience.C:
		return errors.New("no answer from the broker")
	}
}

func (l *line) start(client paho.Client) {
	l.client = client
	l.work.Go(l.takeAll)
	l.work.Go(l.acknowledge)
	l.work.Go(l.sendAll)
}

// live returns when the connection has ended or Close was called, and in that case not before what was received is
// acknowledged.
func (l *line) live() error {
	sweep := time.NewTicker(l.external.cfg.Idle / 4)
	defer sweep.Stop()
	for {
		select {
		case <-sweep.C:
			l.devices.sweep(time.Now().Add(-l.external.cfg.Idle))
		case <-l.alive.Done():
			return context.Cause(l.alive)
		case <-l.external.stopping.Done():
			l.drain()
			return errStopped
		}
	}
}

// drain waits until all that was received is acknowledged. receive takes nothing more, so whoever holds the whole window
// knows that it is empty.
func (l *line) drain() {
	for range cap(l.window) {
		select {
		case l.window <- struct{}{}:
		case <-l.alive.Done():
			return
		}
	}
}

// end closes the connection and waits for all that belongs to it.
func (l *line) end() {
	if l.client != nil && l.alive.Err() == nil {
		l.client.Disconnect(250) // ms; it sends what is on its way and DISCONNECT
	}
	l.fail(errStopped)
	l.work.Wait()
	l.devices.detachAll("the connection to the external broker ended")
}

// receive is paho's handler. While the window is full it does not return and paho reads nothing more, pings included: a
// wait longer than the ping timeout ends the connection, and the broker sends again what was not acknowledged.
func (l *line) receive(_ paho.Client, m paho.Message) {
	select {
	case <-l.external.stopping.Done():
		return
	default:
	}
	select {
	case l.window <- struct{}{}:
		l.queue <- m // as long as the window: never full
	case <-l.alive.Done():
	case <-l.external.stopping.Done():
	}
}

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
				l.fail(fmt.Errorf("journal: %w", err))
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
	m := message{topic: in.Topic(), payload: in.Payload(), qos: in.Qos(), retained: in.Retained()}
	device, about, ok := splitTopic(e.cfg.Prefix, m.topic)
	if !ok || !about.fromDevice() {
		return l.refuse(in, "", &refusal{reason: ReasonTopic, message: "not a topic of a device"})
	}
	// A device that is not in the registry has no counters of its own: whoever publishes would choose their number.
	d, ok := e.hub.find(discovery.Sighting{Device: device, Bridge: e.cfg.Name, Topic: m.topic, Payload: m.payload, Retained: m.retained})
	if !ok {
		return l.refuse(in, "", &refusal{reason: ReasonUnknownDevice, message: "no such device"})
	}
	if !d.Enabled {
		return l.refuse(in, device, &refusal{reason: ReasonDisabled, message: "the device is disabled"})
	}
	profile := e.hub.Profiles.Of(device)
	e.hub.Throttle.Overrun(device, profile, int64(len(m.payload)))
	if r := checkSize(int64(len(m.payload)), profile.Limits.MaxFrame); r != nil {
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
	l.mu.Lock()
	l.current = in
	l.mu.Unlock()
	_, err := e.hub.Sink.Append(device, &s.telemetry, time.Now().UnixMilli(), l)
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
	if device == "" {
		l.external.hub.Sink.Refuse("", r.reason)
	} else {
		l.external.hub.refused(device, r)
	}
	l.settle(in)
	return r
}

// settle lets a message that the journal has nothing to do with be acknowledged after those before it.
func (l *line) settle(in paho.Message) {
	l.mu.Lock()
	l.waiting = append(l.waiting, uncommitted{message: in, gen: l.lastGen()})
	l.advance()
	l.mu.Unlock()
	l.signal()
}

// lastGen returns the commit of the message before, which one that joins none follows. It needs mu.
func (l *line) lastGen() uint64 {
	if len(l.waiting) == 0 {
		return 0
	}
	return l.waiting[len(l.waiting)-1].gen
}

// advance moves what may be acknowledged to ready. It needs mu.
func (l *line) advance() {
	n := 0
	for n < len(l.waiting) && l.waiting[n].gen <= l.durable && (l.waiting[n].held == nil || !*l.waiting[n].held) {
		l.ready = append(l.ready, l.waiting[n].message)
		n++
	}
	l.waiting = l.waiting[n:]
}

// Join implements wire.Waiter: the message that take is about joins commit gen.
func (l *line) Join(gen uint64) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, uncommitted{message: l.current, gen: gen})
	first = l.joined != gen
	l.joined = gen
	return first
}

// Committed implements wire.Waiter.
func (l *line) Committed(gen uint64, err error) {
	if err != nil {
		l.fail(fmt.Errorf("journal: %w", err))
		return
	}
	l.mu.Lock()
	l.durable = max(l.durable, gen)
	l.advance()
	l.mu.Unlock()
	l.signal()
}

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// acknowledge sends the acknowledgements of what is ready.
func (l *line) acknowledge() {
	for {
		select {
		case <-l.wake:
		case <-l.alive.Done():
			return
		}
		l.mu.Lock()
		ready := l.ready
		l.ready = nil
		l.mu.Unlock()
		for _, m := range ready {
			m.Ack() // waits for the socket, at most until the write's deadline
			l.external.metrics.acked.Inc()
			<-l.window
		}
	}
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
			// The token is complete when it is written, with QoS 1 when the broker has it; an error ends the connection anyway.
			if err := l.wait(l.client.Publish(out.topic, out.qos, false, out.payload)); err != nil {
				l.fail(fmt.Errorf("publish to a device: %w", err))
				return
			}
			if !out.state {
				l.external.metrics.commands.Inc()
			}
		case <-l.alive.Done():
			return
		}
	}
}
