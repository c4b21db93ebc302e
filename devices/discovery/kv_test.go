package discovery_test

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// memoryKV is a bucket in memory, for synctest bubbles, where a real one cannot be: its goroutines are not in the
// bubble. Other methods than those below are not called; they would panic.
type memoryKV struct {
	jetstream.KeyValue

	mu       sync.Mutex
	values   map[string]memoryEntry
	revision uint64
	fail     error
	before   func() // of each write, without the lock
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
func (e memoryEntry) Operation() jetstream.KeyValueOp { return e.op }

func newMemoryKV() *memoryKV { return &memoryKV{values: map[string]memoryEntry{}} }

func (m *memoryKV) write(key string, value []byte, op jetstream.KeyValueOp, allowed func(e memoryEntry, ok bool) bool) (uint64, error) {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		before()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.values[key]
	switch {
	case m.fail != nil:
		return 0, m.fail
	case !allowed(e, ok && e.op == jetstream.KeyValuePut):
		return 0, jetstream.ErrKeyExists
	}
	m.revision++
	e = memoryEntry{key: key, value: append([]byte(nil), value...), revision: m.revision, op: op}
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
	return m.write(key, value, jetstream.KeyValuePut, func(memoryEntry, bool) bool { return true })
}

func (m *memoryKV) Create(_ context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return m.write(key, value, jetstream.KeyValuePut, func(_ memoryEntry, there bool) bool { return !there })
}

func (m *memoryKV) Delete(_ context.Context, key string, _ ...jetstream.KVDeleteOpt) error {
	_, err := m.write(key, nil, jetstream.KeyValueDelete, func(memoryEntry, bool) bool { return true })
	return err
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

	c    chan jetstream.KeyValueEntry
	once sync.Once
}

func (w *memoryWatcher) Updates() <-chan jetstream.KeyValueEntry { return w.c }

func (w *memoryWatcher) Stop() error {
	w.once.Do(func() { close(w.c) })
	return nil
}
