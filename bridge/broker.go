package bridge

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Broker is the embedded MQTT broker. Devices publish to the hub and the hub to devices; it routes nothing between them.
type Broker struct {
	cfg       BrokerConfig
	hub       Hub
	log       *slog.Logger
	engine    engine
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
}

// OpenBroker binds the listeners and serves them until Close. tlsConfig is needed where cfg.Listen is wanted.
func OpenBroker(cfg BrokerConfig, tlsConfig *tls.Config, hub Hub) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mqtt broker: %w", err)
	}
	b := &Broker{cfg: cfg, hub: hub, log: hub.Log, clients: map[*client]bool{}, mark: []byte(rand.Text())}
	b.commits, b.abandon = context.WithCancel(context.Background())
	if err := b.listen(tlsConfig); err != nil {
		return nil, errors.Join(err, b.closeListeners())
	}
	var err error
	if b.metrics, err = newBrokerMetrics(hub.Metrics, func() float64 { return float64(b.Stats().Connections) }); err != nil {
		return nil, errors.Join(fmt.Errorf("mqtt broker: metrics: %w", err), b.closeListeners())
	}
	if b.engine, err = newMochi(cfg, b, hub.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("mqtt broker: %w", err), b.closeListeners())
	}
	b.accept()
	return b, nil
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
	err := b.protect(c)
	c.end(err)
	return err
}

// protect keeps one malformed packet from ending the hub: mochi's decoder indexes some packets beyond their end.
func (b *Broker) protect(c *client) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			b.log.Error("mqtt connection failed", "device", c.device, "remote", c.origin.Remote, "fault", fault, "stack", string(debug.Stack()))
			b.metrics.faults.Inc()
			_ = c.conn.Close()
			err = fmt.Errorf("mqtt: the connection failed: %v", fault)
		}
	}()
	return b.engine.serve(c.conn)
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

// admit implements rules.
func (b *Broker) admit(c *client, hello connect) *refusal {
	device, proof, r := b.identify(c, hello)
	if r == nil {
		r = b.checkFrozen(device.ID)
	}
	if r != nil {
		return b.refuseConnect(c, cmp.Or(c.origin.Device, device.ID, hello.username), r)
	}
	if r := b.checkPace(c, device.ID); r != nil { // before it takes a place from others
		return r
	}
	if c.origin.Device == "" { // else whoever opened the way has asked
		if later := b.hub.Admission.Admit(b.commits, device.ID, b.isOnline(device.ID)); later != nil {
			return b.postpone(c, device.ID, later)
		}
	}
	c.device, c.proof = device.ID, proof
	if r := b.enrolFirst(c, hello); r != nil {
		return b.refuseConnect(c, device.ID, r)
	}
	b.metrics.connects.WithLabelValues("").Inc()
	if hello.will != nil {
		c.takeWill(*hello.will)
	}
	c.admitted()
	return nil
}

// refuseConnect counts a CONNECT that is refused.
func (b *Broker) refuseConnect(c *client, device string, r *refusal) *refusal {
	b.metrics.connects.WithLabelValues(r.reason).Inc()
	b.noteRefused(c.origin, device, r)
	b.log.Debug("mqtt connection refused", "device", device, "remote", c.origin.Remote, "reason", r.reason)
	c.conn.sayWhy(wire.ClosePolicy, r.message)
	return r
}

// noteRefused tells the flight recorder of the device that a refused CONNECT spoke for, if there is one.
func (b *Broker) noteRefused(from Origin, id string, r *refusal) {
	if _, ok := b.hub.Registry.Get(id); ok {
		b.hub.Sessions.Note(id, devices.Event{Kind: devices.EventRefused, Reason: r.reason, Message: r.message, Remote: from.Remote, Status: int(r.code)})
	}
}

// checkFrozen refuses a device that is frozen as a clone.
func (b *Broker) checkFrozen(device string) *refusal {
	f := b.hub.Sessions.Frozen(device)
	if f == nil {
		return nil
	}
	return &refusal{reason: devices.ReasonFrozen, code: codeBanned, message: f.Cause() + ": several devices use this identity"}
}

// identify finds out which device a CONNECT comes from, and what it proved that with: what opened the connection, if
// that proved anything, else what CONNECT bears.
func (b *Broker) identify(c *client, hello connect) (devices.Device, devices.Proof, *refusal) {
	from := c.origin
	device, _ := b.hub.Registry.Get(from.Device)
	proof := from.Proof
	switch {
	case from.Device == "", hello.password != "":
		var r *refusal
		var said devices.Proof
		if device, said, r = b.authenticate(c, hello); r != nil {
			return device, said, r
		}
		if from.Device == "" {
			proof = said
		} else if device.ID != from.Device || said.Kind == devices.ProofEnrolment && proof.Offer == nil {
			return device, proof, otherDevice()
		}
	case hello.username != "" && hello.username != from.Device:
		return device, proof, otherDevice()
	}
	if from.Path != "" && device.ID != from.Path {
		return device, proof, &refusal{reason: "wrong_device", code: codeNotAuthorized, message: "the path names another device than the credentials"}
	}
	if from.Device != "" {
		return device, proof, refusalOf(b.hub.Registry.Current(from.Device, proof))
	}
	return device, proof, nil
}

func otherDevice() *refusal {
	return &refusal{reason: ReasonOtherDevice, code: codeNotAuthorized, message: "CONNECT names another device than the credentials that opened the connection"}
}

