package bridge

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"telemetryhub/devices"
)

// conn is a device's connection as the engine sees it. The engine's deadlines, which it sets for reading and writing at
// once and from the keepalive, hold for reading only; each write has its own, so that a peer that does not read cannot
// hold up whoever writes to it for as long as it keeps pinging.
type conn struct {
	net.Conn
	client  *client
	hurried atomic.Bool // the connection is to end: nobody waits long for it any more
	sieve   sieve       // of the goroutine that reads
}

// Read keeps from the engine what is not as the protocol has it, and what is larger than the device may send. Until
// CONNECT was accepted the latter ends the connection: whose it is is not known.
func (c *conn) Read(p []byte) (int, error) {
	b := c.client.broker
	most, mark := b.cfg.MaxFrame, []byte(nil)
	if c.client.device != "" {
		most, mark = int(c.client.profile().Limits.MaxFrame), b.mark
	}
	n, err := c.sieve.read(c.Conn, p, most+packetOverhead, mark)
	if f, ok := errors.AsType[*fault](err); ok {
		c.refuse(f)
	}
	return n, err
}

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) Write(p []byte) (int, error) {
	limit := writeTimeout
	if c.hurried.Load() {
		limit = hurriedWrite
	}
	if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err == nil && !c.hurried.Load() {
		// TLS writes on its own account too (key updates), long after: a deadline left over would end the connection.
		err = c.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// hurry bounds the write that is under way and those to come.
func (c *conn) hurry() {
	c.hurried.Store(true)
	_ = c.SetWriteDeadline(time.Now().Add(hurriedWrite)) // fails on a closed connection, where it is not needed
}

// sayWhy tells a connection that can pass it on (a WebSocket) why it will be closed, as one of its close codes.
func (c *conn) sayWhy(code int, reason string) {
	if w, ok := c.Conn.(interface{ SayWhy(code int, reason string) }); ok {
		w.SayWhy(code, reason)
	}
}

// refuse tells the other end what is wrong with what it has sent, as far as MQTT has a word for it, before the connection
// is closed [MQTT-4.13.1-1]. It is called by the goroutine that reads.
func (c *conn) refuse(f *fault) {
	cl := c.client
	cl.broker.metrics.malformed.WithLabelValues(fmt.Sprintf("0x%02X", byte(f.code))).Inc()
	cl.endReason = f.text
	if cl.device == "" {
		_, _ = c.Write(c.sieve.refusedConnect(f)) // it is closed next, whatever becomes of that
		return
	}
	if f == errPacketTooLarge {
		cl.tooLarge()
	} else {
		cl.broker.hub.Sessions.Note(cl.device, devices.Event{Kind: devices.EventUnusable, Reason: ReasonMalformed, Message: f.text})
	}
	cl.link.refuse(f)
}
