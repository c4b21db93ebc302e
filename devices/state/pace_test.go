package state_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/devices/state"
)

// memory is a bucket in memory, for synctest bubbles, in which a real server's goroutines cannot run. It holds the part
// of jetstream.KeyValue that the package uses, with the same errors.
type memory struct {
	jetstream.KeyValue
	mu      sync.Mutex
	entries map[string]memoryEntry
	rev     uint64
	writes  int
	fail    error
	updates chan jetstream.KeyValueEntry
}

type memoryEntry struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
	rev   uint64
}

func (e memoryEntry) Key() string                     { return e.key }
func (e memoryEntry) Value() []byte                   { return e.value }
func (e memoryEntry) Revision() uint64                { return e.rev }
func (e memoryEntry) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

func newMemory() *memory {
	m := &memory{entries: map[string]memoryEntry{}, updates: make(chan jetstream.KeyValueEntry, 1)}
	m.updates <- nil
	return m
}

func (m *memory) WatchAll(context.Context, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return m, nil
}
func (m *memory) Updates() <-chan jetstream.KeyValueEntry { return m.updates }
func (m *memory) Stop() error                             { close(m.updates); return nil }

func (m *memory) Create(_ context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return m.put(key, value, 0)
}

func (m *memory) Update(_ context.Context, key string, value []byte, rev uint64) (uint64, error) {
	return m.put(key, value, rev)
}

func (m *memory) put(key string, value []byte, rev uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	if m.entries[key].rev != rev {
		return 0, jetstream.ErrKeyExists
	}
	m.rev++
	m.writes++
	m.entries[key] = memoryEntry{key: key, value: slices.Clone(value), rev: m.rev}
	return m.rev, nil
}

func (m *memory) Get(_ context.Context, key string) (jetstream.KeyValueEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries[key]; ok {
		return e, nil
	}
	return nil, jetstream.ErrKeyNotFound
}

func (m *memory) failWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memory) written() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// inBubble runs a test in virtual time, with documents on a bucket in memory.
func inBubble(t *testing.T, test func(t *testing.T, s *state.Documents, m *memory)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s, err := state.Open(t.Context(), m, &told{}, func(string) bool { return true }, state.Config{MaxBytes: 4096}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, m)
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A device that reports in a loop costs ten writes a second, loses nothing, and holds up nobody else.
func TestLoopingDeviceIsPaced(t *testing.T) {
	inBubble(t, func(t *testing.T, s *state.Documents, m *memory) {
		began := time.Now()
		var under, most int
		var mu sync.Mutex
		ended := func(_ uint64, err error) {
			mu.Lock()
			defer mu.Unlock()
			under--
			if err != nil {
				t.Error(err)
			}
		}
		const reports = 10_000
		for n := range reports {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			if err := s.Report("loop", fmt.Appendf(nil, `{"n":%d}`, n), ended); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if writes := m.written(); writes < 95 || writes > 115 {
			t.Errorf("%d reports in %v were %d writes, want 10 and 10 a second", reports, time.Since(began), writes)
		}
		if most < 90 || most > 110 {
			t.Errorf("at most %d reports were under way, want those of 100 ms", most)
		}
		// Another device, and an operator, do not wait.
		at := time.Now()
		wantReport(t, s, "calm", `{"a":1}`, 1)
		if _, err := s.Desire(t.Context(), "loop", []byte(`{"stop":true}`), nil, "otto"); err != nil {
			t.Error(err)
		}
		if waited := time.Since(at); waited > 0 {
			t.Errorf("others waited %v", waited)
		}
		synctest.Wait()
		wantJSON(t, "reported", s.Get("loop").Reported, fmt.Sprintf(`{"n":%d}`, reports-1))
		if under != 0 {
			t.Errorf("%d reports have no answer, though an operator's change took them along", under)
		}
	})
}

// While the bucket cannot be written, reports wait and an operator is told.
func TestBucketIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, s *state.Documents, m *memory) {
		m.failWith(errors.New("no room"))
		ended := make(chan uint64, 1)
		if err := s.Report("d", []byte(`{"a":1}`), func(version uint64, err error) {
			if err != nil {
				t.Error(err)
			}
			ended <- version
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Desire(t.Context(), "e", []byte(`{"a":1}`), nil, "otto"); !errors.Is(err, state.ErrUncertain) {
			t.Errorf("desire: %v", err)
		}
		time.Sleep(time.Minute)
		select {
		case <-ended:
			t.Error("a report was answered that is not durable")
		default:
		}
		m.failWith(nil)
		if version := <-ended; version != 1 {
			t.Errorf("version %d", version)
		}
	})
}

// A change that no writer has taken by the time its caller goes is not made.
func TestWithdrawnChange(t *testing.T) {
	inBubble(t, func(t *testing.T, s *state.Documents, m *memory) {
		wantReport(t, s, "d", `{"a":1}`, 1)
		m.failWith(errors.New("no room"))
		if err := s.Report("d", []byte(`{"a":2}`), func(uint64, error) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // by now it is tried each few seconds
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Desire(ctx, "d", []byte(`{"b":1}`), nil, "otto")
		if !errors.Is(err, state.ErrNotMade) {
			t.Errorf("desire: %v", err)
		}
		m.failWith(nil)
		time.Sleep(time.Minute)
		wantJSON(t, "desired", s.Get("d").Desired, `{}`)
		wantJSON(t, "reported", s.Get("d").Reported, `{"a":2}`)
	})
}