// authenticate looks at the certificate of the connection, and at what CONNECT bears.
func (b *Broker) authenticate(c *client, hello connect) (devices.Device, devices.Proof, *refusal) {
	if devices.IsEnrolmentKey(hello.password) {
		return b.identifyByKey(c.origin, hello)
	}
	device, proof, err := devices.Identify(b.hub.Registry, b.hub.Certificates, tlsState(c.conn.Conn), devices.Credentials{Device: hello.username, Token: hello.password})
	if status, reason, message, ok := devices.CertificateRefusal(device, err); ok {
		return device, proof, &refusal{reason: reason, code: codeOfStatus(status), message: message}
	}
	r := refusalOf(err)
	if r != nil && r.code == codeUnavailable {
		b.log.Warn("mqtt device could not be authenticated", "err", err)
	}
	return device, proof, r
}

// tlsState is that of the TLS connection that the device shook hands on for MQTT; nil: there is none.
func tlsState(nc net.Conn) *tls.ConnectionState {
	secured, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	state := secured.ConnectionState()
	return &state
}

// codeOfStatus is MQTT's word for HTTP's 401 and 403.
func codeOfStatus(status int) reasonCode {
	if status == http.StatusUnauthorized {
		return codeBadCredentials
	}
	return codeNotAuthorized
}

// refusalOf says why a device that showed its credentials is not let in; nil: it is.
func refusalOf(err error) *refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, devices.ErrDisabled):
		return &refusal{reason: ReasonDisabled, code: codeNotAuthorized, message: "the device is disabled"}
	case errors.Is(err, devices.ErrExpired):
		return &refusal{reason: wire.ReasonCredentials, code: codeBadCredentials, message: "the credentials have expired, and the time in which they could have been renewed is over"}
	case errors.Is(err, devices.ErrNotFound), errors.Is(err, devices.ErrRevoked):
		return &refusal{reason: "bad_credentials", code: codeBadCredentials, message: "the device does not exist any more, or its credentials were revoked"}
	case errors.Is(err, devices.ErrCredentials):
		return &refusal{reason: "bad_credentials", code: codeBadCredentials, message: "the username is the device's id and the password its token; these are not known"}
	}
	return &refusal{reason: "unavailable", code: codeUnavailable, message: "the registry cannot be asked now"}
}

// established implements rules.
func (b *Broker) established(c *client, p peer) {
	c.link.open(p)
	if later := b.hub.Admission.Enter(b.isOnline(c.device)); later != nil {
		b.noteLater(c, c.device, wire.CloseOverloaded, later)
		c.link.Close(wire.CloseOverloaded, later.CloseReason())
		return
	}
	c.entered = true
	c.takeOffer()
	c.session = b.hub.Sessions.Attach(devices.Attachment{
		Device: c.device, Transport: c.origin.Transport, Remote: c.origin.Remote, Proof: c.proof, Link: c.link,
	})
	if err := b.hub.Registry.Current(c.device, c.proof); err != nil { // a change before Attach found no session to end
		c.link.Close(wire.CloseRevoked, devices.VoidReason(err))
		return
	}
	c.ready()
	if !c.session.Renews() {
		c.tellState()
	}
}

// packet implements rules.
func (b *Broker) packet(c *client) {
	if c.session != nil {
		c.session.Touch()
	}
}

// subscribed implements rules.
func (b *Broker) subscribed(c *client) {
	c.ready()
	if c.session != nil && !c.session.Renews() {
		c.tellState()
	}
}

// acknowledged implements rules.
func (b *Broker) acknowledged(c *client, packetID uint16) { c.link.acknowledged(packetID) }

// published implements rules.
func (b *Broker) published(c *client, m message) error {
	b.metrics.received.Inc()
	if c.session != nil && !c.over {
		c.session.Heard()
	}
	err := b.take(c, m)
	b.count(c, m)
	if r, ok := errors.AsType[*refusal](err); ok {
		b.metrics.refused.count(r.reason)
		b.hub.refused(c.device, r)
		return r
	}
	if err != nil {
		b.metrics.unacked.Inc()
		b.log.Debug("mqtt message not committed; the connection ends without an acknowledgement", "device", c.device, "err", err)
	}
	return err
}

func (b *Broker) take(c *client, m message) error {
	device, about, ok := splitTopic(ownPrefix, m.topic)
	if !ok || device != c.device || !about.fromDevice() && about != subjectCredentials {
		return &refusal{
			reason: ReasonTopic, code: codeNotAuthorized,
			message: "a device publishes on " + joinTopic(ownPrefix, c.device, "{telemetry, event, state, response, credentials}") + " only",
		}
	}
	if c.proof.Renewal && about != subjectCredentials {
		return expired()
	}
	if r := checkSize(sizeBefore(m.payload, b.mark), c.profile().Limits.MaxFrame); r != nil {
		b.hub.Throttle.Passed(devices.LimitMaxFrame, c.profile(), 1)
		return r
	}
	s := b.scratches.get()
	defer b.scratches.put(s)
	if c.unconfirmed != nil {
		return b.confirming(c, about, s, m)
	}
	switch about {
	case subjectCredentials:
		return b.renew(c, s, m)
	case subjectState:
		return b.takeState(c.device, s, m)
	case subjectResponse:
		r, err := s.response(m.payload)
		if err != nil {
			return unusable(err)
		}
		if c.session != nil { // nil: the last will of a connection that did not get as far
			r.tell(c.session)
		}
		return nil
	}
	// Here the device is the other end: what it marks as retained is as new as any other message, so its age counts.
	if r := s.decode(device, about, m, func(k wire.Clock) bool { return k != wire.ClockNone }); r != nil {
		return r
	}
	c.learn(&s.telemetry)
	start := time.Now()
	err := b.hub.Sink.Commit(b.commits, c.device, &s.telemetry)
	if e, slow := devices.SlowCommit(time.Since(start)); slow && err == nil {
		b.hub.Sessions.Note(c.device, e)
	}
	return journalRefusal(err)
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
