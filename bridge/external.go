package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryhub/bridge/maps"
)

// External is a client of an external broker. It connects, and connects again, until Close; it does not fail when the
// broker is away.
type External struct {
	cfg         ExternalConfig
	hub         Hub
	log         *slog.Logger
	credentials *credentials
	metrics     *externalMetrics
	mark        []byte // how a payload begins that was cut; no device knows it
	receipts    *receipts
	echoes      *echoes
	traffic     *traffic
	maps        *maps.Set // nil: there are none
	mapped      mappings

	stopping context.Context // ends with Close
	stop     context.CancelFunc
	harder   context.Context // ends when Close has no more time
	abandon  context.CancelFunc
	done     chan struct{}

	mu     sync.Mutex
	line   *line // nil while there is no connection
	failed string
	before string // what ended the last connection, also while there is one
}

// OpenExternal starts the client of one external broker.
func OpenExternal(cfg ExternalConfig, hub Hub) (*External, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mqtt bridge %q: %w", cfg.Name, err)
	}
	log := hub.Log.With("bridge", cfg.Name)
	shown, err := openCredentials(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("mqtt bridge %q: %w", cfg.Name, err)
	}
	e := &External{
		cfg: cfg, hub: hub, log: log, credentials: shown, mark: []byte(rand.Text()),
		receipts: newReceipts(), echoes: newEchoes(), traffic: newTraffic("hub_bridge"), done: make(chan struct{}),
	}
	e.mapped.byDevice = map[string]*mapping{}
	if e.maps, err = cfg.compileMaps(); err != nil {
		return nil, fmt.Errorf("mqtt bridge %q: %w", cfg.Name, err)
	}
	e.metrics, err = newExternalMetrics(hub.Metrics, cfg.Name, e.traffic,
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
	Connected     bool
	Failure       string // why it is not connected
	LastFailure   string // what ended the last connection, or kept one from coming about, also while there is one
	Resumed       bool   // the broker had kept the session
	Waiting       bool   // what is in flight fills the window: nothing is read until some of it is durable
	InFlight      int    // messages received and not yet acknowledged
	InFlightBytes int
	Devices       int // with a session by this bridge
	Received      uint64
	Refused       uint64
	Repeated      uint64 // QoS 2 messages that came again and were not taken again
	Acked         uint64 // refused and repeated ones too
	Commands      uint64
	Connects      uint64
}

// Stats returns the bridge's numbers.
func (e *External) Stats() ExternalStats {
	e.mu.Lock()
	l, failure, before := e.line, e.failed, e.before
	e.mu.Unlock()
	s := ExternalStats{
		Failure: failure, LastFailure: before, Repeated: e.receipts.repeated(), Received: e.metrics.received.Load(), Refused: e.metrics.refused.all.Load(), Acked: e.metrics.acked.Load(),
		Commands: e.metrics.commands.Load(), Connects: e.metrics.connects.Load(),
	}
	if l != nil {
		s.Connected, s.Resumed, s.Devices = true, l.resumed.Load(), l.devices.count()
		s.InFlight, s.InFlightBytes = l.window.count()
		s.Waiting = l.inlet.Load().listens.Load() == 0
	}
	return s
}

// run keeps a connection until Close. Each attempt has a client of its own: paho's own reconnection has no jitter, and a
// client that is used again after Disconnect may panic.
func (e *External) run() {
	defer close(e.done)
	defer e.metrics.unregister()
	kicks := 0
	for attempt := 0; e.stopping.Err() == nil; attempt++ {
		began, connects := time.Now(), e.metrics.connects.Load()
		err := e.connect()
		if e.metrics.connects.Load() == connects || endWord(err) != endLost {
			kicks = 0
		} else if kicks++; kicks >= suspectKicks {
			err = fmt.Errorf("%w; that is connection %d in a row that ends soon after it was accepted: perhaps another client has the client id %q", err, kicks, e.cfg.clientID())
		}
		e.setLine(nil, err)
		if e.stopping.Err() != nil {
			return
		}
		e.metrics.ended.WithLabelValues(endWord(err)).Inc()
		if time.Since(began) > e.cfg.Timing.RetryMax {
			attempt, kicks = 0, 0 // it worked for a while
		}
		wait := backoff(attempt, e.cfg.Timing.RetryMin, e.cfg.Timing.RetryMax, mathrand.Int64N)
		e.log.Warn("external mqtt broker is not connected", "err", err, "retry_in", wait.Round(time.Millisecond))
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-e.stopping.Done():
			pause.Stop()
		}
		e.credentials.refresh()
	}
}

