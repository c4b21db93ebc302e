package devices

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// Sink takes readings and says when they are durable.
//
// Append copies t, gives each reading its time and, where it breaks a limit, its Flaw, and lets w join the commit that
// they will be durable with. It waits while the journal is behind. Its error is a *wire.Error where the frame cannot be
// taken, any other when the hub stops. Refuse counts a frame that could not be used. Durable returns the last durable
// seq of a device's boot, 0 if none, and the gaps below it, from and to: readings of which not all have come.
type Sink interface {
	Append(device string, t *wire.Telemetry, receivedMs int64, w wire.Waiter) (gen uint64, err error)
	Refuse(device, reason string)
	Durable(device, boot string) (last uint64, gaps [][2]uint64)
}

// Config is what an operator can set of device connections.
type Config struct {
	Renewer          Renewer       // gives devices new credentials
	WriteTimeout     time.Duration // a device that does not read for so long is cut
	HandshakeTimeout time.Duration // from the upgrade request to its answer
	Certificates     Certificates  // nil: devices prove themselves by tokens only
	Enroller         Enroller      // of devices that come with an enrolment key; nil: none may
}

// Connector turns requests to /connect into sessions over WebSocket.
type Connector struct {
	cfg      Config
	registry *Registry
	profiles *Profiles
	throttle *Throttle
	sessions *Sessions
	admits   *Admission
	sink     Sink
	states   States
	log      *slog.Logger
	mqtt     MQTT // nil: not spoken
	upgrader websocket.Upgrader

	mu       sync.Mutex
	conns    map[*conn]bool
	waits    *wire.Notice // why nothing is acked at present; nil: it is
	stopping bool
	refused  map[string]uint64 // requests, by reason
	running  sync.WaitGroup    // connections and the sweeper
	stop     chan struct{}
}

// NewConnector returns a running Connector; Stop ends it.
func NewConnector(cfg Config, registry *Registry, profiles *Profiles, throttle *Throttle, sessions *Sessions, admits *Admission, sink Sink, states States, log *slog.Logger) *Connector {
	c := &Connector{
		cfg: cfg, registry: registry, profiles: profiles, throttle: throttle, sessions: sessions, admits: admits, sink: sink, states: states, log: log,
		conns: map[*conn]bool{}, refused: map[string]uint64{}, stop: make(chan struct{}),
		upgrader: websocket.Upgrader{
			HandshakeTimeout: cfg.HandshakeTimeout,
			// Not 0: gorilla would keep net/http's 4 KB reader for the connection's life.
			ReadBufferSize: 512,
			// Held only while a frame is written.
			WriteBufferSize: 1024,
			WriteBufferPool: &sync.Pool{},
			// The credentials are in the request itself, never in a cookie: a foreign page cannot borrow them.
			CheckOrigin: func(*http.Request) bool { return true },
			Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
				(&refusal{status, "bad_handshake", reason.Error()}).write(w)
			},
		},
	}
	c.running.Add(1)
	go c.sweep()
	return c
}

// ServeHTTP answers GET /connect and /connect/{device}. It returns when the upgrade is done; the connection lives in
// goroutines of its own, so that net/http's buffers and stack are given back.
func (c *Connector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	device, proof, no := c.identify(r)
	if no != nil && c.leavesItToCONNECT(r, no) {
		no = nil
	}
	if no == nil {
		no = c.checkFrozen(w, device.ID)
	}
	if no == nil {
		no = checkUpgrade(w, r)
	}
	var protocol string
	var dialect wire.Dialect
	if no == nil {
		protocol, dialect, no = c.chooseSubprotocol(r)
	}
	if no != nil {
		c.refuse(r, no)
		no.write(w)
		return
	}
	if protocol != subprotocolMQTT && c.refuseHurried(w, r, device.ID) { // before it takes a place from others; MQTT's pace the broker watches
		return
	}
	if device.ID != "" { // else CONNECT will say who it is, and then it is asked
		if later := c.admits.Admit(r.Context(), device.ID, c.isOnline(device.ID)); later != nil {
			c.postpone(w, r, device.ID, later)
			return
		}
	}
	device, proof, ok := c.enrolFirst(w, r, device, proof)
	if !ok {
		return
	}
	if protocol == subprotocolMQTT {
		c.serveMQTT(w, r, device.ID, proof)
		return
	}
	if ws := c.upgrade(w, r, protocol, device.ID); ws != nil {
		c.start(device.ID, proof, dialect, ws, r.RemoteAddr)
	}
}

