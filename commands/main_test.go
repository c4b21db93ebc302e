package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"telemetryhub/commands"
	"telemetryhub/feed"
	"telemetryhub/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bucket starts a real server with synchronous writes in the process, and makes the ledger's bucket.
func bucket(t testing.TB) jetstream.KeyValue {
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
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "commands", Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// open opens a ledger and closes it at the end of the test.
func open(t testing.TB, kv jetstream.KeyValue, r commands.Router) *commands.Service {
	t.Helper()
	return openWith(t, kv, r, commands.Config{})
}

// openWith is open with a configuration. What is connected in r is ready for commands.
func openWith(t testing.TB, kv jetstream.KeyValue, r commands.Router, cfg commands.Config) *commands.Service {
	t.Helper()
	if m, ok := kv.(*memory); ok {
		cfg.Batch = m
	}
	s, err := commands.Open(t.Context(), kv, r, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	if r, ok := r.(*router); ok {
		r.bind(s)
	}
	return s
}

func shut(t testing.TB, s *commands.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

var errGone = errors.New("the session is over")

// router is a Router whose devices are online as a test says, and which keeps what was sent.
type router struct {
	mu        sync.Mutex
	ledger    *commands.Service
	online    map[string]uint64
	fail      error
	sent      chan sending
	cancelled chan string        // ids that a device was asked to give up
	over      []string           // what it was told has ended
	before    func(wire.Command) // called before a command is taken
}

type sending struct {
	device  string
	session uint64
	cmd     wire.Command
}

func newRouter() *router {
	return &router{online: map[string]uint64{}, sent: make(chan sending, 100_000), cancelled: make(chan string, 100)}
}

// bind makes a ledger the one that is told who is ready. After an earlier one, all have new sessions.
func (r *router) bind(s *commands.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.ledger != nil
	r.ledger = s
	for device, session := range r.online {
		if again {
			session++
			r.online[device] = session
		}
		s.SessionReady(device, session)
	}
}

// connect gives a device a session that is ready for commands; session 0 takes it away, of which the test tells the
// ledger itself.
func (r *router) connect(device string, session uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if session == 0 {
		delete(r.online, device)
		return
	}
	r.online[device] = session
	if r.ledger != nil {
		r.ledger.SessionReady(device, session)
	}
}

// lose ends a device's session.
func (r *router) lose(device string) {
	r.mu.Lock()
	session, ledger := r.online[device], r.ledger
	delete(r.online, device)
	r.mu.Unlock()
	ledger.SessionEnded(device, session)
}

// reconnect ends a device's session and begins the next.
func (r *router) reconnect(device string) {
	r.mu.Lock()
	session := r.online[device]
	r.mu.Unlock()
	r.lose(device)
	r.connect(device, session+1)
}

// refuse makes every sending fail with err.
func (r *router) refuse(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *router) Ended(_ string, _ uint64, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = append(r.over, id)
}

func (r *router) Cancel(device string, session uint64, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.online[device] != session {
		return errGone
	}
	r.cancelled <- id
	return nil
}

func (r *router) Send(device string, session uint64, cmd wire.Command) error {
	if r.before != nil {
		r.before(cmd)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	if r.online[device] != session {
		return errGone
	}
	r.sent <- sending{device, session, cmd}
	return nil
}

// send sends one command that must be accepted.
func send(t *testing.T, s *commands.Service, r commands.Request) commands.Command {
	t.Helper()
	if r.Device == "" {
		r.Device = "d1"
	}
	if r.Method == "" {
		r.Method = "ping"
	}
	c, err := s.Send(t.Context(), r)
	if err != nil {
		t.Fatalf("Send: %v", err)
	}
	return c
}

// wantEnd waits for the command's end and checks its state and the cause of its last change.
func wantEnd(t *testing.T, s *commands.Service, id string, state commands.State, cause string) commands.Command {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := s.Wait(ctx, id)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	if got := c.History[len(c.History)-1].Cause; c.State != state || got != cause {
		t.Errorf("command ended %s (%q), want %s (%q)", c.State, got, state, cause)
	}
	return c
}

func result(id, text string) wire.Answer { return wire.Answer{ID: id, Result: json.RawMessage(text)} }

func fault(id string, code int, message string) wire.Answer {
	text, _ := json.Marshal(map[string]any{"code": code, "message": message})
	return wire.Answer{ID: id, Fault: text, Code: code}
}

// list returns a page of the ledger.
func list(t *testing.T, s *commands.Service, f commands.Filter) (page []commands.Command, next string) {
	t.Helper()
	page, next, err := s.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page, next
}

// next takes the next change of a feed.
func next(t *testing.T, f *feed.Feed[commands.Command]) commands.Command {
	t.Helper()
	select {
	case c := <-f.C():
		return c
	case <-time.After(time.Minute):
		t.Fatal("no change came")
		return commands.Command{}
	}
}
