package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A slow reader takes so much at a time.
const (
	slowBytes = 256
	slowPause = 50 * time.Millisecond
)

// rawConn is the TCP connection below TLS. It joins the records of several frames into one write, and plays faults.
type rawConn struct {
	net.Conn
	slow bool
	keep *abandonedConns

	dead atomic.Bool // abandoned

	mu     sync.Mutex
	corked bool
	held   []byte
}

// maxHeld bounds what waits for uncork.
const maxHeld = 64 << 10

// Write writes, or keeps for later while corked.
func (c *rawConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead.Load() {
		return 0, errAbandoned
	}
	if !c.corked {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	if len(c.held) < maxHeld {
		return len(p), nil
	}
	return len(p), c.release()
}

func (c *rawConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

func (c *rawConn) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	return c.release()
}

func (c *rawConn) release() error {
	if len(c.held) == 0 || c.dead.Load() {
		return nil
	}
	_, err := c.Conn.Write(c.held)
	c.held = c.held[:0]
	return err
}

// Read reads, slowly if that is the fault to play.
func (c *rawConn) Read(p []byte) (int, error) {
	if c.slow && len(p) > slowBytes {
		p = p[:slowBytes]
	}
	n, err := c.Conn.Read(p)
	if c.dead.Load() {
		return 0, errAbandoned
	}
	if c.slow && err == nil {
		time.Sleep(slowPause) // the fault itself
	}
	return n, err
}

// Close closes, unless the connection is to stay open and dead: then it is closed when the run ends.
func (c *rawConn) Close() error {
	if c.dead.Load() {
		return nil
	}
	return c.Conn.Close()
}

// abandon lets the connection play dead: nothing is read or written any more, and nobody closes it.
func (c *rawConn) abandon() {
	if c.dead.Swap(true) {
		return
	}
	c.keep.add(c.Conn)
	_ = c.SetDeadline(time.Now()) // wakes a reader and a writer
}

// cut drops the connection as a lost network does: no goodbye of TLS or WebSocket.
func (c *rawConn) cut() { _ = c.Close() }
