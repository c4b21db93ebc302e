package bridge

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// bridgedDevices are the devices that were heard of on one connection to an external broker and have no connection of
// their own. Their sessions begin with their first message, and end with the connection or when they are idle.
type bridgedDevices struct {
	line *line
	work sync.WaitGroup

	mu    sync.Mutex
	known map[string]*bridgedDevice
	given uint64 // reports of states, ever
	ended bool
}

// bridgedDevice is the link of one device behind the external broker.
type bridgedDevice struct {
	owner  *bridgedDevices
	id     string
	orders orderBook

	// Guarded by owner.mu.
	session *devices.Session // nil while Attach runs
	seen    time.Time
	closed  string // why the hub closed it
	told    uint64 // version of the desired state that was published last
	owed    bool   // one could not be published

	by     *mapping // nil: it speaks the hub's own words
	stays  bool     // the broker says when it is gone: it may be silent
	report string   // of its state, the last by a map, once that is durable; "": it is not
	given  uint64   // the number of that report among the owner's
}

func newBridgedDevices(l *line) *bridgedDevices {
	return &bridgedDevices{line: l, known: map[string]*bridgedDevice{}}
}

func (b *bridgedDevices) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.known)
}

// seen notes a sign of life and returns the device's session, nil when it is connected in another way: its own
// connection is nearer to it than what comes through a broker. Only the line's goroutine calls it.
func (b *bridgedDevices) seen(device string) *devices.Session { return b.seenBy(device, nil) }

// seenBy is seen of a message that came by a map.
func (b *bridgedDevices) seenBy(device string, by *mapping) *devices.Session {
	b.mu.Lock()
	d, ok := b.known[device]
	if ok {
		d.seen = time.Now()
	}
	b.mu.Unlock()
	if ok {
		d.learn(by)
		d.session.Heard()
		if d.isOwed() {
			d.greet()
		}
		return d.session
	}
	hub := b.line.external.hub
	d = &bridgedDevice{owner: b, id: device, seen: time.Now(), by: by} // once attached, it may be spoken to
	session, attached := hub.Sessions.AttachIfAbsent(devices.Attachment{
		Device: device, Transport: transportBridge + b.line.external.cfg.Name, Remote: b.line.external.remote(), Link: d,
		Proof: devices.Proof{Kind: devices.ProofBroker, ID: b.line.external.cfg.Name},
	})
	if !attached {
		return nil
	}
	if err := hub.Registry.Current(device, session.Proof); err != nil { // a change before the session found none to end
		d.Close(wire.CloseRevoked, devices.VoidReason(err))
	}
	b.mu.Lock()
	d.session = session
	if d.closed == "" {
		b.known[device] = d
	}
	closed := d.closed
	b.mu.Unlock()
	if closed != "" {
		session.Detach(closed)
		return nil
	}
	d.introduce(by)
	session.Ready() // the hub cannot know who has subscribed at the broker
	d.greet()
	return session
}

// sweep ends the sessions of devices that were silent since then.
func (b *bridgedDevices) sweep(since time.Time) {
	var idle []*bridgedDevice
	b.mu.Lock()
	for id, d := range b.known {
		if d.seen.Before(since) && !d.stays {
			idle = append(idle, d)
			delete(b.known, id)
		}
	}
	b.mu.Unlock()
	for _, d := range idle {
		d.orders.leave()
		d.session.Detach(fmt.Sprintf("no message for %s", b.line.external.cfg.Timing.Idle))
	}
}

// detachAll ends all sessions; none begins afterwards, for the line's goroutine has ended.
func (b *bridgedDevices) detachAll(cause string) {
	b.mu.Lock()
	all := b.known
	b.known, b.ended = map[string]*bridgedDevice{}, true
	b.mu.Unlock()
	for _, d := range all {
		d.session.Detach(cause)
	}
	b.work.Wait()
}

// Cancel implements devices.Link.
func (d *bridgedDevice) Cancel(id string) error {
	if d.mappedBy() != nil {
		return errNoWord
	}
	return d.publish(publication{payload: wire.AppendCancel(nil, id)})
}

// Probe implements devices.Prober.
func (d *bridgedDevice) Probe() error {
	if d.mappedBy() != nil {
		return errNoWord
	}
	return d.publish(publication{payload: wire.AppendProbe(nil)})
}

// errNoWord says that a device that is spoken to by maps has no word for something.
var errNoWord = errors.New("the device's maps have no word for it")

// Speaks implements devices.Prober: the hub cannot know who has subscribed at the broker.
func (d *bridgedDevice) Speaks(time.Duration) bool { return false }

// publish sends on the topic of the device's commands.
func (d *bridgedDevice) publish(out publication) error {
	l := d.owner.line
	out.topic = joinTopic(l.external.cfg.Prefix, d.id, subjectCommand)
	if err := l.send(out); err != nil {
		return fmt.Errorf("send by bridge %q: %w", l.external.cfg.Name, err)
	}
	return nil
}

// Close implements devices.Link: the device's session ends, not the connection to the broker.
func (d *bridgedDevice) Close(_ int, reason string) {
	b := d.owner
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.closed != "" {
		return
	}
	d.closed = reason
	d.orders.leave()
	if b.known[d.id] == d {
		delete(b.known, d.id)
	}
	if d.session != nil && !b.ended {
		// Sessions may hold its lock while it closes a link.
		b.work.Go(func() { d.session.Detach(reason) })
	}
}
