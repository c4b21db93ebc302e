package devices_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const maxFrame = 4096

// hub is a Connector with all that it needs, behind a real http.Server whose listener is in memory. It may live in a
// synctest bubble.
type hub struct {
	t         testing.TB
	kv        *memoryKV
	registry  *devices.Registry
	sessions  *devices.Sessions
	guard     *devices.Guard
	rotation  *devices.Rotation
	connector *devices.Connector
	admission *devices.Admission
	throttle  *devices.Throttle
	sink      *sink
	answers   *answers
	states    *states
	listener  *memoryListener
	log       *logBuffer
	tokens    map[string]string
	stopOnce  func() error
}

// common is the profile of a device without a type.
func common() devices.Profile {
	return devices.Profile{
		Keepalive: devices.Keepalive{Interval: 45 * time.Second, Min: 10 * time.Second, Max: 15 * time.Minute},
		Limits:    devices.Limits{BurstMs: 10_000, MaxFrame: maxFrame, Fields: 1024},
	}
}

// newHub starts a hub that knows the devices d1, d2 and d3.
func newHub(t testing.TB) *hub {
	t.Helper()
	return newHubOf(t, devices.Life{})
}

// newHubOf is newHub with what is done about clones and probes.
func newHubOf(t testing.TB, life devices.Life) *hub {
	t.Helper()
	return newWholeHub(t, life, 1000, 1000)
}

// newBoundedHub lets so many devices in a second, and has room for so many.
func newBoundedHub(t testing.TB, rate float64, connections int) *hub {
	t.Helper()
	return newWholeHub(t, devices.Life{}, rate, connections)
}

func newWholeHub(t testing.TB, life devices.Life, rate float64, connections int) *hub {
	t.Helper()
	return newHubWith(t, life, devices.TokenConfig{}, rate, connections)
}

func newHubWith(t testing.TB, life devices.Life, tokens devices.TokenConfig, rate float64, connections int) *hub {
	t.Helper()
	h := &hub{t: t, kv: newMemoryKV(), sink: newSink(), answers: &answers{}, states: newStates(), listener: newMemoryListener(), log: &logBuffer{}, tokens: map[string]string{}}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if h.registry, err = devices.OpenRegistry(t.Context(), h.kv, tokens); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"d1", "d2", "d3"} {
		h.create(id)
	}
	h.sessions = devices.NewSessions(life, log)
	h.admission = devices.NewAdmission(devices.AdmissionConfig{Rate: rate, Connections: connections})
	h.sessions.Bind(h.answers)
	h.guard = devices.NewGuard(h.registry, h.sessions, h.answers.leaving)
	h.throttle = devices.NewThrottle(h.sessions, nil, log)
	h.rotation = devices.NewRotation(h.registry, h.sessions, nil, log)
	h.connector = devices.NewConnector(devices.Config{
		Renewer:      h.rotation,
		WriteTimeout: 10 * time.Second, HandshakeTimeout: 10 * time.Second, Enroller: &enroller{registry: h.registry},
	}, h.registry, h.profiles(), h.throttle, h.sessions, h.admission, h.sink, h.states, log)
	mux := http.NewServeMux()
	mux.Handle("/connect", h.connector)
	mux.Handle("/connect/{device}", h.connector)
	mux.Handle(devices.PathMQTT, h.connector)
	server := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(h.listener)
	}()
	h.stopOnce = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		return h.connector.Stop(ctx)
	})
	t.Cleanup(func() {
		h.sink.free()
		_ = h.stopOnce()
		_ = server.Close()
		<-served
		if err := h.registry.Close(); err != nil {
			t.Error(err)
		}
		if err := h.connector.Check(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *hub) create(id string) {
	h.t.Helper()
	_, token, err := h.registry.Create(context.Background(), devices.Device{ID: id})
	if err != nil {
		h.t.Fatal(err)
	}
	h.tokens[id] = token
}

// memoryListener gives both ends of a pipe in memory: one to a dialler, one to the server.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (l *memoryListener) dial() net.Conn {
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return ours
}

// sink is a journal whose commits a test makes.
type sink struct {
	mu       sync.Mutex
	appended []string // one line a frame
	refused  []string // device and reason
	durable  map[string]uint64
	gaps     map[string][][2]uint64
	gen      uint64
	waiters  map[wire.Waiter]bool
	inside   bool // commits within Append
	err      error
	flaw     func(*wire.Telemetry)
	gate     chan struct{} // Append waits for it
	entered  chan struct{} // told when Append begins to wait
}

func newSink() *sink {
	return &sink{durable: map[string]uint64{}, waiters: map[wire.Waiter]bool{}, inside: true, entered: make(chan struct{}, 1000)}
}

// set changes the sink under its lock.
func (s *sink) set(change func(*sink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// block lets Append wait until free.
func (s *sink) block() {
	s.set(func(s *sink) { s.gate = make(chan struct{}) })
}

func (s *sink) free() {
	s.set(func(s *sink) {
		if s.gate != nil {
			close(s.gate)
			s.gate = nil
		}
	})
}

func (s *sink) Append(device string, t *wire.Telemetry, _ int64, w wire.Waiter) (uint64, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		s.entered <- struct{}{}
		<-gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if s.flaw != nil {
		s.flaw(t)
	}
	line := fmt.Sprintf("%s %s boot=%s seq=%d", device, t.Measurement, t.Boot, t.Seq)
	for _, r := range t.Readings {
		line += " " + string(r.Raw)
	}
	s.appended = append(s.appended, line)
	if w.Join(s.gen + 1) {
		s.waiters[w] = true
	}
	if s.inside {
		s.commitLocked(nil)
	}
	return s.gen, nil
}

// commit makes durable what was appended.
func (s *sink) commit() { s.set(func(s *sink) { s.commitLocked(nil) }) }

func (s *sink) commitLocked(err error) {
	s.gen++
	for w := range s.waiters {
		w.Committed(s.gen, err)
	}
	clear(s.waiters)
}

func (s *sink) Refuse(device, reason string) {
	s.set(func(s *sink) { s.refused = append(s.refused, device+" "+reason) })
}

func (s *sink) Durable(device, boot string) (last uint64, gaps [][2]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable[device+" "+boot], s.gaps[device+" "+boot]
}

// lines returns what was appended.
func (s *sink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.appended...)
}

func (s *sink) refusals() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.refused...)
}

