package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// network stands between devices and the hub, and can be cut. While it is, it says nothing to either side: no byte goes
// through, nothing is closed, and who connects hears nothing. When it is whole again it knows none of the connections of
// before, as a router that was restarted: devices find theirs reset, the hub keeps its ends half-open until it notices.
type network struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu     sync.Mutex
	now    *era
	conns  map[net.Conn]bool // all, for close
	closed bool
}

// era is the time from one restoration to the next.
type era struct {
	cut  chan struct{} // closed when the network is cut
	over chan struct{} // closed when it is whole again

	devices map[net.Conn]bool // the devices' ends; guarded by network.mu
}

func newEra() *era {
	return &era{cut: make(chan struct{}), over: make(chan struct{}), devices: map[net.Conn]bool{}}
}

func newNetwork(target string) (*network, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the network: %w", err)
	}
	n := &network{listener: listener, target: target, now: newEra(), conns: map[net.Conn]bool{}}
	n.work.Go(n.accept)
	return n, nil
}

func (n *network) url() string { return "https://" + n.listener.Addr().String() }

// close ends all connections.
func (n *network) close() {
	n.mu.Lock()
	n.closed = true
	for c := range n.conns {
		_ = c.Close()
	}
	n.mu.Unlock()
	_ = n.listener.Close()
	close(n.now.over)
	n.work.Wait()
}

// sever cuts the network.
func (n *network) sever() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.now.cut)
}

// restore makes it whole, and returns how many connections of devices it has forgotten.
func (n *network) restore() int {
	n.mu.Lock()
	before := n.now
	n.now = newEra()
	lost := len(before.devices)
	for c := range before.devices {
		reset(c)
	}
	n.mu.Unlock()
	close(before.over)
	return lost
}

// reset closes a connection as a router does that knows nothing of it.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (n *network) accept() {
	for {
		device, err := n.listener.Accept()
		if err != nil {
			return // closed
		}
		if e := n.enter(device); e != nil {
			n.work.Go(func() { n.carry(device, e) })
		}
	}
}

// enter notes a device's connection; nil: the network is closed.
func (n *network) enter(device net.Conn) *era {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		_ = device.Close()
		return nil
	}
	n.now.devices[device], n.conns[device] = true, true
	return n.now
}

func (n *network) leave(e *era, c net.Conn) {
	_ = c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(e.devices, c)
	delete(n.conns, c)
}

// carry bears one device's connection to the hub until it ends on both sides.
func (n *network) carry(device net.Conn, e *era) {
	defer n.leave(e, device)
	select {
	case <-e.cut:
		<-e.over
		return
	default:
	}
	hub, err := new(net.Dialer).DialContext(context.Background(), "tcp", n.target)
	if err != nil {
		return // the device finds out
	}
	n.mu.Lock()
	n.conns[hub] = true
	n.mu.Unlock()
	defer n.leave(e, hub)
	n.work.Go(func() {
		if e.pump(hub, device) {
			_ = hub.Close() // the device said goodbye
		}
	})
	if e.pump(device, hub) {
		_ = device.Close() // the hub did
		return
	}
	<-e.over
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{hub}) // half-open until the hub closes it
}

// pump copies from one end to the other until the first ends, or the network is cut, and says which. It does not splice:
// each splice holds a pipe, and the files do not suffice for thousands.
func (e *era) pump(to, from net.Conn) (whole bool) {
	buf := make([]byte, 2<<10)
	for {
		size, err := from.Read(buf)
		select {
		case <-e.cut:
			return false
		default:
		}
		if size > 0 {
			if _, err := to.Write(buf[:size]); err != nil {
				return true
			}
		}
		if err != nil {
			return true
		}
	}
}
