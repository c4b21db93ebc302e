package rollouts_test

import (
	"context"
	"errors"
	"path"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// memory is a bucket in memory, for tests in virtual time: a real server's goroutines cannot run in it.
// It holds the part of jetstream.KeyValue that the ledger and the rollouts use, with the same errors.
type memory struct {
	jetstream.KeyValue
	*disk
	entries map[string]memoryEntry
	writes  map[string]int // by key
}

// disk is what buckets share: it can end, as a process does.
type disk struct {
	mu   sync.Mutex
	rev  uint64
	left int // writes until it is dead; negative: for ever
}

var errDead = errors.New("the process is dead")

type memoryEntry struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
	rev   uint64
}

func (e memoryEntry) Key() string      { return e.key }
func (e memoryEntry) Value() []byte    { return e.value }
func (e memoryEntry) Revision() uint64 { return e.rev }

func newMemories() (ledger, kv *memory) {
	d := &disk{left: -1}
	bucket := func() *memory {
		return &memory{disk: d, entries: map[string]memoryEntry{}, writes: map[string]int{}}
	}
	return bucket(), bucket()
}

// dieAfter has all writes fail but the next so many.
func (d *disk) dieAfter(writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = writes
}

func (d *disk) dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left == 0
}

func (m *memory) Create(_ context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return m.write(key, value, func(rev uint64) error {
		if rev != 0 {
			return jetstream.ErrKeyExists
		}
		return nil
	})
}

func (m *memory) Update(_ context.Context, key string, value []byte, last uint64) (uint64, error) {
	return m.write(key, value, func(rev uint64) error {
		if rev != last {
			return jetstream.ErrKeyRevisionMismatch
		}
		return nil
	})
}

func (m *memory) Put(_ context.Context, key string, value []byte) (uint64, error) {
	return m.write(key, value, func(uint64) error { return nil })
}

func (m *memory) write(key string, value []byte, conflict func(rev uint64) error) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return 0, errDead
	}
	if err := conflict(m.entries[key].rev); err != nil {
		return 0, err
	}
	if m.left > 0 {
		m.left--
	}
	m.rev++
	m.writes[key]++
	m.entries[key] = memoryEntry{key: key, value: slices.Clone(value), rev: m.rev}
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
	if m.left == 0 {
		return errDead
	}
	delete(m.entries, key)
	return nil
}

func (m *memory) PurgeDeletes(context.Context, ...jetstream.KVPurgeOpt) error { return nil }

func (m *memory) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.entries {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (m *memory) WatchAll(ctx context.Context, _ ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return m.Watch(ctx, "*")
}

// Watch takes a * for any text, as path.Match does: here no key has a slash.
func (m *memory) Watch(_ context.Context, pattern string, _ ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan jetstream.KeyValueEntry, len(m.entries)+1)
	for key, e := range m.entries {
		if ok, _ := path.Match(pattern, key); ok {
			c <- e
		}
	}
	c <- nil
	return memoryWatcher(c), nil
}

func (m *memory) ListKeys(context.Context, ...jetstream.WatchOpt) (jetstream.KeyLister, error) {
	keys := m.keys()
	c := make(chan string, len(keys))
	for _, key := range keys {
		c <- key
	}
	close(c)
	return memoryLister(c), nil
}

type memoryWatcher chan jetstream.KeyValueEntry

func (w memoryWatcher) Updates() <-chan jetstream.KeyValueEntry { return w }
func (w memoryWatcher) Error() <-chan error                     { return nil }
func (w memoryWatcher) Stop() error                             { return nil }

type memoryLister chan string

func (l memoryLister) Keys() <-chan string { return l }
func (l memoryLister) Error() <-chan error { return nil }
func (l memoryLister) Stop() error         { return nil }
