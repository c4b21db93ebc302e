package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"
)

// handshakes bounds how many TLS handshakes are computed at the same time. When thousands of devices come back at once,
// handshakes that share the processors evenly all end late, and all of them time out; in line, the first are through
// while the last still wait.
//
// A turn begins when the client's hello has come and ends when the hub waits for the client's answer to its own: it is
// held for computing only, so that a client that says nothing, or nothing more, keeps nobody waiting.
type handshakes struct {
	turns chan struct{} // has an element for each handshake that has a turn; those that wait to send are served in order
	wait  time.Duration // from accept to the turn
}

// newHandshakes bounds them to most at once; 0: twice the number of processors.
func newHandshakes(most int, wait time.Duration) *handshakes {
	return &handshakes{turns: make(chan struct{}, cmp.Or(most, 2*runtime.GOMAXPROCS(0))), wait: wait}
}

// config is c for connections of the listener that listener returns.
func (h *handshakes) config(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.GetConfigForClient = h.admit
	return c
}

func (h *handshakes) listener(l net.Listener) net.Listener { return handshakeListener{l, h} }

// admit is called within each handshake, after the client's hello was read and before the costly part.
func (h *handshakes) admit(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	conn, ok := hello.Conn.(*handshakeConn)
	if !ok {
		return nil, errors.New("a handshake on a connection of another listener")
	}
	timer := time.NewTimer(time.Until(conn.accepted.Add(h.wait)))
	defer timer.Stop()
	select {
	case h.turns <- struct{}{}:
		return nil, conn.begin()
	case <-timer.C:
		return nil, errors.New("too many handshakes: there was no turn in time")
	case <-hello.Context().Done():
		return nil, hello.Context().Err()
	}
}

// handshakeListener accepts connections that give their turns back.
type handshakeListener struct {
	net.Listener
	handshakes *handshakes
}

// Accept implements net.Listener.
func (l handshakeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &handshakeConn{Conn: conn, turns: l.handshakes.turns, accepted: time.Now()}, nil
}

// handshakeConn is the connection below TLS.
type handshakeConn struct {
	net.Conn
	turns    chan struct{}
	accepted time.Time

	mu     sync.Mutex
	turn   bool // it has one
	closed bool
}

// begin keeps the turn that was got, unless the connection is gone.
func (c *handshakeConn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		<-c.turns
		return net.ErrClosed
	}
	c.turn = true
	return nil
}

func (c *handshakeConn) end(closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn {
		<-c.turns
	}
	c.turn, c.closed = false, c.closed || closed
}

// Read implements net.Conn. Whoever reads has computed what was to be computed.
func (c *handshakeConn) Read(b []byte) (int, error) {
	c.end(false)
	return c.Conn.Read(b)
}

// Close implements net.Conn.
func (c *handshakeConn) Close() error {
	c.end(true)
	return c.Conn.Close()
}
