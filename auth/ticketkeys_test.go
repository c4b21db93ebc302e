package auth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/auth"
)

func openTicketKeys(t *testing.T, kv jetstream.KeyValue) *auth.TicketKeys {
	t.Helper()
	keys, err := auth.OpenTicketKeys(t.Context(), kv, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestSessionIsResumedAtAnotherHub: the second hub begins with nothing but the bucket and the files, as after a restart,
// or on another node.
func TestSessionIsResumedAtAnotherHub(t *testing.T) {
	kv, dir := openBucket(t), t.TempDir()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(1)
		for i, want := range []bool{false, true, true} {
			certificates := openCertificates(t, dir, auth.TLSConfig{})
			config := certificates.ServerTLS()
			openTicketKeys(t, kv).Use(config)
			config = config.Clone() // as http.Server does
			client := &tls.Config{RootCAs: pool(t, certificates.CAPEM()), ServerName: "localhost", MaxVersion: version, ClientSessionCache: cache}
			state, err := dial(t, "127.0.0.1", serveTLS(t, config), client)
			if err != nil {
				t.Fatal(err)
			}
			if state.DidResume != want {
				t.Errorf("%s, hub %d: resumed = %v", tls.VersionName(version), i+1, state.DidResume)
			}
			if s := certificates.Status(); s.Resumed+s.Full != 1 || s.Resumed == 1 != want {
				t.Errorf("counted %+v", s)
			}
		}
	}
	names, err := kv.Keys(t.Context())
	if err != nil || len(names) > 2 { // 2 if midnight came in between
		t.Errorf("keys %v, %v", names, err)
	}
}

// TestTicketKeysOverDays: a day's key is used for that day, and taken for a week more.
func TestTicketKeysOverDays(t *testing.T) {
	state := sessionState(t)
	synctest.Test(t, func(t *testing.T) {
		session := func(t *testing.T) *tls.SessionState {
			t.Helper()
			s, err := tls.ParseSessionState(state)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		kv := &memoryBucket{values: map[string][]byte{}}
		first := &tls.Config{}
		keys := openTicketKeys(t, kv)
		keys.Use(first)
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer close(ended); keys.Run(ctx) }()
		defer func() { cancel(); <-ended }()

		ticket, err := first.WrapSession(tls.ConnectionState{}, session(t))
		if err != nil {
			t.Fatal(err)
		}
		known := func() bool {
			s, err := first.UnwrapSession(ticket, tls.ConnectionState{})
			return s != nil && err == nil
		}
		for age := range 10 {
			synctest.Wait()
			if want := age <= 8; known() != want {
				t.Errorf("after %d days the ticket's key is known: %v", age, known())
			}
			if other := openTicketKeys(t, kv); age > 0 {
				config := &tls.Config{}
				other.Use(config)
				if s, _ := config.UnwrapSession(ticket, tls.ConnectionState{}); (s != nil) != (age <= 8) {
					t.Errorf("after %d days another hub knows the key: %v", age, s != nil)
				}
				now, err := config.WrapSession(tls.ConnectionState{}, session(t))
				if err != nil {
					t.Fatal(err)
				}
				if s, _ := first.UnwrapSession(now, tls.ConnectionState{}); s == nil {
					t.Errorf("after %d days one hub does not know the other's tickets", age)
				}
			}
			time.Sleep(day)
		}
		synctest.Wait()
		if len(kv.values) != 11 {
			t.Errorf("%d keys in 11 days", len(kv.values))
		}
		// The bucket is away: the key of the day before goes on, and a new one is made as soon as it is back.
		kv.fail(true)
		time.Sleep(day)
		synctest.Wait()
		if _, err := first.WrapSession(tls.ConnectionState{}, session(t)); err != nil {
			t.Error(err)
		}
		kv.fail(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(kv.values) != 12 {
			t.Errorf("%d keys after the bucket is back", len(kv.values))
		}
	})
}

// sessionState shakes hands and returns what a ticket of it holds.
func sessionState(t *testing.T) (state []byte) {
	t.Helper()
	certificates := openCertificates(t, t.TempDir(), auth.TLSConfig{})
	config := certificates.ServerTLS()
	wrapped := make(chan []byte, 1)
	config.WrapSession = func(_ tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		b, err := s.Bytes()
		wrapped <- b
		return []byte("ticket"), err
	}
	if _, err := dial(t, "localhost", serveTLS(t, config), &tls.Config{RootCAs: pool(t, certificates.CAPEM()), ClientSessionCache: tls.NewLRUClientSessionCache(1)}); err != nil {
		t.Fatal(err)
	}
	return <-wrapped
}

// memoryBucket is a bucket in memory, for bubbles of virtual time.
type memoryBucket struct {
	jetstream.KeyValue

	mu     sync.Mutex
	values map[string][]byte
	away   error
}

type memoryValue struct {
	jetstream.KeyValueEntry

	value []byte
}

func (v memoryValue) Value() []byte { return v.value }

func (b *memoryBucket) fail(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = nil
	if away {
		b.away = errors.New("nobody answers")
	}
}

func (b *memoryBucket) Get(_ context.Context, key string) (jetstream.KeyValueEntry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	value, ok := b.values[key]
	if !ok && b.away == nil {
		return nil, jetstream.ErrKeyNotFound
	}
	return memoryValue{value: value}, b.away
}

func (b *memoryBucket) Create(_ context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.values[key]; ok {
		return 0, jetstream.ErrKeyExists
	}
	b.values[key] = slices.Clone(value)
	return 1, nil
}

func (b *memoryBucket) Keys(context.Context, ...jetstream.WatchOpt) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.values)), b.away
}
