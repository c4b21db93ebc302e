package bridge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"telemetryhub/bridge/maps"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Broker is the embedded MQTT broker. Devices publish to the hub and the hub to devices; what it routes between them is
// what grants allow.
type Broker struct {
	cfg       BrokerConfig
	hub       Hub
	log       *slog.Logger
	engine    engine
	exchange  *exchange
	maps      *maps.Set // nil: there are none
	mapped    mappings
	metrics   *brokerMetrics
	scratches scratches
	mark      []byte // how a payload begins that a sieve has cut; no device knows it
	listeners []net.Listener

	// commits ends when a stop has no more time to wait for the journal.
	commits context.Context
	abandon context.CancelFunc

	accepting sync.WaitGroup // accept loops
	serving   sync.WaitGroup // connections

	mu      sync.Mutex
	closing bool
	clients map[*client]bool
	wills   map[string]*lateWill // that wait for their time, by session
}

// OpenBroker binds the listeners and serves them until Close. tlsConfig is needed where cfg.Listen is wanted.
func OpenBroker(cfg BrokerConfig, tlsConfig *tls.Config, hub Hub) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mqtt broker: %w", err)
	}
	b := &Broker{cfg: cfg, hub: hub, log: hub.Log, clients: map[*client]bool{}, wills: map[string]*lateWill{}, mark: []byte(rand.Text())}
	var err error
	b.mapped.byDevice = map[string]*mapping{}
	if b.maps, err = cfg.compileMaps(); err != nil {
		return nil, fmt.Errorf("mqtt broker: %w", err)
	}
	b.commits, b.abandon = context.WithCancel(context.Background())
	if err := b.listen(tlsConfig); err != nil {
		return nil, errors.Join(err, b.closeListeners())
	}
	if err := b.assemble(); err != nil {
		return nil, errors.Join(fmt.Errorf("mqtt broker: %w", err), b.closeListeners())
	}
	b.accept()
	return b, nil
}

// assemble makes what the listeners' connections need.
func (b *Broker) assemble() error {
	kept, err := openRetained(b.commits, b.hub.Retained, b.cfg, b.log)
	if err != nil {
		return err
	}
	b.exchange = &exchange{cfg: b.cfg, grants: b.cfg.Grants, hub: b.hub, retained: kept, mailboxes: map[string]*mailbox{}}
	if b.metrics, err = newBrokerMetrics(b.hub.Metrics, b); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	b.exchange.metrics = b.metrics
	if b.engine, err = newMochi(b.cfg, b, b.log); err != nil {
		b.metrics.unregister()
		return err
	}
	return nil
}

// Close stops listening, tells the devices that the hub stops and waits until all connections have ended. When ctx ends
// first, messages that wait for the journal are given up: they are not acknowledged, so devices send them again.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return nil
	}
	b.closing = true
	b.dropWills()
	clients := make([]*client, 0, len(b.clients))
	for c := range b.clients {
		clients = append(clients, c)
	}
	b.mu.Unlock()

	err := b.closeListeners()
	b.accepting.Wait()
	for _, c := range clients {
		c.shut(wire.CloseRestart, b.hub.Admission.Leave().CloseReason())
	}
	ended := make(chan struct{})
	go func() {
		b.serving.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("mqtt broker: connections did not end in time: %w", ctx.Err()))
		b.abandon()
		<-ended
	}
	b.abandon()
	b.engine.close()
	b.metrics.unregister()
	return err
}

// Origin says where a connection comes from.
type Origin struct {
	Transport string // TransportMQTT or TransportMQTTWSS
	Remote    string // address of the device
	// Device is set where the way to this connection has proved who it is (a certificate, a token in the upgrade's
	// headers). CONNECT needs no credentials then; those that it has must be the same device's.
	Device string
	Proof  devices.Proof // by which it did
	// Path is the device that the connection was opened for, "" where nothing said so.
	Path string
}

// errClosing is returned for connections that come while the broker stops.
var errClosing = errors.New("the hub stops")

// ServeConn speaks MQTT on nc, whatever carries it, and returns when the connection has ended; nc is closed then. The
// device's CONNECT is awaited for no longer than the handshake timeout. If nc has a method Proved, it is told when CONNECT
// was accepted or the connection has ended; if it has a method SayWhy, which close code of WebSocket says why the hub ends it.
func (b *Broker) ServeConn(nc net.Conn, from Origin) error {
	c := newClient(b, from, sync.OnceFunc(provedOf(nc)))
	defer c.admitted()
	c.conn = &conn{Conn: nc, client: c}
	if !b.enter(c) {
		c.conn.sayWhy(wire.CloseRestart, b.hub.Admission.Leave().CloseReason())
		return errors.Join(errClosing, nc.Close())
	}
	defer b.leave(c)
	// The write deadline too: until CONNECT, nothing is written but the TLS handshake, by the reads.
	if err := nc.SetDeadline(time.Now().Add(b.cfg.Handshake)); err != nil {
		return errors.Join(fmt.Errorf("mqtt: set the handshake's deadline: %w", err), nc.Close())
	}
	err := b.protect(c, func() error { return b.engine.serve(c.conn) })
	c.end(err)
	return err
}

// protect keeps one malformed packet or message of a device from ending the hub: mochi's decoder indexes some packets
// beyond their end.
func (b *Broker) protect(c *client, do func() error) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			b.log.Error("mqtt connection failed", "device", c.device, "remote", c.origin.Remote, "fault", fault, "stack", string(debug.Stack()))
			b.metrics.faults.Inc()
			_ = c.conn.Close()
			err = fmt.Errorf("mqtt: the connection failed: %v", fault)
		}
	}()
	return do()
}

func (b *Broker) enter(c *client) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return false
	}
	b.clients[c] = true
	b.serving.Add(1)
	return true
}

func (b *Broker) leave(c *client) {
	b.mu.Lock()
	delete(b.clients, c)
	b.mu.Unlock()
	b.serving.Done()
}

// BrokerStats is what the embedded broker has done since it was opened.
type BrokerStats struct {
	Connections    int // also those before their CONNECT
	Received       uint64
	Refused        uint64
	Unacknowledged uint64 // not made durable, so not acknowledged
	Commands       uint64 // written to devices
}

// Stats returns the broker's numbers.
func (b *Broker) Stats() BrokerStats {
	b.mu.Lock()
	connections := len(b.clients)
	b.mu.Unlock()
	return BrokerStats{
		Connections: connections, Received: b.metrics.received.Load(), Refused: b.metrics.refused.all.Load(),
		Unacknowledged: b.metrics.unacked.Load(), Commands: b.metrics.commands.Load(),
	}
}
