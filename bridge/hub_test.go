package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// patience bounds how long a test waits for what must come.
const patience = time.Minute

// hub is a hub around the bridge: the real registry and sessions, and a journal whose commits the test can hold back.
type hub struct {
	t         *testing.T
	registry  *devices.Registry
	sessions  *devices.Sessions
	rotation  *devices.Rotation
	journal   *journal
	answers   *answers
	metrics   *prometheus.Registry
	admission *devices.Admission
	states    *states
	retained  jetstream.KeyValue
	profile   sameProfile
	discovery bridge.Discovery // nil: none
	js        jetstream.JetStream

	beforeAttach func() // what happens between the decision to attach a session and that
}

// hookedSessions are the hub's sessions with its beforeAttach.
type hookedSessions struct {
	*devices.Sessions
	hub *hub
}

func (s hookedSessions) Attach(a devices.Attachment) *devices.Session {
	if s.hub.beforeAttach != nil {
		s.hub.beforeAttach()
	}
	return s.Sessions.Attach(a)
}

func (s hookedSessions) AttachIfAbsent(a devices.Attachment) (*devices.Session, bool) {
	if s.hub.beforeAttach != nil {
		s.hub.beforeAttach()
	}
	return s.Sessions.AttachIfAbsent(a)
}

func newHub(t *testing.T) *hub {
	t.Helper()
	ns, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("nats is not ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "devices", Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := devices.OpenRegistry(t.Context(), kv, devices.TokenConfig{Grace: time.Hour, Overlap: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	h := withRegistry(t, registry)
	h.js = js
	if h.retained, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "retained", Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	return h
}

func withRegistry(t *testing.T, registry *devices.Registry) *hub {
	h := &hub{t: t, registry: registry, journal: newJournal(), answers: newAnswers(), metrics: prometheus.NewRegistry(), states: newStates(), profile: sameProfile{map[string]devices.Limits{}}}
	h.sessions = devices.NewSessions(devices.Life{}, testLog(t))
	h.admission = devices.NewAdmission(devices.AdmissionConfig{Rate: 1000, Connections: 1000})
	h.sessions.Bind(h.answers)
	h.rotation = devices.NewRotation(registry, h.sessions, nil, testLog(t))
	t.Cleanup(h.journal.stop)
	return h
}

func (h *hub) parts() bridge.Hub {
	return bridge.Hub{Registry: h.registry, Profiles: h.profile, Throttle: devices.NewThrottle(h.sessions, nil, testLog(h.t)), Sessions: hookedSessions{h.sessions, h}, Admission: h.admission, Enroller: enroller{h.registry}, Renewer: h.rotation, Sink: h.journal, States: h.states, Discovery: h.discovery, Retained: h.retained, Metrics: h.metrics, Log: testLog(h.t)}
}

// sameProfile holds for every device.
type sameProfile struct{ limits map[string]devices.Limits } // but for these devices

func (sameProfile) Version() uint64 { return 1 }
func (s sameProfile) Of(device string) *devices.Profile {
	limits, ok := s.limits[device]
	if !ok {
		limits = devices.Limits{BurstMs: 10_000, MaxFrame: wire.DefaultMaxFrame, Fields: 1024}
	}
	return &devices.Profile{
		Keepalive: devices.Keepalive{Interval: 45 * time.Second, Min: 10 * time.Second, Max: 15 * time.Minute}, Limits: limits,
	}
}

// device adds a device and returns its token.
func (h *hub) device(id string) string {
	h.t.Helper()
	_, token, err := h.registry.Create(h.t.Context(), devices.Device{ID: id})
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// wantOnline waits until the device's presence is as wanted, and returns it.
func (h *hub) wantOnline(device string, online bool, transport string) devices.Presence {
	h.t.Helper()
	feed := h.sessions.Subscribe(1000)
	defer feed.Close()
	timeout := time.After(patience)
	for {
		p := h.sessions.Presence(device)
		if p.Online == online && (transport == "" || p.Transport == transport) {
			return p
		}
		select {
		case <-feed.C():
		case <-timeout:
			h.t.Fatalf("presence of %s is %+v, want online %v by %q", device, p, online, transport)
		}
	}
}

// send gives a command to the device's session.
func (h *hub) send(device string, cmd wire.Command) error {
	session, ok := h.sessions.Online(device)
	if !ok {
		return errors.New("offline")
	}
	return h.sessions.Send(device, session, cmd)
}

// entry is one reading, or refused frame, in the journal.
type entry struct{ device, text string }

// journal commits readings at once, or when the test lets it.
type journal struct {
	mu       sync.Mutex
	change   chan struct{} // closed and replaced at each change
	held     bool
	broken   error
	gen      uint64
	open     []entry
	waiters  map[wire.Waiter]bool
	durable  []entry
	refused  []entry
	appended int
	stopped  bool
}

func newJournal() *journal {
	return &journal{change: make(chan struct{}), gen: 1, waiters: map[wire.Waiter]bool{}}
}

// changed needs mu.
func (j *journal) changed() {
	close(j.change)
	j.change = make(chan struct{})
}

// tooMuch is a measurement of which the journal takes nothing.
const tooMuch = "too-much"

func (j *journal) Append(device string, t *wire.Telemetry, _ int64, w wire.Waiter) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		return 0, errors.New("the journal is closed")
	}
	if string(t.Measurement) == tooMuch {
		return 0, &wire.Error{Code: wire.CodeTooLarge, Reason: wire.ReasonTooLarge, Message: "more than an envelope holds"}
	}
	for i := range t.Readings {
		j.open = append(j.open, entry{device, describe(t, i)})
	}
	j.appended++
	gen := j.gen
	w.Join(gen)
	j.waiters[w] = true
	j.changed()
	if !j.held {
		j.commit()
	}
	return gen, nil
}