// upgrade makes the request's connection a WebSocket, or answers that it cannot and returns nil.
func (c *Connector) upgrade(w http.ResponseWriter, r *http.Request, protocol, device string) *websocket.Conn {
	header := http.Header{}
	if protocol != "" {
		header.Set("Sec-WebSocket-Protocol", protocol)
	}
	ws, err := c.upgrader.Upgrade(checkedWriter{w}, r, header)
	if err != nil { // it has answered
		c.countRefused("upgrade_failed")
		c.log.Info("upgrade failed", "device", device, "remote", r.RemoteAddr, "err", err)
		return nil
	}
	return ws
}

// refuse counts a request that is not let in. Anybody can make such requests: they are no lines in the log.
func (c *Connector) refuse(r *http.Request, no *refusal) {
	c.countRefused(no.reason)
	if device := c.refusedDevice(r); device != "" {
		c.sessions.Note(device, Event{Kind: EventRefused, Reason: no.reason, Message: no.detail, Remote: r.RemoteAddr, Status: no.status})
	}
	device := r.PathValue("device") // not yet checked
	device = strings.ToValidUTF8(device[:min(len(device), wire.MaxDeviceID)], "")
	c.log.Debug("connection refused", "device", device, "remote", r.RemoteAddr, "reason", no.reason)
}

// refusedDevice says whom a request that is refused speaks for, by its credentials or else by the names in it; "" where
// no such device exists.
func (c *Connector) refusedDevice(r *http.Request) string {
	shown, _ := CredentialsOf(r, true)
	d, _, _ := Identify(c.registry, c.cfg.Certificates, r.TLS, shown)
	for _, id := range []string{d.ID, shown.Device, r.PathValue("device")} {
		if _, ok := c.registry.Get(id); ok {
			return id
		}
	}
	return ""
}

func (c *Connector) countRefused(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[reason]++
}

// Refused returns how many requests were not let in, by reason; there are a handful of them.
func (c *Connector) Refused() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.refused)
}

// checkUpgrade refuses what is no WebSocket handshake of version 13 (RFC 6455 section 4.2, 4.4).
func checkUpgrade(w http.ResponseWriter, r *http.Request) *refusal {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return &refusal{http.StatusMethodNotAllowed, "method", "the handshake of a WebSocket is a GET"}
	}
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		return &refusal{http.StatusUpgradeRequired, "not_websocket", "this is the devices' WebSocket; connect with wss://"}
	}
	if r.Body != nil && r.Body != http.NoBody {
		return &refusal{http.StatusBadRequest, "bad_handshake", "the handshake of a WebSocket has no body"}
	}
	if v := r.Header.Get("Sec-WebSocket-Version"); v != "13" {
		w.Header().Set("Sec-WebSocket-Version", "13")
		return &refusal{http.StatusUpgradeRequired, "websocket_version", "Sec-WebSocket-Version is " + strconv.Quote(v) + "; the hub speaks 13"}
	}
	return nil
}

// offered returns the subprotocols of all header lines: several are one list (RFC 6455 section 11.3.4).
func offered(r *http.Request) (all []string) {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				all = append(all, name)
			}
		}
	}
	return all
}

