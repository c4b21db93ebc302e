package bridge

import (
	"slices"
	"sync"
	"time"
)

// subscription is one of a session's to a granted topic.
type subscription struct {
	filter          string
	qos             byte // at most 1
	identifier      int  // of MQTT 5; 0: none
	noLocal         bool
	asPublished     bool // the retain flag is handed on
	withoutRetained bool // at SUBSCRIBE; MQTT 5's retain handling
}

// letter is a message on its way from a device to others. It is not changed.
type letter struct {
	message
	from    *mailbox  // the session that published it; nil: none
	expires time.Time // zero: never
}

func (l *letter) expired(now time.Time) bool { return !l.expires.IsZero() && !now.Before(l.expires) }

// propertyOverhead is what a user property takes in memory beside its text. Without it empty ones, of 5 bytes on the
// wire, would not count at all.
const propertyOverhead = 32

// size is what a letter counts for in the bounds on bytes.
func (l *letter) size() int {
	n := l.text()
	if l.extras != nil {
		n += propertyOverhead * len(l.extras.user)
	}
	return n
}

// text is how many bytes a letter's own words have, in memory as on the wire.
func (l *letter) text() int {
	n := len(l.topic) + len(l.payload)
	if e := l.extras; e != nil {
		n += len(e.contentType) + len(e.response) + len(e.correlation)
		for _, u := range e.user {
			n += len(u.key) + len(u.value)
		}
	}
	return n
}

// delivery is a letter on its way to one session.
type delivery struct {
	*letter
	qos         byte
	retain      bool // the flag that the device sees
	identifiers []int
	filter      string // that it was retained for; "": it was not
	packetID    uint16 // once it was sent with QoS 1
	again       bool   // it was, on a connection before
}

// mailbox is what one session of a device holds of other devices' messages: its subscriptions, what waits for it, and
// what it has not acknowledged. It outlives connections as the session does, in memory.
type mailbox struct {
	id, device string
	registered time.Time // when its device was: one that was deleted may have left its name to another
	metrics    *brokerMetrics
	mostQueued int // messages
	mostBytes  int

	mostStored      int // messages
	mostStoredBytes int

	takings *takings // what the device itself sends with QoS 2

	// Guarded by the exchange's mu.
	subscriptions map[string]subscription // by filter
	owner         *client                 // the newest connection of the session
	link          *link                   // nil: the device is absent

	mu       sync.Mutex
	again    []delivery // QoS 1, not acknowledged on a connection before
	stored   []delivery // what was retained when the device subscribed
	queue    []delivery
	bytes    int        // of queue
	sent     []delivery // QoS 1, not acknowledged, in the order in which it was sent
	overflow bool       // something was dropped since queue was empty
}

// put queues a delivery. When there is no room, the oldest goes, for what is newer says more; first is true for the
// first that goes since the queue was empty.
func (m *mailbox) put(d delivery) (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = append(m.queue, d)
	m.bytes += d.size()
	for len(m.queue) > m.mostQueued || m.bytes > m.mostBytes {
		m.bytes -= m.queue[0].size()
		m.queue[0] = delivery{}
		m.queue = m.queue[1:]
		m.metrics.undelivered.WithLabelValues(lostQueueFull).Inc()
		first = first || !m.overflow
		m.overflow = true
	}
	return first
}

// putStored queues what is retained for a subscription, in the place of what waits for the same topic and filter from an
// earlier SUBSCRIBE. What waits is bounded as what is retained is: topics come and go, and a device that acknowledges
// nothing could subscribe for ever.
func (m *mailbox) putStored(all []delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = newestOfEach(append(m.stored, all...))
	size, lost := 0, 0
	topics := map[string]int{}
	for _, d := range m.stored {
		size += d.size()
		topics[d.topic]++
	}
	before := len(m.stored)
	trim := func(may func(d delivery) bool) {
		m.stored = slices.DeleteFunc(m.stored, func(d delivery) bool {
			if left := before - lost; left <= m.mostStored && size <= m.mostStoredBytes || !may(d) {
				return false
			}
			lost++
			size -= d.size()
			topics[d.topic]--
			return true
		})
	}
	trim(func(d delivery) bool { return topics[d.topic] > 1 }) // overlapping filters: the topic comes all the same
	trim(func(delivery) bool { return true })
	m.metrics.undelivered.WithLabelValues(lostQueueFull).Add(float64(lost))
}

// newestOfEach keeps the last delivery for each topic and filter.
func newestOfEach(all []delivery) []delivery {
	type place struct{ topic, filter string }
	last := make(map[place]int, len(all))
	for i, d := range all {
		last[place{d.topic, d.filter}] = i
	}
	kept := make([]delivery, 0, len(last))
	for i, d := range all {
		if last[place{d.topic, d.filter}] == i {
			kept = append(kept, d)
		}
	}
	return kept
}

// resume prepares what was not acknowledged to be sent again, first and in its order [MQTT-4.4.0-1, 4.6.0-1]. It returns
// the packet ids that this takes.
func (m *mailbox) resume() (ids []uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.again, m.sent = append(m.sent, m.again...), nil
	for i := range m.again {
		m.again[i].again = true
		ids = append(ids, m.again[i].packetID)
	}
	return ids
}

// next takes the next delivery, one of QoS 1 only if quota says so. give is asked for its packet id.
func (m *mailbox) next(quota bool, give func() uint16) (d delivery, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for {
		from := m.first()
		if from == nil {
			return d, false
		}
		d = (*from)[0]
		late := !d.again && d.expired(now) // [MQTT-3.3.2-5]
		if !late && d.qos > 0 && !quota {
			return d, false
		}
		(*from)[0] = delivery{}
		if *from = (*from)[1:]; len(*from) == 0 {
			*from = nil
		}
		if from == &m.queue {
			m.bytes -= d.size()
			m.overflow = m.overflow && len(m.queue) > 0
		}
		if late {
			m.metrics.undelivered.WithLabelValues(lostExpired).Inc()
			continue
		}
		if d.qos > 0 {
			if !d.again {
				d.packetID = give()
			}
			m.sent = append(m.sent, d)
		}
		return d, true
	}
}

// first returns the list whose turn it is; nil: nothing waits. It needs mu.
func (m *mailbox) first() *[]delivery {
	for _, from := range [3]*[]delivery{&m.again, &m.stored, &m.queue} {
		if len(*from) > 0 {
			return from
		}
	}
	return nil
}

// due reports whether something waits that may be sent.
func (m *mailbox) due(quota bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := m.first()
	return from != nil && (quota || (*from)[0].qos == 0)
}

func (m *mailbox) acknowledged(packetID uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	is := func(d delivery) bool { return d.packetID == packetID }
	m.sent = slices.DeleteFunc(m.sent, is)
	m.again = slices.DeleteFunc(m.again, is)
}

// resent returns how many are still to be sent again.
func (m *mailbox) resent() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.again)
}

// length returns how many messages the mailbox holds.
func (m *mailbox) length() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.again) + len(m.stored) + len(m.queue) + len(m.sent)
}