// commit needs mu.
func (j *journal) commit() {
	if j.broken == nil {
		j.durable = append(j.durable, j.open...)
	}
	j.open = nil
	for w := range j.waiters {
		w.Committed(j.gen, j.broken)
	}
	clear(j.waiters)
	j.gen++
	j.changed()
}

// hold keeps commits back until release.
func (j *journal) hold() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held = true
}

// release commits what is open, with an error that the journal then keeps.
func (j *journal) release(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held, j.broken = false, err
	j.commit()
}

func (j *journal) stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = true
}

// noRoom is a measurement for which the journal has no room.
const noRoom = "no-room"

func (j *journal) AppendWithin(ctx context.Context, device string, t *wire.Telemetry, receivedMs int64, w wire.Waiter) (uint64, error) {
	if string(t.Measurement) == noRoom {
		j.mu.Lock()
		j.appended++
		j.changed()
		j.mu.Unlock()
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return j.Append(device, t, receivedMs, w)
}

func (j *journal) Refuse(device, reason string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refused = append(j.refused, entry{device, reason})
	j.changed()
}

// until waits for a condition on the journal.
func (j *journal) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		j.mu.Lock()
		fine, change := ok(), j.change
		j.mu.Unlock()
		if fine {
			return
		}
		select {
		case <-change:
		case <-timeout:
			j.mu.Lock()
			durable, refused := len(j.durable), slices.Clone(j.refused)
			j.mu.Unlock()
			t.Fatalf("no %s: durable %d, refused %v", what, durable, refused)
		}
	}
}

func (j *journal) wantDurable(t *testing.T, want ...entry) {
	t.Helper()
	j.until(t, fmt.Sprintf("durable readings %v", want), func() bool { return len(j.durable) >= len(want) })
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.durable, want) {
		t.Fatalf("durable: %v\nwant: %v", j.durable, want)
	}
}

func (j *journal) wantRefused(t *testing.T, want ...entry) {
	t.Helper()
	j.until(t, fmt.Sprintf("refusals %v", want), func() bool { return len(j.refused) >= len(want) })
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.refused, want) {
		t.Fatalf("refused: %v\nwant: %v", j.refused, want)
	}
}

// describe puts a reading into words: measurement, number and values, such as "telemetry 7 Temp=21.5".
func describe(t *wire.Telemetry, i int) string {
	r := t.Readings[i]
	text := wire.DefaultMeasurement
	if len(t.Measurement) > 0 {
		text = string(t.Measurement)
	}
	if t.Seq > 0 {
		text += fmt.Sprintf(" %d", t.Seq+uint64(i))
	}
	if r.Flaw != "" {
		return text + " " + r.Flaw
	}
	for _, f := range r.Fields {
		switch f.Kind {
		case wire.String:
			text += fmt.Sprintf(" %s=%q", f.Name, f.Text)
		case wire.Float:
			text += fmt.Sprintf(" %s=%v", f.Name, f.Number)
		default:
			text += fmt.Sprintf(" %s=%v", f.Name, f.Kind == wire.True)
		}
	}
	return text
}

// answers takes what devices answer.
type answers struct {
	answered chan wire.Answer
	progress chan wire.Progress
	ready    chan string
	ended    chan string
}

func newAnswers() *answers {
	return &answers{answered: make(chan wire.Answer, 1000), progress: make(chan wire.Progress, 1000), ready: make(chan string, 1000), ended: make(chan string, 1000)}
}

func (a *answers) Answered(_ string, _ uint64, answer wire.Answer) { a.answered <- answer }
func (a *answers) Progressed(_ string, _ uint64, p wire.Progress)  { a.progress <- p }
func (a *answers) Pending(string) int                              { return 0 }
func (a *answers) SessionReady(device string, _ uint64)            { a.ready <- device }
func (a *answers) SessionEnded(device string, _ uint64)            { a.ended <- device }

// next waits for a channel's next value.
func next[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
