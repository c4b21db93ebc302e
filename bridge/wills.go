package bridge

import (
	"errors"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// will is a connection's last will.
type will struct {
	message
	delay time.Duration // after the connection's end; at most as long as the session is kept
}

// lateWill is the will of a lost connection that waits for its delay (MQTT 5 section 3.1.3.2.2).
type lateWill struct {
	client *client
	timer  *time.Timer
}

// takeWill keeps a last will on a topic that the device may publish on; one on any other topic is refused as a message
// on it would be, but does not cost the connection: firmware often has a will that it does not need here.
func (c *client) takeWill(w will) {
	if _, r := c.broker.judge(c, w.message); r != nil {
		r.message = "its last will, on " + w.topic + ": " + r.message
		c.broker.metrics.refused.count(r.reason)
		c.broker.hub.refused(c.device, r)
		return
	}
	c.will = &w
}

// sendWill is called when the connection has ended. A will goes out unless the device said goodbye, or the hub ended it
// because it stops or because the device may not speak any more. One that is delayed waits for its time, or the end of
// its session, and is dropped when the session is taken up again before [MQTT-3.1.3-9], or the hub stops.
func (c *client) sendWill() {
	w := c.will
	if w == nil || c.goodbye {
		return
	}
	switch code, _ := c.link.shutReason(); code {
	case wire.CloseRestart, wire.CloseGoingAway, wire.CloseRevoked, wire.CloseFrozen:
		return
	}
	if w.delay <= 0 || !c.broker.delayWill(c, w.delay) {
		c.broker.publishWill(c)
	}
}

// publishWill takes a will as a message of now. Nobody is there to be told what becomes of it.
func (b *Broker) publishWill(c *client) {
	m := c.will.message
	if _, r := b.judge(c, m); r == nil && ownTopic(m.topic) {
		m.retained = false // here it says that a message is old
	}
	// The connection that protects what a device says is over. The error is told and counted there.
	_ = b.protect(c, func() error { b.publish(c, m, nil); return nil })
}

// delayWill reports whether the will waits, or is dropped because its session goes on already. It has to go out at once
// where its session has ended.
func (b *Broker) delayWill(c *client, delay time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing || c.mailbox == nil {
		return false
	}
	switch b.exchange.owner(c.mailbox) {
	case nil:
		return false
	case c:
	default:
		return true
	}
	id := c.mailbox.id
	if before := b.wills[id]; before != nil {
		before.timer.Stop()
	}
	b.wills[id] = &lateWill{client: c, timer: time.AfterFunc(delay, func() { b.dueWill(id, c) })}
	return true
}

// dueWill publishes the will that waits for a session, if it is still c's; any if c is nil.
func (b *Broker) dueWill(id string, c *client) {
	b.mu.Lock()
	w := b.wills[id]
	if w == nil || c != nil && w.client != c || b.closing {
		b.mu.Unlock()
		return
	}
	w.timer.Stop()
	delete(b.wills, id)
	b.serving.Add(1)
	b.mu.Unlock()
	defer b.serving.Done()
	if r := b.voidWill(w.client); r != nil {
		b.metrics.refused.count(r.reason)
		b.hub.refused(w.client.device, r)
		return
	}
	b.publishWill(w.client)
}

// voidWill says why a will that has waited does not go out any more: the device may not speak. One whose credentials have
// merely expired while it was away speaks, as it would have when its connection was lost.
func (b *Broker) voidWill(c *client) *refusal {
	r := b.checkFrozen(c.device)
	if err := b.hub.Registry.Current(c.device, c.session.Proved()); r == nil && !errors.Is(err, devices.ErrExpired) {
		r = refusalOf(err)
	}
	if r != nil {
		r.message = "its delayed last will, on " + c.will.topic + ": " + r.message
	}
	return r
}

// dropWill forgets the will that waits for a session.
func (b *Broker) dropWill(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.wills[id]; w != nil {
		w.timer.Stop()
		delete(b.wills, id)
	}
}

// dropWills is called when the hub stops. It needs mu.
func (b *Broker) dropWills() {
	for id, w := range b.wills {
		w.timer.Stop()
		delete(b.wills, id)
	}
}
