package state_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"telemetryhub/backbone"
	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told keeps what devices were told.
type told struct {
	mu  sync.Mutex
	all []wire.State
}

func (t *told) Desire(_ string, s wire.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, s)
}

func (t *told) versions() (all []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.all {
		all = append(all, s.Version)
	}
	return all
}

// devices are those that exist.
type registered struct {
	mu  sync.Mutex
	ids map[string]bool
}

func newRegistered(ids ...string) *registered {
	r := &registered{ids: map[string]bool{}}
	for _, id := range ids {
		r.ids[id] = true
	}
	return r
}

func (r *registered) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[id]
}

func (r *registered) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ids, id)
}

// bucket is a real one, on a NATS of its own in dir.
func bucket(t *testing.T, dir string) jetstream.KeyValue {
	t.Helper()
	b, err := backbone.Open(t.Context(), backbone.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	kv, err := b.Bucket(t.Context(), backbone.States)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func open(t *testing.T, kv jetstream.KeyValue, to state.Receiver, known func(string) bool) *state.Documents {
	t.Helper()
	s, err := state.Open(t.Context(), kv, to, known, state.Config{MaxBytes: 4096}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// report reports and waits.
func report(t *testing.T, s *state.Documents, device, patch string) (uint64, error) {
	t.Helper()
	type outcome struct {
		version uint64
		err     error
	}
	ended := make(chan outcome, 1)
	if err := s.Report(device, []byte(patch), func(version uint64, err error) { ended <- outcome{version, err} }); err != nil {
		return 0, err
	}
	o := <-ended
	return o.version, o.err
}

func wantReport(t *testing.T, s *state.Documents, device, patch string, version uint64) {
	t.Helper()
	if got, err := report(t, s, device, patch); err != nil || got != version {
		t.Fatalf("report %s: version %d, %v; want %d", patch, got, err, version)
	}
}

func wantDesire(t *testing.T, s *state.Documents, device, patch string, version uint64) {
	t.Helper()
	d, err := s.Desire(t.Context(), device, []byte(patch), nil, "otto")
	if err != nil || d.Version != version {
		t.Fatalf("desire %s: version %d, %v; want %d", patch, d.Version, err, version)
	}
}

func wantJSON(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	var a, b any
	if want == "" {
		if got != nil {
			t.Errorf("%s is %s, want none", what, got)
		}
		return
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &a); err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("%s is %s, want %s (%v)", what, got, want, err)
	}
}
