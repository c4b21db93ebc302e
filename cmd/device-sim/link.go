package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// Times of a connection.
const (
	dialTimeout  = 20 * time.Second // TCP, TLS and the upgrade; a hub that is stormed queues handshakes
	helloTimeout = 20 * time.Second
	writeTimeout = 15 * time.Second
	// silenceLimit ends a connection without any sign of life: the hub pings within 45 s, and 1.5 times that may pass.
	silenceLimit = 90 * time.Second
	mqttPing     = 30 * time.Second
)

// link is one connection of a device. Its methods may be called by several goroutines.
type link interface {
	form() frameForm
	// telemetry writes frames, in order. It may block as long as a write may.
	telemetry(frames []outgoing) error
	// answer writes the answer to a command.
	answer(payload []byte) error
	// state reports the device's state, a JSON object.
	state(reported []byte) error
	// inject writes telemetry that is outside the numbering; quiet asks for no acknowledgement.
	inject(telemetry []byte, quiet bool) error
	// run serves the connection until it ends, and says why.
	run(ctx context.Context) error
	// close says goodbye; restart does so because the device reboots; cut drops the TCP connection for that cause;
	// abandon leaves it open and dead.
	close()
	restart()
	cut(cause error)
	abandon()
}

// errors that end a connection by the device's own will.
var (
	errRebooted  = errors.New("the device reboots")
	errCut       = errors.New("fault: disconnect")
	errAbandoned = errors.New("fault: half-open")
	errFinished  = errors.New("the run is over")
)

// attachment is a link that is ready to bear telemetry, with the scratch of the goroutine that writes to it.
type attachment struct {
	link    link
	frames  []outgoing
	buf     []byte
	pumping bool // guarded by the device's lock
}

// dialer makes connections to the hub for all devices.
type dialer struct {
	hub       *url.URL // of wss
	broker    *url.URL // of mqtt
	roots     *tls.Config
	wss       *wssDialer
	many      bool // more devices than one source address has ports
	abandoned abandonedConns
}

// portsPerAddress is how many connections one loopback source address bears to one destination, with room to spare:
// Linux hands out 28,232 ports by default.
const portsPerAddress = 20_000

// dial connects a device to address, with TLS unless plain. The raw connection below TLS can play faults.
func (d *dialer) dial(ctx context.Context, address string, plain bool, dev *device) (net.Conn, *rawConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	if host, _, err := net.SplitHostPort(address); err == nil && isLoopback4(host) {
		switch {
		case dev.isTwin: // by MQTT nothing but its address tells it apart
			dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, 1)}
		case d.many:
			dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+dev.index/portsPerAddress))}
		}
	}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	raw := &rawConn{Conn: conn, slow: dev.slow, keep: &d.abandoned}
	if plain {
		return raw, raw, nil
	}
	config := d.roots
	if config.ServerName == "" || dev.certificate != nil {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	if dev.certificate != nil {
		config.Certificates = []tls.Certificate{*dev.certificate}
	}
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error says it all
		return nil, nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secure, raw, nil
}

func isLoopback4(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host).To4()
	return ip != nil && ip.IsLoopback()
}

// abandonedConns are connections that were left open and dead; they are closed when the run ends.
type abandonedConns struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (a *abandonedConns) add(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns = append(a.conns, conn)
}

func (a *abandonedConns) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, conn := range a.conns {
		_ = conn.Close()
	}
	a.conns = nil
}
