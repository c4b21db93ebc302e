package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Errors of sending a command to a device: surely nothing was sent.
var (
	errNotSubscribed = errors.New("the device is connected by MQTT and has not subscribed to the topic")
	errBusy          = errors.New("the device does not read: too many commands wait for its socket")
	errInflight      = errors.New("the device has not acknowledged the commands before")
	errEnded         = errors.New("the connection has ended")
)

// link takes commands to a device of the embedded broker, and what other devices say to it. Commands wait in a bounded
// queue, and the others in the session's mailbox, for a goroutine that lives only while there is something to write; it is
// our own and not the engine's, whose queue drops without telling.
//
// A command that was sent with QoS 1 and not acknowledged when the connection ends is forgotten: the command's ledger sends it
// again, with the same command id, as long as it has not expired. A broker that redelivers from the session would send
// it without looking at that.
type link struct {
	metrics *brokerMetrics
	client  *client
	work    sync.WaitGroup // the writer, and disconnects

	by     atomic.Pointer[mapping] // nil: it speaks the hub's own words
	orders orderBook

	mu       sync.Mutex
	peer     peer // nil before the session is established
	queue    []publication
	writing  bool
	ended    bool
	inflight map[uint16]string // ids of commands, by packet id
	lastID   uint16
	desired  desired
	held     bool     // the desired state is kept back
	mailbox  *mailbox // nil: other devices say nothing to it
	shutting bool
	code     int // why, as a close code of the hub's own connection
	reason   string
}

// closeUnsafe is the code of a connection that ends because a message could not be made durable (RFC 6455 section 7.4.1:
// an unexpected condition).
const closeUnsafe = 1011

func newLink(m *brokerMetrics, c *client) *link { return &link{metrics: m, client: c} }

// open lets the link write. The desired state and commands may go out before it has its session's mailbox, and must not
// have the packet ids of what that sends again: one PUBACK would be taken for both.
func (l *link) open(p peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserve(l.client.mailbox)
	l.peer = p
}

// subscribed reports whether the device listens to commands.
func (l *link) subscribed() bool { return l.listens(subjectCommand) }

func (l *link) listens(about subject) bool {
	l.mu.Lock()
	p := l.peer
	l.mu.Unlock()
	if p == nil {
		return false
	}
	_, _, ok := p.granted(about)
	return ok
}

// Send implements devices.Link.
func (l *link) Send(cmd wire.Command) error {
	err := l.send(cmd)
	if err != nil {
		l.metrics.commandsRefused.Inc()
		return fmt.Errorf("send by mqtt: %w", err)
	}
	return nil
}

func (l *link) send(cmd wire.Command) error {
	if by := l.by.Load(); by != nil && !l.subscribed() {
		return l.order(by, cmd)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out, qos, err := l.prepare(subjectCommand, wire.AppendCommand(nil, cmd))
	if err != nil {
		return err
	}
	out.response, out.correlation = joinTopic(ownPrefix, l.client.device, subjectResponse), []byte(cmd.ID)
	_, window, expiry := l.peer.limits()
	if cmd.AtLeastOnce && qos > 0 {
		if len(l.inflight) >= min(window, commandInflight) {
			return errInflight
		}
		out.qos, out.packetID = 1, l.newID(cmd.ID)
		if expiry {
			out.expiry = cmd.TTL
		}
	}
	l.add(out)
	return nil
}

// Cancel implements devices.Link: the command's topic bears it, at most once.
func (l *link) Cancel(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.once(subjectCommand, wire.AppendCancel(nil, id))
}

// once sends at most once. It needs mu.
func (l *link) once(about subject, payload []byte) error {
	out, _, err := l.prepare(about, payload)
	if err != nil {
		return fmt.Errorf("send by mqtt: %w", err)
	}
	l.add(out)
	return nil
}

// Probe implements devices.Prober. Only a message of the device's answers it: its pings are its client library's.
func (l *link) Probe() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.once(subjectCommand, wire.AppendProbe(nil))
}

// Speaks implements devices.Prober.
func (l *link) Speaks(time.Duration) bool { return l.subscribed() }

// prepare makes a message for one of the device's topics, and returns the QoS that the device subscribed with. An error of type
// *wire.Error says that the device never takes it. It needs mu.
func (l *link) prepare(about subject, payload []byte) (out publication, qos byte, err error) {
	if l.ended || l.shutting || l.peer == nil {
		return out, 0, errEnded
	}
	qos, identifiers, ok := l.peer.granted(about)
	if !ok {
		return out, 0, errNotSubscribed
	}
	if len(l.queue) >= commandQueue {
		return out, 0, errBusy
	}
	out = publication{topic: joinTopic(ownPrefix, l.client.device, about), payload: payload, identifiers: identifiers}
	maxPacket, _, _ := l.peer.limits()
	if size := len(out.payload) + len(out.topic) + packetOverhead; maxPacket > 0 && size > maxPacket {
		return out, 0, &wire.Error{
			Code: wire.CodeTooLarge, Reason: wire.ReasonTooLarge, Limit: int64(maxPacket), Value: int64(size),
			Message: fmt.Sprintf("the command needs up to %d bytes and the device takes %d", size, maxPacket),
		}
	}
	return out, qos, nil
}

