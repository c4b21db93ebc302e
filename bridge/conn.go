package bridge

import (
	"net"
	"sync/atomic"
	"time"
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

// Read keeps from the engine what is larger than the device may send. Until CONNECT was accepted such a packet ends the
// connection: whose it is and in which version it is written is not known.
func (c *conn) Read(p []byte) (int, error) {
	b, most := c.client.broker, c.client.broker.cfg.MaxFrame
	if c.client.device == "" {
		return c.sieve.read(c.Conn, p, most+packetOverhead, false, nil)
	}
	most = int(c.client.profile().Limits.MaxFrame)
	return c.sieve.read(c.Conn, p, most+packetOverhead, c.client.v5, b.mark)
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
