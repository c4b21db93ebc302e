package devices_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// memoryKV is a bucket in memory, for synctest bubbles, where a real one cannot be: its goroutines are not in the
// bubble. Other methods than those below are not called; they would panic.
type memoryKV struct {
	jetstream.KeyValue

	mu       sync.Mutex
	values   map[string]memoryEntry
	revision uint64
	puts     int
	fail     error
	watchers []*memoryWatcher
}

type memoryEntry struct {
	jetstream.KeyValueEntry

	key      string
	value    []byte
	revision uint64
	op       jetstream.KeyValueOp
}

func (e memoryEntry) Key() string                     { return e.key }
func (e memoryEntry) Value() []byte                   { return e.value }
func (e memoryEntry) Revision() uint64                { return e.revision }
func (e memoryEntry) Created() time.Time              { return time.Time{} }
func (e memoryEntry) Operation() jetstream.KeyValueOp { return e.op }

func newMemoryKV() *memoryKV { return &memoryKV{values: map[string]memoryEntry{}} }

func (m *memoryKV) store(key string, value []byte, op jetstream.KeyValueOp) (uint64, error) {
	if m.fail != nil {
		return 0, m.fail
	}
	m.revision++
	m.puts++
	e := memoryEntry{key: key, value: append([]byte(nil), value...), revision: m.revision, op: op}
	m.values[key] = e
	for _, w := range m.watchers {
		w.c <- e
	}
	return m.revision, nil
}

func (m *memoryKV) Get(_ context.Context, key string) (jetstream.KeyValueEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.values[key]
	if !ok || e.op != jetstream.KeyValuePut {
		return nil, jetstream.ErrKeyNotFound
	}
	return e, nil
}

func (m *memoryKV) Put(_ context.Context, key string, value []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.store(key, value, jetstream.KeyValuePut)
}

func (m *memoryKV) Create(_ context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.values[key]; ok && e.op == jetstream.KeyValuePut {
		return 0, jetstream.ErrKeyExists
	}
	return m.store(key, value, jetstream.KeyValuePut)
}

func (m *memoryKV) Update(_ context.Context, key string, value []byte, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values[key].revision != revision {
		return 0, jetstream.ErrKeyExists
	}
	return m.store(key, value, jetstream.KeyValuePut)
}

func (m *memoryKV) Delete(_ context.Context, key string, _ ...jetstream.KVDeleteOpt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.store(key, nil, jetstream.KeyValueDelete)
	return err
}

func (m *memoryKV) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	return m.Delete(ctx, key, opts...)
}

// PutAll is a devices.Batch of a NATS that has none.
func (m *memoryKV) PutAll(context.Context, []string, [][]byte, []uint64) (uint64, error) {
	return 0, errors.New("no batches")
}

// putCount returns how many values were written.
func (m *memoryKV) putCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.puts
}

func (m *memoryKV) breakWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memoryKV) WatchAll(context.Context, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &memoryWatcher{c: make(chan jetstream.KeyValueEntry, 100_000)}
	for _, e := range m.values {
		w.c <- e
	}
	w.c <- nil
	m.watchers = append(m.watchers, w)
	return w, nil
}

type memoryWatcher struct {
	jetstream.KeyWatcher

	c chan jetstream.KeyValueEntry
}

func (w *memoryWatcher) Updates() <-chan jetstream.KeyValueEntry { return w.c }

func (w *memoryWatcher) Stop() error {
	close(w.c)
	return nil
}

// WatchAll lets each change through when it is told to.
func (l *lateKV) WatchAll(ctx context.Context, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	w, err := l.memoryKV.WatchAll(ctx, opts...)
	if err != nil {
		return nil, err
	}
	out := make(chan jetstream.KeyValueEntry)
	go func() {
		defer close(out)
		for e := range w.Updates() {
			if e != nil {
				<-l.late
			}
			out <- e
			if e != nil {
				l.passed <- struct{}{}
			}
		}
	}()
	return &lateWatcher{KeyWatcher: w, out: out}, nil
}

type lateWatcher struct {
	jetstream.KeyWatcher

	out chan jetstream.KeyValueEntry
}

func (w *lateWatcher) Updates() <-chan jetstream.KeyValueEntry { return w.out }
