package bridge

import "time"

// join gives the link its session's mailbox: what other devices say to this one is written from now on, and first what
// was not acknowledged on a connection before.
func (l *link) join(m *mailbox, x *exchange) {
	l.mu.Lock()
	if l.ended || l.shutting || l.mailbox != nil {
		l.mu.Unlock()
		return
	}
	l.reserve(m)
	l.mailbox = m
	l.mu.Unlock()
	x.attach(m, l)
	l.deliver()
}

// reserve keeps the packet ids of what is to be sent again from what is sent before that. It needs mu.
func (l *link) reserve(m *mailbox) {
	for _, id := range m.resume() {
		if l.inflight == nil {
			l.inflight = map[uint16]string{}
		}
		l.inflight[id] = ""
	}
}

// deliver tells the link that something may be in its mailbox.
func (l *link) deliver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.letterDue() {
		l.startWriting()
	}
}

// letterDue reports whether a message of another device may be written now. It needs mu.
func (l *link) letterDue() bool {
	return l.mailbox != nil && !l.ended && !l.shutting && l.mailbox.due(l.hasQuota())
}

// hasQuota reports whether the device takes one more QoS 1 message [MQTT-3.3.4-9]. Those that are sent again took their
// places when the connection began. It needs mu.
func (l *link) hasQuota() bool {
	_, window, _ := l.peer.limits()
	return len(l.inflight)-l.mailbox.resent() < min(window, letterInflight)
}

// takeLetter returns the next message of another device. ok is false where there is none that can be written now. It
// needs mu.
func (l *link) takeLetter() (out publication, ok bool) {
	d, ok := l.mailbox.next(l.hasQuota(), func() uint16 { return l.newID("") })
	if !ok {
		return out, false
	}
	out = publication{
		topic: d.topic, payload: d.payload, qos: d.qos, packetID: d.packetID, identifiers: d.identifiers,
		kind: kindLetter, retain: d.retain, dup: d.again, extras: d.extras,
	}
	if !d.expires.IsZero() {
		out.expiry = max(time.Until(d.expires), 1) // [MQTT-3.3.2-6]
	}
	if maxPacket, _, _ := l.peer.limits(); maxPacket > 0 && d.text()+framing(d) > maxPacket { // [MQTT-3.1.2-24]
		l.metrics.undelivered.WithLabelValues(lostTooLarge).Inc()
		l.mailbox.acknowledged(d.packetID)
		delete(l.inflight, d.packetID)
		return out, false
	}
	return out, true
}

// framing is the most bytes that a packet has beside a delivery's own.
func framing(d delivery) int {
	n := 48 + 5*len(d.identifiers)
	if d.extras != nil {
		n += 5 * len(d.extras.user)
	}
	return n
}
