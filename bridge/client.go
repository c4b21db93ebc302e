package bridge

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// client is one connection of a device to the embedded broker.
type client struct {
	broker   *Broker
	origin   Origin
	conn     *conn
	link     *link
	acks     acks
	admitted func()

	// Owned by the goroutine that serves the connection.
	device      string
	proof       devices.Proof // by which CONNECT was accepted
	entered     bool          // counted among the hub's connections
	session     *devices.Session
	v5          bool // it speaks MQTT 5
	booted      bool // it has named its boot
	kept        devices.KeptProfile
	hears       *mapping            // to which it has subscribed; nil once that is told
	reported    string              // the state that maps reported last
	will        *will               // published when the connection ends without DISCONNECT
	goodbye     bool                // the device sent DISCONNECT
	mailbox     *mailbox            // of its session; nil before that began
	aliases     map[uint16]string   // topics, by the number that the device gave them
	resumes     bool                // its session was there before
	refusals    map[string]*refusal // of the SUBSCRIBE that is under way, by topic filter
	unconfirmed *unconfirmed        // nil but for a device that has just enrolled
	stored      []delivery          // what is retained for that SUBSCRIBE
	strangers   []bool              // of the UNSUBSCRIBE that is under way: its filters that are none of the session's
	endReason   string              // why the engine ended it, "" when it did not say
}

func newClient(b *Broker, from Origin, admitted func()) *client {
	c := &client{broker: b, origin: from, admitted: admitted}
	c.link = newLink(b.metrics, c)
	c.acks.client = c
	return c
}

// profile is what holds for the device at present.
func (c *client) profile() *devices.Profile { return c.kept.Of(c.broker.hub.Profiles, c.device) }

// ready tells the session that commands find the device listening, also when it subscribed anew.
func (c *client) ready() {
	if c.unconfirmed != nil {
		c.offer()
		return
	}
	if c.session != nil && c.link.subscribed() {
		c.session.Ready()
	}
}

// learn notes what a device says of itself beside its readings.
func (c *client) learn(t *wire.Telemetry) {
	if c.session == nil {
		return
	}
	c.session.LearnUnits(t.Units)
	if len(t.Boot) > 0 && !c.booted {
		c.booted = true
		c.session.NoteBoot(string(t.Boot))
	}
}

// shut ends the connection from any goroutine, without waiting for it.
func (c *client) shut(code int, reason string) {
	if !c.link.shut(code, reason) {
		c.conn.sayWhy(code, reason)
		_ = c.conn.Close() // not established yet
	}
}

// end is called when the connection has ended, with the engine's error.
func (c *client) end(err error) {
	if c.unconfirmed != nil {
		c.unconfirmed.timer.Stop()
	}
	c.acks.end()
	c.link.end()
	if c.entered {
		defer c.broker.hub.Admission.Exit()
	}
	if c.mailbox != nil {
		c.broker.exchange.detach(c.mailbox, c.link)
	}
	if c.session == nil {
		return
	}
	c.noteLoss(err)
	c.sendWill()
	c.session.Detach(c.cause(err))
}

// noteLoss tells the session that the connection was lost without a word, and after which silence.
func (c *client) noteLoss(err error) {
	if code, _ := c.link.shutReason(); code != 0 || c.goodbye || c.endReason != "" {
		return
	}
	silent := time.Since(c.session.Seen())
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		silent = silent * 2 / 3 // the device would have pinged after its keepalive; the hub waits for one and a half
	}
	c.session.Lost(silent)
}

// cause says in words why the connection ended.
func (c *client) cause(err error) string {
	var timeout net.Error
	switch code, reason := c.link.shutReason(); {
	case code != 0:
		return reason
	case c.endReason != "":
		return c.endReason
	case c.goodbye:
		return "disconnected by the device"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return "no packet within the keepalive"
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "connection lost"
	}
	return err.Error()
}

// tooLarge counts a packet that was not even read.
func (c *client) tooLarge() {
	c.broker.hub.Throttle.Passed(devices.LimitMaxFrame, c.profile(), 1)
	c.broker.metrics.refused.count(wire.ReasonTooLarge)
	c.broker.hub.refused(c.device, &refusal{reason: wire.ReasonTooLarge, message: "a packet larger than MQTT's limit here, which ended the connection"})
}
