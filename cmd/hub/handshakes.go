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

// handshakes bounds how many TLS handshakes are computed at the same time, on all ports together. When thousands of
// devices come back at once, handshakes that share the processors evenly all end late, and all of them time out; in line,
// the first are through while the last still wait.
//
// A turn begins when the client's hello has come and ends when the hub waits for the client's answer to its own: it is
// held for computing only, so that a client that says nothing, or nothing more, keeps nobody waiting.
//
// The line is short: while it is full no socket is accepted, and the others wait in the kernel, first come first served,
// where they cost nothing. Thousands that were accepted at once would all be ready to run at once, and a live device's
// reading would have its turn after all of them: p99 of live acks was 600 ms so. Clients that say nothing are not in the
// line, so they hold up nobody.
//
// When a turn would come too late even so, the newcomer is let go at once: it can come again sooner, and those in line
// are not served when nobody waits for them any more.
type handshakes struct {
	turns chan struct{} // has an element for each handshake that has a turn; those that wait to send are served in order
	wait  time.Duration // the longest for a turn
	most  int           // how long the line is before no more sockets are accepted

	mu       sync.Mutex
	shorter  sync.Cond     // there has become room
	starting int           // accepted, and their goroutine has not yet run
	length   int           // of the line
	lastWait time.Duration // of the handshake that left the line last
	begun    uint64
	shed     uint64        // had no turn in time, or would have had none
	waits    time.Duration // of all that began
}

// newHandshakes bounds them to most at once; 0: one a processor, as a turn is held for computing only.
func newHandshakes(most int, wait time.Duration) *handshakes {
	h := &handshakes{turns: make(chan struct{}, cmp.Or(most, runtime.GOMAXPROCS(0))), wait: wait}
	h.most = linePerTurn * cap(h.turns)
	h.shorter.L = &h.mu
	return h
}

// linePerTurn is how many handshakes may wait for each that has a turn: some ms of work, so that no turn stays free.
const linePerTurn = 8

// listener gives the connections of l, which is of a sockets, when there is room in the line.
func (h *handshakes) listener(l net.Listener) net.Listener { return handshakeListener{l, h} }

type handshakeListener struct {
	net.Listener
	handshakes *handshakes
}

// Accept implements net.Listener.
func (l handshakeListener) Accept() (net.Conn, error) {
	h := l.handshakes
	h.room()
	conn, err := l.Listener.Accept()
	if c, ok := conn.(*socket); ok && err == nil {
		h.mu.Lock()
		h.starting++
		h.mu.Unlock()
		c.tellStart(h.started)
	}
	return conn, err
}

// started is called when the goroutine of an accepted socket runs.
func (h *handshakes) started() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starting--
	h.shorter.Broadcast()
}

// room waits until the line is short, which does not take long: each that waits ends by its deadline.
func (h *handshakes) room() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.starting+h.length >= h.most {
		h.shorter.Wait()
	}
}

// config is c for connections of a sockets' listener.
func (h *handshakes) config(c *tls.Config) *tls.Config {
	next := c.GetConfigForClient
	c = c.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if own, err := h.admit(hello); own != nil || err != nil || next == nil {
			return own, err
		}
		return next(hello)
	}
	return c
}

// Errors of a handshake that is given up. Its client gets TLS's alert internal_error, as there is none for this.
var (
	errNoTurn   = errors.New("too many handshakes: there was no turn in time")
	errLongLine = errors.New("too many handshakes: there would be no turn in time")
)

// admit is called within each handshake, after the client's hello was read and before the costly part.
func (h *handshakes) admit(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	conn, ok := hello.Conn.(*socket)
	if !ok {
		return nil, errors.New("a handshake on a connection of another listener")
	}
	if !h.enter() {
		return nil, errLongLine
	}
	conn.waits()
	since := time.Now()
	timer := time.NewTimer(h.wait)
	defer timer.Stop()
	var err error
	select {
	case h.turns <- struct{}{}:
		if !conn.begin(h.turns) {
			err = net.ErrClosed
		}
	case <-timer.C:
		err = errNoTurn
	case <-hello.Context().Done():
		err = hello.Context().Err()
	}
	h.leave(time.Since(since), err)
	return nil, err
}

// enter lets a handshake into the line.
func (h *handshakes) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.length > 0 && h.lastWait > h.wait*3/4 {
		h.shed++
		return false
	}
	h.length++
	return true
}

// leave notes that a handshake left the line, with its turn unless there is an error.
func (h *handshakes) leave(waited time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.length--
	h.shorter.Broadcast()
	h.lastWait = waited
	switch {
	case err == nil:
		h.begun++
		h.waits += waited
	case errors.Is(err, errNoTurn):
		h.shed++
	}
}

// handshakeStats is what handshakes have come to.
type handshakeStats struct {
	Line        int
	Begun, Shed uint64
	Waits       time.Duration
}

func (h *handshakes) stats() handshakeStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return handshakeStats{Line: h.length, Begun: h.begun, Shed: h.shed, Waits: h.waits}
}
