package rollouts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
	"telemetryhub/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buckets starts a real server with synchronous writes in the process, and makes the two buckets.
func buckets(t testing.TB) (ledger, kv jetstream.KeyValue) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: "test", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server did not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]jetstream.KeyValue{}
	for _, name := range []string{"commands", "rollouts"} {
		if made[name], err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: name, Storage: jetstream.FileStorage}); err != nil {
			t.Fatal(err)
		}
	}
	return made["commands"], made["rollouts"]
}

// behaviour is what a device does with a command.
type behaviour int

const (
	answers behaviour = iota
	fails             // answers with an error
	silent
)

// fleet is the devices of a test: registry, connections and the devices themselves, which count what they are sent.
type fleet struct {
	mu      sync.Mutex
	devices map[string]rollouts.Device
	offline map[string]bool
	does    map[string]behaviour
	ran     map[string]int // by device
	order   []string       // in which devices were sent something
	kept    []wire.Command // of silent ones
	ledger  *commands.Service
	session uint64
	disk    *disk // of tests in virtual time
	terms   func(commands.Request) (commands.Terms, error)
}

// Check implements commands.Catalogue.
func (f *fleet) Check(r commands.Request) (commands.Terms, error) {
	f.mu.Lock()
	terms := f.terms
	f.mu.Unlock()
	if terms == nil {
		return commands.Terms{Params: r.Params}, nil
	}
	return terms(r)
}

func newFleet(n int) *fleet {
	f := &fleet{devices: map[string]rollouts.Device{}, offline: map[string]bool{}, does: map[string]behaviour{}, ran: map[string]int{}}
	for i := range n {
		id := fmt.Sprintf("d%05d", i)
		f.devices[id] = rollouts.Device{ID: id, Enabled: true}
	}
	return f
}

// Devices implements rollouts.Fleet.
func (f *fleet) Devices() []rollouts.Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.devices))
}

// Find implements rollouts.Fleet.
func (f *fleet) Find(id string) (rollouts.Device, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.devices[id]
	return d, ok
}

// Online implements rollouts.Fleet.
func (f *fleet) Online(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.devices[id]
	return ok && !f.offline[id]
}

// router is the fleet as the ledger sees it.
type router struct{ *fleet }

// Ended implements commands.Router.
func (r router) Ended(string, uint64, string) {}

// Cancel implements commands.Router.
func (r router) Cancel(string, uint64, string) error { return nil }

// connect tells the ledger that those that are not offline are ready for commands, on new sessions.
func (f *fleet) connect() {
	f.mu.Lock()
	f.session++
	session, ledger := f.session, f.ledger
	var online []string
	for id := range f.devices {
		if !f.offline[id] {
			online = append(online, id)
		}
	}
	f.mu.Unlock()
	for _, id := range online {
		ledger.SessionReady(id, session)
	}
}

// Send implements commands.Router.
func (r router) Send(device string, session uint64, cmd wire.Command) error {
	r.mu.Lock()
	r.ran[device]++
	r.order = append(r.order, device)
	does, ledger := r.does[device], r.ledger
	if does == silent {
		r.kept = append(r.kept, cmd)
	}
	r.mu.Unlock()
	switch does {
	case answers:
		ledger.Answered(device, session, wire.Answer{ID: cmd.ID, Result: json.RawMessage(`true`)})
	case fails:
		ledger.Answered(device, session, wire.Answer{ID: cmd.ID, Code: -32000, Fault: json.RawMessage(`{"code":-32000,"message":"no"}`)})
	}
	return nil
}

// set has devices behave so from now on.
func (f *fleet) set(does behaviour, devices ...int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range devices {
		f.does[fmt.Sprintf("d%05d", d)] = does
	}
}

func (f *fleet) sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.order)
}

// wantOnce fails the test if a device was sent more than one command.
func (f *fleet) wantOnce(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for device, n := range f.ran {
		if n > 1 {
			t.Errorf("%s was sent the command %d times", device, n)
		}
	}
}

// hub is a ledger with its rollouts.
type hub struct {
	ledger *commands.Service
	*rollouts.Service
}

func open(t testing.TB, ledger, kv jetstream.KeyValue, f *fleet, cfg rollouts.Config) *hub {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := commands.Open(t.Context(), ledger, router{f}, commands.Config{Catalogue: f}, log)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.ledger = l
	f.mu.Unlock()
	f.connect()
	s, err := rollouts.Open(t.Context(), kv, l, f, cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{ledger: l, Service: s}
	t.Cleanup(func() { h.shut(t, 10*time.Second) })
	return h
}

// shut closes both within the time; what cannot be written is lost.
func (h *hub) shut(t testing.TB, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
	defer cancel()
	_ = h.Close(ctx)
	_ = h.ledger.Close(ctx)
}

// create makes a rollout that must be taken; ping to all unless the request says otherwise.
func (h *hub) create(t testing.TB, r rollouts.Request) rollouts.Rollout {
	t.Helper()
	if r.Method == "" {
		r.Method = "ping"
	}
	if r.To.String() == "" {
		r.To.All = true
	}
	made, err := h.Create(t.Context(), r)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	return made
}

// until waits for the rollout's state.
func (h *hub) until(t testing.TB, id string, states ...rollouts.State) rollouts.Rollout {
	t.Helper()
	feed := h.Subscribe(1000)
	defer feed.Close()
	for range 10_000 {
		r, err := h.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(states, r.State) {
			return r
		}
		select {
		case <-feed.C():
		case <-time.After(time.Minute):
			t.Fatalf("rollout is %s (%s), want %s: %v", r.State, r.Waiting, states, r.Counts)
		}
	}
	t.Fatal("too many views")
	return rollouts.Rollout{}
}

func wantCounts(t *testing.T, r rollouts.Rollout, want map[rollouts.Outcome]int) {
	t.Helper()
	if !maps.Equal(r.Counts, want) {
		t.Errorf("rollout %s has %v, want %v", r.State, r.Counts, want)
	}
}

func sizes(t *testing.T, texts ...string) (s []rollouts.Amount) {
	t.Helper()
	for _, text := range texts {
		s = append(s, amount(t, text))
	}
	return s
}

func amount(t *testing.T, text string) rollouts.Amount {
	t.Helper()
	a, err := rollouts.ParseAmount(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// closing is how long a hub may take to close.
const closing = 10 * time.Second

// answerKept has the silent devices answer what they were sent.
func (f *fleet) answerKept() {
	f.mu.Lock()
	kept := f.kept
	f.kept = nil
	ledger := f.ledger
	f.mu.Unlock()
	for _, cmd := range kept {
		c, err := ledger.Get(cmd.ID)
		if err == nil {
			ledger.Answered(c.Device, 1, wire.Answer{ID: cmd.ID, Result: json.RawMessage(`true`)})
		}
	}
}