// suspectKicks are so many connections in a row that a broker has accepted and soon ended.
const suspectKicks = 3

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
	watched := context.AfterFunc(e.stopping, l.stopConnecting)
	defer watched()
	client := paho.NewClient(e.options(l))
	// dial and inlet hold CONNECT to its time, and say what was missing.
	if err := l.waitFor(client.Connect(), 2*e.cfg.Timing.Connect); err != nil {
		if l.refused.Load() {
			err = &ending{endRefused, fmt.Errorf("the broker refuses the hub: %w", err)}
		}
		return fmt.Errorf("connect: %w", err)
	}
	l.start(client)
	// Not only after a new session: a broker that lost its sessions says so in a flag that nobody should have to trust.
	if err := e.subscribe(l, client); err != nil {
		return err
	}
	if err := e.sayStatus(l, client, statusOnline); err != nil {
		return err
	}
	if e.metrics.connects.Inc(); !l.resumed.Load() && !e.cfg.CleanSession && e.metrics.connects.Load() > 1 {
		e.metrics.sessionsLost.Inc()
		e.log.Warn("external mqtt broker has lost the hub's session; what it had kept for the hub is gone")
	}
	e.setLine(l, nil)
	e.log.Info("external mqtt broker connected", "resumed", l.resumed.Load())
	return l.live()
}

func (e *External) options(l *line) *paho.ClientOptions {
	o := paho.NewClientOptions().AddBroker(e.cfg.URL).SetClientID(e.cfg.clientID()).
		SetUsername(e.cfg.Username).SetPassword(e.credentials.secret()).SetCleanSession(e.cfg.CleanSession).
		SetProtocolVersion(4). // or paho would try 3.1 after each refusal
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(e.cfg.Timing.Connect).SetWriteTimeout(writeTimeout).
		SetKeepAlive(e.cfg.Timing.Keepalive).SetPingTimeout(math.MaxInt64). // whether the broker lives is the line's to say
		SetStore(forgetful{}).
		SetAutoAckDisabled(true). // the acknowledgement follows our fsync
		SetOrderMatters(true).    // or paho would start a goroutine for each message
		SetDefaultPublishHandler(l.receive).
		SetConnectionLostHandler(func(_ paho.Client, err error) { l.fail(&ending{endLost, err}) })
	o.SetCustomOpenConnectionFn(l.dial)
	e.setWill(o)
	return o
}

// filters returns what the hub subscribes to. Readings are split among the hubs of a group; answers and states come to
// each of them, for only the one that asked knows what to do with an answer.
func (e *External) filters() []string {
	shared := func(filter string) string {
		if e.cfg.Share == "" {
			return filter
		}
		return "$share/" + e.cfg.Share + "/" + filter
	}
	all := func(s subject) string { return joinTopic(e.cfg.Prefix, "+", s) }
	var filters []string
	if !e.cfg.Foreign {
		filters = append(filters, shared(all(subjectTelemetry)), shared(all(subjectEvent)), all(subjectState), all(subjectResponse))
	}
	if e.maps == nil {
		return filters
	}
	if e.cfg.Share == "" {
		return append(filters, e.maps.Filters()...)
	}
	readings, rest := e.maps.SplitFilters()
	for _, filter := range readings {
		filters = append(filters, shared(filter))
	}
	return append(filters, rest...)
}

// subscribe asks for the devices' topics and checks what was granted.
func (e *External) subscribe(l *line, client paho.Client) error {
	filters := map[string]byte{}
	for _, filter := range e.filters() {
		filters[filter] = byte(e.cfg.QoS)
	}
	l.inlet.Load().asked.Store(int64(len(filters)))
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
			return &ending{endSubscribe, fmt.Errorf("subscribe: the broker refused %s (code %#x); grant it to the bridge's user", filter, qos)}
		}
		if int(qos) < e.cfg.QoS {
			e.log.Warn("external mqtt broker granted a lower qos; messages may be lost on the way", "filter", filter, "qos", qos)
		}
	}
	return nil
}

// forgetful keeps no message for paho, which would keep each until it is acknowledged: a client has one connection, and
// on the next the broker sends again.
type forgetful struct{}

func (forgetful) Open()                             {}
func (forgetful) Put(string, packets.ControlPacket) {}
func (forgetful) Get(string) packets.ControlPacket  { return nil }
func (forgetful) All() []string                     { return nil }
func (forgetful) Del(string)                        {}
func (forgetful) Close()                            {}
func (forgetful) Reset()                            {}

func (e *External) setLine(l *line, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.line, e.failed = l, ""
	e.traffic.connected(l != nil)
	if err != nil {
		e.failed = err.Error()
		e.before = e.failed
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
