package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// External is a client of an external broker. It connects, and connects again, until Close; it does not fail when the
// broker is away.
type External struct {
	cfg     ExternalConfig
	hub     Hub
	log     *slog.Logger
	tls     *tls.Config
	metrics *externalMetrics

	stopping context.Context // ends with Close
	stop     context.CancelFunc
	harder   context.Context // ends when Close has no more time
	abandon  context.CancelFunc
	done     chan struct{}

	mu     sync.Mutex
	line   *line // nil while there is no connection
	failed string
}

// OpenExternal starts the client of one external broker.
func OpenExternal(cfg ExternalConfig, hub Hub) (*External, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mqtt bridge %q: %w", cfg.Name, err)
	}
	trust, err := cfg.tlsConfig()
	if err != nil {
		return nil, fmt.Errorf("mqtt bridge %q: %w", cfg.Name, err)
	}
	e := &External{cfg: cfg, hub: hub, log: hub.Log.With("bridge", cfg.Name), tls: trust, done: make(chan struct{})}
	e.metrics, err = newExternalMetrics(hub.Metrics, cfg.Name,
		func() float64 { return number(e.Stats().Connected) }, func() float64 { return float64(e.Stats().InFlight) })
	if err != nil {
		return nil, fmt.Errorf("mqtt bridge %q: metrics: %w", cfg.Name, err)
	}
	e.stopping, e.stop = context.WithCancel(context.Background())
	e.harder, e.abandon = context.WithCancel(context.Background())
	go e.run()
	return e, nil
}

// Name returns the bridge's name.
func (e *External) Name() string { return e.cfg.Name }

// Close takes no further messages, acknowledges those that become durable before ctx ends and disconnects.
func (e *External) Close(ctx context.Context) error {
	e.stop()
	defer e.abandon()
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		e.abandon()
		<-e.done
		return fmt.Errorf("mqtt bridge %q: did not end in time: %w", e.cfg.Name, ctx.Err())
	}
}

// ExternalStats is the state of a bridge and what it has done since it was opened.
type ExternalStats struct {
	Connected bool
	Failure   string // why it is not connected
	InFlight  int    // messages received and not yet acknowledged
	Devices   int    // with a session by this bridge
	Received  uint64
	Refused   uint64
	Acked     uint64 // refused ones too
	Commands  uint64
	Connects  uint64
}

// Stats returns the bridge's numbers.
func (e *External) Stats() ExternalStats {
	e.mu.Lock()
	l, failure := e.line, e.failed
	e.mu.Unlock()
	s := ExternalStats{
		Failure: failure, Received: e.metrics.received.Load(), Refused: e.metrics.refused.all.Load(), Acked: e.metrics.acked.Load(),
		Commands: e.metrics.commands.Load(), Connects: e.metrics.connects.Load(),
	}
	if l != nil {
		s.Connected, s.InFlight, s.Devices = true, len(l.window), l.devices.count()
	}
	return s
}

// run keeps a connection until Close. Each attempt has a client of its own: paho's own reconnection has no jitter, and a
// client that is used again after Disconnect may panic.
func (e *External) run() {
	defer close(e.done)
	defer e.metrics.unregister()
	for attempt := 0; e.stopping.Err() == nil; attempt++ {
		began := time.Now()
		err := e.connect()
		e.setLine(nil, err)
		if e.stopping.Err() != nil {
			return
		}
		if time.Since(began) > e.cfg.RetryMax {
			attempt = 0 // it worked for a while
		}
		wait := backoff(attempt, e.cfg.RetryMin, e.cfg.RetryMax, rand.Int64N)
		e.log.Warn("external mqtt broker is not connected", "err", err, "retry_in", wait.Round(time.Millisecond))
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-e.stopping.Done():
			pause.Stop()
		}
	}
}

// backoff draws a wait evenly from zero to a bound that doubles with each attempt ("full jitter": Brooker, Exponential
// Backoff And Jitter, 2015), so that hubs that lost one broker do not come back at one time.
func backoff(attempt int, lowest, highest time.Duration, draw func(int64) int64) time.Duration {
	bound := highest
	if attempt < 32 && lowest < highest>>attempt {
		bound = lowest << attempt
	}
	return time.Duration(draw(int64(bound) + 1))
}

// connect makes one connection and returns when it has ended, with the cause.
func (e *External) connect() error {
	l := newLine(e)
	defer l.end()
	client := paho.NewClient(e.options(l))
	if err := l.wait(client.Connect()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	l.start(client)
	// Not only after a new session: a broker that lost its sessions says so in a flag that nobody should have to trust.
	if err := e.subscribe(l, client); err != nil {
		return err
	}
	e.metrics.connects.Inc()
	e.setLine(l, nil)
	e.log.Info("external mqtt broker connected")
	return l.live()
}

func (e *External) options(l *line) *paho.ClientOptions {
	o := paho.NewClientOptions().AddBroker(e.cfg.URL).SetClientID(e.cfg.clientID()).
		SetUsername(e.cfg.Username).SetPassword(e.cfg.Password).SetCleanSession(e.cfg.CleanSession).
		SetProtocolVersion(4). // or paho would try 3.1 after each refusal
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(dialTimeout).SetWriteTimeout(writeTimeout).
		SetKeepAlive(e.cfg.Keepalive).SetPingTimeout(e.cfg.Keepalive).
		SetAutoAckDisabled(true). // the acknowledgement follows our fsync
		SetOrderMatters(true).    // or paho would start a goroutine for each message
		SetDefaultPublishHandler(l.receive).
		SetConnectionLostHandler(func(_ paho.Client, err error) { l.fail(err) })
	o.SetCustomOpenConnectionFn(l.dial)
	return o
}

// subscribe asks for the devices' topics and checks what was granted.
func (e *External) subscribe(l *line, client paho.Client) error {
	filters := map[string]byte{}
	for _, s := range []subject{subjectTelemetry, subjectEvent, subjectState, subjectResponse} {
		filters[joinTopic(e.cfg.Prefix, "+", s)] = byte(e.cfg.QoS)
	}
	token := client.SubscribeMultiple(filters, nil)
	if err := l.wait(token); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	granted, ok := token.(*paho.SubscribeToken)
	if !ok {
		return errors.New("subscribe: paho gave no result")
	}
	for filter, qos := range granted.Result() {
		if qos > 2 {
			return fmt.Errorf("subscribe: the broker refused %s (code %#x); grant it to the bridge's user", filter, qos)
		}
		if int(qos) < e.cfg.QoS {
			e.log.Warn("external mqtt broker granted a lower qos; messages may be lost on the way", "filter", filter, "qos", qos)
		}
	}
	return nil
}

func (e *External) setLine(l *line, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.line, e.failed = l, ""
	if err != nil {
		e.failed = err.Error()
	}
}

// remote names the broker as the address of the devices behind it.
func (e *External) remote() string {
	u, err := url.Parse(e.cfg.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
