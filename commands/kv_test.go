package commands_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// memory is a bucket in memory, for tests in virtual time: a real server's goroutines cannot run in it.
// It holds the part of jetstream.KeyValue that the ledger uses, with the same errors.
type memory struct {
	jetstream.KeyValue
	mu      sync.Mutex
	entries map[string]memoryEntry
	rev     uint64
	fail    func(key string) error // asked before each write
	landed  func(key string) error // asked after each write: an error means written, but unheard
	writes  int
	refused error // why a batch fails; nil: it does not
	unheard bool  // it fails after it was written
}

type memoryEntry struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
	rev   uint64
}

func (e memoryEntry) Key() string      { return e.key }
func (e memoryEntry) Value() []byte    { return e.value }
func (e memoryEntry) Revision() uint64 { return e.rev }

func newMemory() *memory { return &memory{entries: map[string]memoryEntry{}} }

func (m *memory) Create(_ context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return m.put(key, value, 0, jetstream.ErrKeyExists)
}

func (m *memory) Update(_ context.Context, key string, value []byte, rev uint64) (uint64, error) {
	return m.put(key, value, rev, jetstream.ErrKeyRevisionMismatch)
}

func (m *memory) put(key string, value []byte, rev uint64, conflict error) (uint64, error) {
	m.mu.Lock()
	fail := m.fail
	m.mu.Unlock()
	if fail != nil { // without the lock: it may wait
		if err := fail(key); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries[key].rev != rev {
		return 0, conflict
	}
	m.rev++
	m.writes++
	m.entries[key] = memoryEntry{key: key, value: slices.Clone(value), rev: m.rev}
	if m.landed != nil {
		if err := m.landed(key); err != nil {
			return 0, err
		}
	}
	return m.rev, nil
}

func (m *memory) Get(_ context.Context, key string) (jetstream.KeyValueEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	if !ok {
		return nil, jetstream.ErrKeyNotFound
	}
	return e, nil
}

func (m *memory) Purge(_ context.Context, key string, _ ...jetstream.KVDeleteOpt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
	return nil
}

func (m *memory) PurgeDeletes(context.Context, ...jetstream.KVPurgeOpt) error { return nil }

func (m *memory) WatchAll(context.Context, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan jetstream.KeyValueEntry, len(m.entries)+1)
	for _, e := range m.entries {
		c <- e
	}
	c <- nil
	return memoryWatcher(c), nil
}

func (m *memory) ListKeys(context.Context, ...jetstream.WatchOpt) (jetstream.KeyLister, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan string, len(m.entries))
	for key := range maps.Keys(m.entries) {
		c <- key
	}
	close(c)
	return memoryLister(c), nil
}

// PutAll implements commands.Batch.
func (m *memory) PutAll(_ context.Context, keys []string, values [][]byte, revisions []uint64) (uint64, error) {
	m.mu.Lock()
	fail := m.fail
	m.mu.Unlock()
	for _, key := range keys {
		if fail != nil {
			if err := fail(key); err != nil {
				return 0, err
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused != nil && !m.unheard {
		return 0, m.refused
	}
	for i, key := range keys {
		if m.entries[key].rev != revisions[i] {
			return 0, jetstream.ErrKeyRevisionMismatch
		}
	}
	for i, key := range keys {
		m.rev++
		m.writes++
		m.entries[key] = memoryEntry{key: key, value: slices.Clone(values[i]), rev: m.rev}
	}
	if m.landed != nil {
		if err := m.landed(keys[0]); err != nil {
			return 0, err
		}
	}
	return m.rev, m.refused
}

// refuseBatches has each batch fail, with unheard after it was written.
func (m *memory) refuseBatches(err error, unheard bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused, m.unheard = err, unheard
}

// record is what the bucket holds under a key.
func (m *memory) record(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[key].value
}

func (m *memory) setFail(fail func(string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

type memoryWatcher chan jetstream.KeyValueEntry

func (w memoryWatcher) Updates() <-chan jetstream.KeyValueEntry { return w }
func (w memoryWatcher) Stop() error                             { return nil }

type memoryLister chan string

func (l memoryLister) Keys() <-chan string { return l }
func (l memoryLister) Stop() error         { return nil }

var _ jetstream.KeyValue = (*memory)(nil)

func age(d time.Duration) time.Time { return time.Now().Add(-d) }
