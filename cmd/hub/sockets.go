package main

import (
	linked "container/list" // a test of this package has a list
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// sockets counts the TCP connections of all ports, and bounds them. A socket owes something while the hub waits for its
// client to say more before anything is served: the TLS handshake, a request's head, the next request, MQTT's CONNECT.
// Each of these has a deadline of its own; and when no more sockets may be open, whoever has owed longest makes room for
// who comes. So sockets that say nothing take nobody's place, however many they are, and no address is ever locked out.
type sockets struct {
	most int

	mu      sync.Mutex
	open    int
	owing   linked.List // of *socket, by how long
	crowded uint64      // sockets that were closed to make room
	refused uint64      // closed at once, as all others were busy
}

func newSockets(most int) *sockets { return &sockets{most: most} }

// listener counts the connections of l.
func (s *sockets) listener(l net.Listener) net.Listener { return socketListener{l, s} }

type socketListener struct {
	net.Listener
	sockets *sockets
}

// Accept implements net.Listener.
func (l socketListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.sockets.add(conn); c != nil {
			return c, nil
		}
		_ = conn.Close()
	}
}

// socket is a TCP connection, below TLS where there is TLS.
type socket struct {
	net.Conn
	sockets *sockets
	busy    atomic.Bool // starts or turns is set, and a read has to look; changes with sockets.mu held

	// Guarded by sockets.mu.
	owes   *linked.Element // nil: nothing
	starts func()          // called at the first read or at the end; nil: it was, or nobody asked
	turns  chan struct{}   // where the turn of its handshake is given back; nil: it has none
	closed bool
}

// add takes a connection, or returns nil when all places are taken by sockets that owe nothing.
func (s *sockets) add(conn net.Conn) *socket {
	c := &socket{Conn: conn, sockets: s}
	s.mu.Lock()
	var leaves *socket
	if s.open >= s.most {
		oldest := s.owing.Front()
		if oldest == nil {
			s.refused++
			s.mu.Unlock()
			return nil
		}
		leaves = oldest.Value.(*socket)
		s.crowded++
	}
	s.open++
	c.owes = s.owing.PushBack(c)
	s.mu.Unlock()
	if leaves != nil {
		_ = leaves.Close()
	}
	return c
}

// pay notes that c owes nothing. It needs mu.
func (s *sockets) pay(c *socket) {
	if c.owes != nil {
		s.owing.Remove(c.owes)
		c.owes = nil
	}
}

// owe begins a debt of c. It needs mu.
func (s *sockets) owe(c *socket) {
	if c.owes == nil && !c.closed {
		c.owes = s.owing.PushBack(c)
	}
}

// waits notes that the handshake waits for its turn: it is the hub's move.
func (c *socket) waits() {
	c.sockets.mu.Lock()
	defer c.sockets.mu.Unlock()
	c.sockets.pay(c)
}

// begin keeps the turn that was taken from turns, or gives it back if the socket has been closed.
func (c *socket) begin(turns chan struct{}) bool {
	c.sockets.mu.Lock()
	defer c.sockets.mu.Unlock()
	if c.closed {
		<-turns
		return false
	}
	c.turns = turns
	c.busy.Store(true)
	return true
}

// tellStart lets starts be called once the goroutine that serves the connection runs, or it has ended.
func (c *socket) tellStart(starts func()) {
	c.sockets.mu.Lock()
	defer c.sockets.mu.Unlock()
	if c.closed {
		starts()
		return
	}
	c.starts = starts
	c.busy.Store(true)
}

// end notes that it is the client's move: a turn is given back. It needs mu.
func (s *sockets) end(c *socket) {
	if !c.busy.Swap(false) {
		return
	}
	if c.starts != nil {
		c.starts()
		c.starts = nil
	}
	if c.turns != nil {
		<-c.turns
		c.turns = nil
		s.owe(c)
	}
}

// Read implements net.Conn. Whoever reads has computed what was to be computed.
func (c *socket) Read(b []byte) (int, error) {
	if c.busy.Load() { // else without the lock: this is also the way of each reading
		c.sockets.mu.Lock()
		c.sockets.end(c)
		c.sockets.mu.Unlock()
	}
	return c.Conn.Read(b)
}

// Close implements net.Conn.
func (c *socket) Close() error {
	s := c.sockets
	s.mu.Lock()
	if !c.closed {
		c.closed = true
		s.open--
		s.pay(c)
		s.end(c)
	}
	s.mu.Unlock()
	return c.Conn.Close()
}

// NetConn is the connection below, as it is for crypto/tls.
func (c *socket) NetConn() net.Conn { return c.Conn }

// Proved is called when a device has proved who it is: from then on its own rules say how long it may be silent.
func (c *socket) Proved() {
	c.sockets.mu.Lock()
	defer c.sockets.mu.Unlock()
	c.sockets.pay(c)
}

// Owes is called when a request was served that leaves it to what follows to prove who the device is: MQTT over WebSocket.
func (c *socket) Owes() {
	c.sockets.mu.Lock()
	defer c.sockets.mu.Unlock()
	c.sockets.owe(c)
}

// follow is an http.Server's ConnState. A request is active once its head has come whole.
func (s *sockets) follow(conn net.Conn, state http.ConnState) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, ok := conn.(*socket)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateActive, http.StateHijacked:
		s.pay(c)
	case http.StateIdle:
		s.owe(c)
	case http.StateNew, http.StateClosed: // as add and Close have noted
	}
}

// socketStats is what sockets have come to.
type socketStats struct {
	Open, Most, Owing int
	Crowded, Refused  uint64
}

func (s *sockets) stats() socketStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return socketStats{Open: s.open, Most: s.most, Owing: s.owing.Len(), Crowded: s.crowded, Refused: s.refused}
}
