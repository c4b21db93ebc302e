package devices_test

import (
	"context"
	"net"
	"sync"
)

// dialTo returns a dial function that gives conn.
func dialTo(conn net.Conn) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return conn, nil }
}

// gatedConn reads the first byte and no more until it is opened.
type gatedConn struct {
	net.Conn

	once  sync.Once
	asked chan struct{} // closed when the server has begun to answer
	open  chan struct{}
}

func (c *gatedConn) Read(p []byte) (int, error) {
	first := false
	c.once.Do(func() { first = true })
	if first {
		n, err := c.Conn.Read(p[:1])
		close(c.asked)
		return n, err
	}
	<-c.open
	return c.Conn.Read(p)
}