// add needs mu.
func (l *link) add(out publication) {
	l.queue = append(l.queue, out)
	l.startWriting()
}

// startWriting needs mu.
func (l *link) startWriting() {
	if !l.writing {
		l.writing = true
		l.work.Go(l.write)
	}
}

// newID needs mu. There are far fewer ids in use than ids.
func (l *link) newID(command string) uint16 {
	if l.inflight == nil {
		l.inflight = map[uint16]string{}
	}
	for {
		l.lastID++
		if _, used := l.inflight[l.lastID]; l.lastID != 0 && !used {
			l.inflight[l.lastID] = command
			return l.lastID
		}
	}
}

// Ended lets a command go that has its outcome: what was not yet written of it never is, and it holds no place among
// those that were not acknowledged. A device that answers a command and acknowledges it later, or never, is not made to
// wait for the next one.
func (l *link) Ended(command string) {
	l.orders.ended(command)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(out publication) bool { return out.qos == 1 && l.inflight[out.packetID] == command })
	maps.DeleteFunc(l.inflight, func(_ uint16, id string) bool { return id == command })
}

func (l *link) acknowledged(packetID uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.inflight, packetID)
	if packetID == l.desired.packetID {
		l.desired.packetID = 0
	}
	if l.mailbox != nil {
		l.mailbox.acknowledged(packetID)
	}
	if !l.ended && (l.stateDue() || l.letterDue()) {
		l.startWriting()
	}
}

// write writes what is to be written and returns.
func (l *link) write() {
	for {
		l.mu.Lock()
		out, ok := l.next()
		if !ok {
			l.writing = false
			l.mu.Unlock()
			return
		}
		p := l.peer
		l.mu.Unlock()
		if err := p.write(out); err != nil {
			// Part of it may be out. The session's end makes the outcome of its commands known as unknown.
			p.disconnect(codeUnspecified, "a message could not be written")
			continue
		}
		switch out.kind {
		case kindCommand:
			l.metrics.commands.Inc()
		case kindLetter:
			l.metrics.delivered.Inc()
		}
	}
}

// next returns what is to be written next: the desired state, then commands, then what other devices say. It needs mu.
func (l *link) next() (out publication, ok bool) {
	if l.ended {
		l.queue = nil
		return out, false
	}
	for l.stateDue() {
		if out, ok = l.takeDesired(); ok {
			return out, true
		}
	}
	if len(l.queue) > 0 {
		out, l.queue = l.queue[0], l.queue[1:]
		return out, true
	}
	l.queue = nil
	for l.letterDue() {
		if out, ok = l.takeLetter(); ok {
			return out, true
		}
	}
	return out, false
}

// acknowledge sends acknowledgements; when it cannot, the connection ends.
func (l *link) acknowledge(all []acknowledgement) {
	l.mu.Lock()
	p, ended := l.peer, l.ended
	l.mu.Unlock()
	if p == nil || ended {
		return
	}
	if err := p.acknowledge(all); err != nil {
		p.disconnect(codeUnspecified, "an acknowledgement could not be written")
	}
}

// Close implements devices.Link.
func (l *link) Close(code int, reason string) { l.shut(code, reason) }

// shut ends the connection without waiting and reports whether it was established.
func (l *link) shut(code int, reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peer == nil {
		return false
	}
	if l.ended || l.shutting {
		return true
	}
	l.shutting, l.code, l.reason = true, code, shutCause(code, reason)
	l.client.conn.sayWhy(code, reason)
	l.client.conn.hurry()
	l.work.Go(func() {
		if code == wire.CloseRestart { // what was sent before is acknowledged, and need not come again
			l.client.acks.drain(l.client.broker.commits)
		} else { // without mu, for a commit that holds the acknowledgements' mu notes things of sessions, which close links
			l.client.acks.close()
		}
		l.peer.disconnect(disconnectCode(code), reason)
	})
	return true
}

// replaced notes that the engine ends the connection, for a newer one of the same client id.
func (l *link) replaced() {
	defer l.client.acks.close() // last, without mu
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.shutting {
		l.shutting, l.code, l.reason = true, wire.CloseReplaced, devices.CauseReplaced
		l.client.conn.sayWhy(wire.CloseReplaced, l.reason)
	}
	l.client.conn.hurry()
}

// fail ends the connection without waiting: a message is not to be acknowledged.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.shutting || l.peer == nil {
		return
	}
	l.shutting, l.code, l.reason = true, closeUnsafe, "its message could not be made durable"
	if errors.Is(err, errUnconfirmed) {
		l.reason = "it sent a message before it confirmed its credentials"
	}
	l.client.conn.hurry()
	l.work.Go(func() { l.peer.disconnect(codeUnavailable, "the message could not be made durable; send it again") })
}

// refuse tells the device what is wrong with what it has sent.
func (l *link) refuse(f *fault) {
	l.mu.Lock()
	p := l.peer
	l.mu.Unlock()
	if p != nil {
		p.disconnect(f.code, f.text)
	}
}

// shutReason returns why the hub ends the connection, as a close code and in words; 0: it does not.
func (l *link) shutReason() (code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.code, l.reason
}

// end waits for the link's goroutines. The connection is closed, so they do not take long.
func (l *link) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.work.Wait()
}
