package bridge

import (
	"slices"
	"sync"
	"time"

	"telemetryhub/devices"
)

// exchange hands what devices publish on granted topics to the sessions that subscribe to them. It is in memory, but for
// what is retained: an acknowledgement of such a message says that each of these sessions has it in its mailbox, and that
// it is durable where it is to be retained.
type exchange struct {
	cfg      BrokerConfig
	grants   grants
	hub      Hub
	metrics  *brokerMetrics
	retained *retained

	mu        sync.Mutex
	filters   filterTree
	mailboxes map[string]*mailbox // by the session's id
}

// Reasons of messages that did not get to a session.
const (
	lostQueueFull = "queue_full"
	lostExpired   = "expired"
	lostTooLarge  = "too_large"
)

// begin opens a session for a connection, with what it holds if it resumes one.
func (x *exchange) begin(id string, c *client, resumes bool) *mailbox {
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.mailboxes[id]
	if m != nil && !resumes {
		x.drop(m)
		m = nil
	}
	if m == nil {
		device, _ := x.hub.Registry.Get(c.device)
		m = &mailbox{
			registered: device.Created,
			id:         id, device: c.device, metrics: x.metrics, mostQueued: x.cfg.MaxQueued, mostBytes: x.cfg.MaxQueuedBytes,
			mostStored: x.cfg.MaxRetained, mostStoredBytes: x.cfg.MaxRetainedBytes, subscriptions: map[string]subscription{}, takings: newTakings(),
		}
		x.mailboxes[id] = m
	}
	m.owner, m.link = c, nil
	return m
}

// continues implements rules. What waits for a device that was deleted is not for the one that has its name now.
func (b *Broker) continues(c *client, id string) bool {
	device, _ := b.hub.Registry.Get(c.device)
	x := b.exchange
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.mailboxes[id]
	return m == nil || m.registered.Equal(device.Created)
}

// owner returns the connection that has a session, or had it last; nil: the session has ended.
func (x *exchange) owner(m *mailbox) *client {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mailboxes[m.id] != m {
		return nil
	}
	return m.owner
}

// attach says which connection's link a session's messages go to, unless a newer connection has the session.
func (x *exchange) attach(m *mailbox, l *link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if m.owner == l.client {
		m.link = l
	}
}

// detach takes a link from its session, unless a newer one serves it.
func (x *exchange) detach(m *mailbox, l *link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if m.link == l {
		m.link = nil
	}
}

// end ends a session: the engine keeps it no longer. With last, it does only if that was its newest connection: one that
// ends late says nothing of the session that a newer one of its client id has begun.
func (x *exchange) end(id string, last *client) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if m := x.mailboxes[id]; m != nil && (last == nil || m.owner == last) {
		x.drop(m)
	}
}

// drop needs mu.
func (x *exchange) drop(m *mailbox) {
	for filter := range m.subscriptions {
		x.filters.remove(filter, m)
	}
	clear(m.subscriptions)
	delete(x.mailboxes, m.id)
}

// subscribe adds a subscription of a session, or replaces the one to the same filter [MQTT-3.8.4-3].
func (x *exchange) subscribe(m *mailbox, s subscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mailboxes[m.id] != m { // the session has ended
		return
	}
	m.subscriptions[s.filter] = s
	x.filters.set(s.filter, m, s)
}

// putStored queues what was retained when subscriptions began, but for what is not any more: what has taken its place was
// published since, so it comes by itself, and may have come already; nothing older may follow it [MQTT-4.6.0-6]. With mu,
// nothing is distributed between that look and the queue.
func (x *exchange) putStored(m *mailbox, all []delivery) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.retained.mu.Lock()
	all = slices.DeleteFunc(all, func(d delivery) bool { return x.retained.kept[d.topic] != d.letter })
	x.retained.mu.Unlock()
	m.putStored(all)
}

func (x *exchange) unsubscribe(id string, filters []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.mailboxes[id]
	if m == nil {
		return
	}
	for _, f := range filters {
		if _, ok := m.subscriptions[f]; ok {
			delete(m.subscriptions, f)
			x.filters.remove(f, m)
		}
	}
}

// publish hands on a message, once it is durable where it is to be retained, and returns how many sessions it went to.
func (x *exchange) publish(from *mailbox, m message) (sessions int, err error) {
	l := &letter{message: m, from: from}
	if m.extras != nil && m.extras.expiry > 0 {
		l.expires = time.Now().Add(m.extras.expiry)
	}
	if m.retained {
		if err := x.retained.put(l); err != nil {
			return 0, err
		}
	}
	x.metrics.routed.Inc()
	links := x.distribute(l)
	for _, to := range links {
		if to != nil {
			to.deliver()
		}
	}
	return len(links), nil
}

// distribute puts a letter into the mailboxes of those who subscribe, and returns the connections of these, nil for the
// absent ones.
func (x *exchange) distribute(l *letter) (links []*link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := map[*mailbox]*delivery{}
	x.filters.match(l.topic, func(m *mailbox, s subscription) {
		if s.noLocal && m == l.from { // [MQTT-3.8.3-3]
			return
		}
		d := found[m]
		if d == nil {
			d = &delivery{letter: l}
			found[m] = d
		}
		d.qos = max(d.qos, min(s.qos, l.qos)) // [MQTT-3.3.5-1]
		d.retain = d.retain || s.asPublished && l.retained
		if s.identifier > 0 { // [MQTT-3.3.4-4]
			d.identifiers = append(d.identifiers, s.identifier)
		}
	})
	for m, d := range found {
		// It may have been granted by a tag that the device no longer has.
		device, ok := x.hub.Registry.Get(m.device)
		if !ok || !x.grants.maySubscribe(&device, l.topic) || m.link == nil && d.qos == 0 {
			continue
		}
		slices.Sort(d.identifiers)
		if m.put(*d) {
			x.hub.Sessions.Note(m.device, devices.Event{
				Kind: devices.EventLimit, Reason: lostQueueFull, Limit: int64(x.cfg.MaxQueued), Value: int64(x.cfg.MaxQueued) + 1,
				Message: "more messages of other devices wait for it than its session holds; the oldest go",
			})
		}
		links = append(links, m.link)
	}
	return links
}

// waiting returns how many messages the mailboxes hold.
func (x *exchange) waiting() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range x.mailboxes {
		n += m.length()
	}
	return n
}
