package devices_test

import (
	"context"
	"net"
	"net/http"
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

// serveTCP serves the hub on loopback as well, until the test's end.
func (h *hub) serveTCP() (address string) {
	h.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/connect", h.connector)
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	h.t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return listener.Addr().String()
}

// dialTCP connects a device that reads and answers pings, over TCP.
func (h *hub) dialTCP(address, id string) *device {
	h.t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	ws, _, err := upgrade(conn, "/connect", bearer(h.tokens[id]))
	if err != nil {
		h.t.Fatal(err)
	}
	d := &device{t: h.t, id: id, ws: ws, frames: make(chan string, 10_000), ended: make(chan struct{})}
	h.t.Cleanup(func() {
		_ = ws.Close()
		<-d.ended
	})
	go d.read()
	return d
}
