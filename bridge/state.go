package bridge

import (
	"errors"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/wire"
)

// States keeps what devices report and operators desire, as devices.States says it.
type States interface {
	Report(device string, patch []byte, done func(version uint64, err error)) error
	State(device string) wire.State
}

// takeState reports a device's state. Its claim is settled once that is durable.
func (b *Broker) takeState(c *client, s *scratch, m message, r *claim) (later bool, err error) {
	reported, err := s.decoder.DecodeStatePayload(m.payload, wire.DialectOfPayload(m.payload))
	if err != nil {
		return false, unusable(err)
	}
	err = b.hub.States.Report(c.device, reported, func(_ uint64, err error) {
		refused, ok := errors.AsType[*refusal](journalRefusal(err))
		if ok {
			b.metrics.refused.count(refused.reason)
			b.example(m, c.device, refused)
			b.hub.refused(c.device, refused)
		}
		switch {
		case r == nil:
		case err != nil && !ok:
			c.acks.fail(err, func(failed *claim) bool { return failed == r })
		default:
			c.acks.settle(r, refused)
		}
	})
	return err == nil, journalRefusal(err)
}

// desired is what a device of the embedded broker knows of its desired state and what it is still to be told: the newest
// alone. Guarded by the link's mu.
type desired struct {
	next     *wire.State // nil: nothing
	version  uint64      // written last
	packetID uint16      // of a QoS 1 message that is not acknowledged; 0: none
}

// tellState tells a device that has subscribed of its desired state, as a retained message would, but never of an old
// one.
func (c *client) tellState() {
	if c.unconfirmed != nil {
		return
	}
	if st := c.broker.hub.States.State(c.device); st.Version > 0 {
		c.link.Desire(st)
	}
}

// Desire implements devices.Link. A device that has not subscribed is told when it does.
func (l *link) Desire(st wire.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.shutting || l.peer == nil {
		return
	}
	if st.Version > l.desired.version && (l.desired.next == nil || st.Version > l.desired.next.Version) {
		l.desired.next = &st
	}
	if l.stateDue() {
		l.startWriting()
	}
}

// stateDue reports whether the device is to be told of its state now: it listens, has acknowledged what it was told
// before, and takes one more QoS 1 message. It needs mu.
func (l *link) stateDue() bool {
	if l.held || l.desired.next == nil || l.desired.packetID != 0 {
		return false
	}
	qos, _, listens := l.peer.granted(subjectDesired)
	_, window, _ := l.peer.limits()
	return listens && (qos == 0 || len(l.inflight) < window)
}

// takeDesired returns the message of the state that is due. ok is false where the device takes none so large. It needs mu.
func (l *link) takeDesired() (out publication, ok bool) {
	st := *l.desired.next
	l.desired.next, l.desired.version = nil, st.Version
	qos, identifiers, _ := l.peer.granted(subjectDesired)
	maxPacket, _, _ := l.peer.limits()
	out = publication{topic: joinTopic(ownPrefix, l.client.device, subjectDesired), payload: wire.AppendStateParams(nil, st), identifiers: identifiers, kind: kindState}
	if maxPacket > 0 && len(out.payload)+len(out.topic)+packetOverhead > maxPacket {
		if st.Desired = nil; st.Delta != nil { // it says what is to be done
			out.payload = wire.AppendStateParams(nil, st)
		}
	}
	if maxPacket > 0 && len(out.payload)+len(out.topic)+packetOverhead > maxPacket {
		l.metrics.statesTooLarge.Inc()
		return out, false
	}
	if qos > 0 {
		out.qos, out.packetID = 1, l.newID("")
		l.desired.packetID = out.packetID
	}
	return out, true
}

// takeState reports the state of a device behind the external broker. The message is acknowledged once that is durable,
// after those before it.
func (l *line) takeState(s *scratch, in paho.Message, device string, m message) error {
	if m.retained {
		return l.refuse(in, device, &refusal{reason: ReasonRetained, message: "a retained state may be older than what the device reported since"})
	}
	reported, err := s.decoder.DecodeStatePayload(m.payload, wire.DialectOfPayload(m.payload))
	if err != nil {
		return l.refuse(in, device, unusable(err))
	}
	l.devices.seen(device)
	held := l.hold(in)
	err = l.external.hub.States.Report(device, reported, func(_ uint64, err error) {
		if r, refused := errors.AsType[*refusal](journalRefusal(err)); refused {
			l.external.metrics.refused.count(r.reason)
			l.external.example(in, device, r)
			l.external.hub.refused(device, r)
		} else if err != nil { // the hub stops, say: not acknowledged, so the broker sends it again
			l.failJournal(err)
			return
		}
		l.release(held)
	})
	if r, refused := errors.AsType[*refusal](journalRefusal(err)); refused {
		l.external.example(in, device, r)
		l.external.hub.refused(device, r)
		l.release(held)
		return r
	}
	return err
}

// hold keeps a message from being acknowledged, and those after it, until release.
func (l *line) hold(in paho.Message) *bool {
	held := true
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, uncommitted{message: in, gen: l.lastGen(), held: &held, receipt: l.receipt})
	return &held
}

func (l *line) release(held *bool) {
	l.mu.Lock()
	*held = false
	l.settled(l.advance())
}

// Desire implements devices.Link.
func (d *bridgedDevice) Desire(st wire.State) {
	b := d.owner
	b.mu.Lock()
	defer b.mu.Unlock()
	if st.Version <= d.told {
		return
	}
	l := b.line
	if d.by != nil {
		d.orderDesired(st)
		return
	}
	err := l.send(publication{topic: joinTopic(l.external.cfg.Prefix, d.id, subjectDesired), payload: wire.AppendStateParams(nil, st), qos: 1, kind: kindState})
	if d.owed = err != nil; !d.owed {
		d.told = st.Version
	}
}

// greet tells a device that was heard of of its desired state, where that differs from what it reported, and again what
// it could not be told before.
func (d *bridgedDevice) greet() {
	if st := d.owner.line.external.hub.States.State(d.id); st.Delta != nil {
		d.Desire(st)
	}
}

// isOwed reports whether the device could not be told of its state, and marks that it is tried again.
func (d *bridgedDevice) isOwed() bool {
	b := d.owner
	b.mu.Lock()
	defer b.mu.Unlock()
	owed := d.owed
	d.owed = false
	return owed
}