var errDiskFull = errors.New("the journal stops")

// answers keeps what the sessions tell of commands, one line each.
type answers struct {
	mu    sync.Mutex
	all   []string
	ready func(session uint64) // what follows on readiness; nil: nothing
}

func (a *answers) add(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, fmt.Sprintf(format, args...))
}

func (a *answers) lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.all...)
}

func (a *answers) Answered(device string, session uint64, w wire.Answer) {
	a.add("answered %s %d %s %s%s %d", device, session, w.ID, w.Result, w.Fault, w.Code)
}

func (a *answers) Progressed(device string, session uint64, p wire.Progress) {
	a.add("progressed %s %d %s %s %v %s", device, session, p.ID, p.Status, p.Percent, p.Message)
}

func (a *answers) Pending(string) int { return 3 }

func (a *answers) SessionReady(device string, session uint64) {
	a.add("ready %s %d", device, session)
	a.mu.Lock()
	ready := a.ready
	a.mu.Unlock()
	if ready != nil {
		ready(session)
	}
}

func (a *answers) SessionEnded(device string, session uint64) { a.add("ended %s %d", device, session) }

// leaving is a devices.Leaving.
func (a *answers) leaving(_ context.Context, device, how string) { a.add("leaving %s %s", device, how) }

// logBuffer is where a hub's log goes.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// states keeps states in memory: a report is durable when settle says so.
type states struct {
	mu      sync.Mutex
	current wire.State
	reports []string
	waiting []func(version uint64, err error)
	refuse  error
}

func newStates() *states { return &states{current: wire.State{Desired: []byte("{}")}} }

func (s *states) Report(_ string, patch []byte, done func(version uint64, err error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	s.reports = append(s.reports, string(patch))
	s.waiting = append(s.waiting, done)
	return nil
}

func (s *states) State(string) wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *states) set(st wire.State) wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = st
	return st
}

// settle ends the reports that are under way, and says how many there were.
func (s *states) settle(version uint64, err error) int {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, done := range waiting {
		done(version, err)
	}
	return len(waiting)
}
