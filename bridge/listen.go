package bridge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"telemetryhub/devices"
)

// listen binds what is configured.
func (b *Broker) listen(tlsConfig *tls.Config) error {
	lc := devices.ListenConfig(b.cfg.Unacked)
	if wanted(b.cfg.Listen) {
		if tlsConfig == nil {
			return errors.New("mqtt broker: listen: a TLS configuration is needed")
		}
		l, err := lc.Listen(b.commits, "tcp", b.cfg.Listen)
		if err != nil {
			return fmt.Errorf("mqtt broker: listen: %w", err)
		}
		b.listeners = append(b.listeners, tls.NewListener(b.bounded(l), tlsConfig))
	}
	if wanted(b.cfg.Plain) {
		l, err := lc.Listen(b.commits, "tcp", b.cfg.Plain)
		if err != nil {
			return fmt.Errorf("mqtt broker: plain_listen: %w", err)
		}
		b.listeners = append(b.listeners, b.bounded(l))
		// A name can resolve to anything: what was bound is what counts.
		if a, ok := l.Addr().(*net.TCPAddr); !b.cfg.PlainAnywhere && (!ok || !a.IP.IsLoopback()) {
			return fmt.Errorf("mqtt broker: plain_listen: %s is not a loopback address", l.Addr())
		}
	}
	return nil
}

func (b *Broker) bounded(l net.Listener) net.Listener {
	if b.hub.Listener == nil {
		return l
	}
	return b.hub.Listener(l)
}

func (b *Broker) closeListeners() error {
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Addr returns the address of the listener for MQTT over TLS, nil without one.
func (b *Broker) Addr() net.Addr {
	if !wanted(b.cfg.Listen) {
		return nil
	}
	return b.listeners[0].Addr()
}

// PlainAddr returns the address of the plain listener, nil without one.
func (b *Broker) PlainAddr() net.Addr {
	if !wanted(b.cfg.Plain) {
		return nil
	}
	return b.listeners[len(b.listeners)-1].Addr()
}

func (b *Broker) accept() {
	for _, l := range b.listeners {
		b.accepting.Go(func() { b.acceptFrom(l) })
	}
}

// acceptFrom takes each socket that the listener gives. Silent ones leave with the handshake's deadline; were the others
// not taken meanwhile, whoever opens some hundred would hold up all.
func (b *Broker) acceptFrom(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			b.log.Warn("mqtt socket not accepted", "err", err)
			b.pause(100 * time.Millisecond) // such as no more file descriptors: they come back
			continue
		}
		go func() {
			// The cause is in the presence and the metrics; sockets that never became a device are counted there too.
			err := b.ServeConn(nc, Origin{Transport: TransportMQTT, Remote: nc.RemoteAddr().String()})
			b.log.Debug("mqtt connection ended", "remote", nc.RemoteAddr().String(), "err", err)
		}()
	}
}

func (b *Broker) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.commits.Done():
	}
}

// provedOf is how the connection below is told that its device's CONNECT was accepted.
func provedOf(nc net.Conn) func() {
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	if told, ok := nc.(interface{ Proved() }); ok {
		return told.Proved
	}
	return func() {}
}