// chooseSubprotocol takes the first that the client offers and the hub speaks. (gorilla's own choice is in the
// server's order.) Without an offer it is the default, and no header says so; MQTT has to be offered [MQTT-6.0.0-3].
func (c *Connector) chooseSubprotocol(r *http.Request) (string, wire.Dialect, *refusal) {
	asked, onlyMQTT := offered(r), r.URL.Path == PathMQTT
	if len(asked) == 0 && !onlyMQTT {
		return "", wire.Dialect{}, nil
	}
	spoken := wire.Subprotocols()
	if onlyMQTT {
		spoken = nil
	}
	if c.mqtt != nil {
		spoken = append(spoken, subprotocolMQTT)
	}
	for _, name := range asked {
		if slices.Contains(spoken, name) {
			dialect, _ := wire.DialectOfSubprotocol(name)
			return name, dialect, nil
		}
	}
	return "", wire.Dialect{}, &refusal{http.StatusBadRequest, "subprotocol", fmt.Sprintf("the hub speaks %s here; offered was %s", strings.Join(spoken, ", "), cmp.Or(strings.Join(asked, ", "), "none"))}
}

// write answers with application/problem+json (RFC 9457).
func (n *refusal) write(w http.ResponseWriter) {
	if n.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="telemetry hub"`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(n.status)
	// An error means that the client has gone: nobody is left to be told.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(n.status), "status": n.status, "reason": n.reason, "detail": n.detail,
	})
}

// start attaches the session and runs the connection.
func (c *Connector) start(device string, proof Proof, dialect wire.Dialect, ws *websocket.Conn, remote string) {
	n := newConn(c, device, dialect, ws)
	c.mu.Lock()
	if c.stopping { // since it was asked, before the upgrade
		c.mu.Unlock()
		n.sayRestart()
		n.out.dismiss()
		return
	}
	c.running.Add(1)
	c.mu.Unlock()
	if later := c.admits.Enter(c.isOnline(device)); later != nil {
		c.turnAway(n, remote, later)
		return
	}
	proof = n.offer(proof)
	n.session = c.sessions.Attach(Attachment{Device: device, Transport: TransportWSS, Remote: remote, Proof: proof, Link: n})
	n.agree(0)
	c.add(n)
	if proof.Renewal {
		n.sayExpired()
	}
	if err := c.registry.Current(device, proof); err != nil { // a change before Attach found no session to end
		n.Close(wire.CloseRevoked, VoidReason(err))
	}
	go n.run()
}

// add shows the connection, which has its session now, to the sweeper and to Stop. One that came while Stop was at
// work is told goodbye here.
func (c *Connector) add(n *conn) {
	c.mu.Lock()
	c.conns[n] = true
	if c.waits != nil {
		n.tell(*c.waits)
	}
	stopping := c.stopping
	c.mu.Unlock()
	if stopping {
		n.sayRestart()
	}
}

// remove is the last act of a connection.
func (c *Connector) remove(n *conn) {
	c.mu.Lock()
	delete(c.conns, n)
	c.mu.Unlock()
	c.admits.Exit()
	c.running.Done()
}

// snapshot returns the connections of this moment.
func (c *Connector) snapshot(into []*conn) []*conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.conns {
		into = append(into, n)
	}
	return into
}

// cutWait is how long a connection may take to end once its socket was closed.
const cutWait = time.Second

// Stop says goodbye to all devices with close code 1012 and waits until their connections have ended, or ctx. One that
// is left even then waits for the Sink, and ends with it.
func (c *Connector) Stop(ctx context.Context) error {
	c.mu.Lock()
	again := c.stopping
	c.stopping = true
	c.mu.Unlock()
	if again {
		return nil
	}
	c.admits.Stop()
	close(c.stop)
	for _, n := range c.snapshot(nil) {
		n.sayRestart()
	}
	ended := make(chan struct{})
	go func() {
		c.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		for _, n := range c.snapshot(nil) {
			n.ws.Close()
		}
	}
	select {
	case <-ended:
		return errors.New("some devices did not say goodbye in time and were cut")
	case <-time.After(cutWait):
		return fmt.Errorf("%d connections wait for the journal", len(c.snapshot(nil)))
	}
}
