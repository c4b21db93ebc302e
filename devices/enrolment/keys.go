package enrolment

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/auth"
	"telemetryhub/devices"
)

// Errors of keys, for errors.Is.
var (
	ErrNotFound = errors.New("no such enrolment key")
	ErrTooMany  = fmt.Errorf("there are %d enrolment keys; remove some", MaxKeys)
)

// Registry makes the devices; devices.Registry is one.
type Registry interface {
	Get(id string) (devices.Device, bool)
	CreateEnrolled(ctx context.Context, d devices.Device) (devices.Device, string, error)
	EnrolAgain(ctx context.Context, id string, check func(*devices.Device) error) (devices.Device, string, error)
}

// Config joins the keys to the rest of the hub. All members but Alone are needed.
type Config struct {
	// Alone says that no other hub writes to the bucket: what a crash left half done can be taken back at once.
	Alone bool
	// Sign signs a device's request for a certificate, which counts once the registry has it. Its error is an
	// *auth.SigningRequestError where the request is to blame.
	Sign func(csr []byte, device string) (auth.IssuedCertificate, error)
	// Clear removes what may be left of a device that had this id, before another is made.
	Clear func(ctx context.Context, device string)
	// Ready says why enrolments cannot be recorded at present; nil: they can. Record is called with each one, before its
	// credentials are given, and returns when it is durable. Refused is called with those that are worth a word.
	Ready   func() error
	Record  func(ctx context.Context, e Event) error
	Refused func(e Event)
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Event is an enrolment, or one that was refused.
type Event struct {
	Key        Key // the zero Key if it is unknown
	Device     string
	Transport  string
	Remote     string
	Again      bool   // it had credentials before
	Cert       string // id of the certificate that it was given, if any
	Reason     string // of a refusal
	Message    string
	Suppressed uint64 // refusals before this one that no word was lost about
}

// Keys is all enrolment keys: a mirror in memory of a bucket.
type Keys struct {
	kv       jetstream.KeyValue
	registry Registry
	cfg      Config
	metrics  *metrics
	watcher  jetstream.KeyWatcher
	watching chan struct{}  // closed when the watch has ended
	writers  sync.WaitGroup // of lanes

	mu     sync.RWMutex
	byID   map[string]*lane
	byHash map[auth.Hash]*lane
	graves map[string]bool // ids of keys that were removed

	turns  turns
	all    refusalRate
	silent atomic.Uint64 // refusals that no word was lost about, since one was told
}

// Open reads the keys from their bucket and follows it until Close.
func Open(ctx context.Context, kv jetstream.KeyValue, registry Registry, cfg Config) (*Keys, error) {
	k := &Keys{
		kv: kv, registry: registry, cfg: cfg, watching: make(chan struct{}),
		byID: map[string]*lane{}, byHash: map[auth.Hash]*lane{}, graves: map[string]bool{},
		all: newRefusalRate(allRefusals, allRefusalEvery),
	}
	var err error
	if k.watcher, err = kv.WatchAll(context.WithoutCancel(ctx)); err != nil {
		return nil, fmt.Errorf("read the enrolment keys: %w", err)
	}
	for known := false; !known; {
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("read the enrolment keys: %w", ctx.Err()), k.watcher.Stop())
		case e := <-k.watcher.Updates():
			if known = e == nil; !known {
				k.take(e)
			}
		}
	}
	go func() {
		defer close(k.watching)
		for e := range k.watcher.Updates() {
			if e != nil {
				k.take(e)
			}
		}
	}()
	if k.metrics, err = newMetrics(k); err != nil {
		return nil, errors.Join(fmt.Errorf("enrolment keys: metrics: %w", err), k.Close(ctx))
	}
	if cfg.Alone {
		err = k.takeBack(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close(ctx))
	}
	return k, nil
}

// Close stops following the bucket, once what is being written is.
func (k *Keys) Close(context.Context) error {
	k.writers.Wait() // each write is bounded
	err := k.watcher.Stop()
	<-k.watching
	if k.metrics != nil {
		k.cfg.Metrics.Unregister(k.metrics)
	}
	return err
}

// takeBack ends the claims of a hub that was killed: nobody makes their devices any more.
func (k *Keys) takeBack(ctx context.Context) error {
	for _, l := range k.lanes() {
		key, _ := l.read()
		if len(key.Claims) == 0 {
			continue
		}
		err := l.change(ctx, func(key *Key) error {
			for _, c := range slices.Clone(key.Claims) {
				key.release(c) // those that were made are settled by now
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("take back unfinished enrolments: %w", err)
		}
	}
	return nil
}

// take applies one change of the bucket to the mirror.
func (k *Keys) take(e jetstream.KeyValueEntry) {
	if e.Operation() != jetstream.KeyValuePut {
		k.forget(e.Key())
		return
	}
	var key Key
	if json.Unmarshal(e.Value(), &key) != nil || key.ID != e.Key() {
		return // not written by a hub
	}
	k.keep(key, e.Revision())
}

func (k *Keys) keep(key Key, revision uint64) *lane {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.graves[key.ID] {
		return nil // ids are made once
	}
	l := k.byID[key.ID]
	if l == nil {
		l = &lane{keys: k, id: key.ID, hash: key.Hash, refused: map[string]uint64{}, rate: newRefusalRate(keyRefusals, keyRefusalEvery)}
		k.byID[key.ID], k.byHash[key.Hash] = l, l
	}
	l.keep(key, revision)
	return l
}

func (k *Keys) forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.graves[id] = true
	l := k.byID[id]
	if l == nil {
		return
	}
	l.mu.Lock()
	l.gone = true
	delete(k.byHash, l.hash)
	l.mu.Unlock()
	delete(k.byID, id)
}

func (k *Keys) lanes() []*lane {
	k.mu.RLock()
	defer k.mu.RUnlock()
	all := make([]*lane, 0, len(k.byID))
	for _, l := range k.byID {
		all = append(all, l)
	}
	return all
}

func (k *Keys) lane(id string) (*lane, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if l := k.byID[id]; l != nil {
		return l, nil
	}
	return nil, ErrNotFound
}

// find returns the key of that secret; nil if there is none.
func (k *Keys) find(secret string) *lane {
	hash := auth.HashToken(secret)
	k.mu.RLock()
	l := k.byHash[hash] // what the map's timing could tell is about the hash, and of no use without the key
	k.mu.RUnlock()
	if l == nil || !l.hash.Matches(secret) {
		return nil
	}
	return l
}

// List returns all keys, the oldest first.
func (k *Keys) List() []View {
	var all []View
	for _, l := range k.lanes() {
		all = append(all, l.view(k.registry))
	}
	slices.SortFunc(all, func(a, b View) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// Get returns one key. Errors: ErrNotFound.
func (k *Keys) Get(id string) (View, error) {
	l, err := k.lane(id)
	if err != nil {
		return View{}, err
	}
	return l.view(k.registry), nil
}

// Add makes a key and returns it with its secret, which is never shown again. Errors: *devices.InvalidError, ErrTooMany.
func (k *Keys) Add(ctx context.Context, t Terms, actor string) (View, string, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	if err := t.validate(); err != nil {
		return View{}, "", err
	}
	if !t.Expires.IsZero() && !t.Expires.After(now) {
		return View{}, "", &devices.InvalidError{Field: "expires", Message: "it is over already"}
	}
	if len(k.lanes()) >= MaxKeys {
		return View{}, "", ErrTooMany
	}
	secret, hash, err := auth.NewToken(auth.EnrolmentPrefix)
	if err != nil {
		return View{}, "", err
	}
	key := Key{ID: strings.ToLower(rand.Text()[:12]), Terms: t.clone(), Enabled: true, Created: now, Actor: actor, Hash: hash}
	value, err := json.Marshal(key)
	if err != nil {
		return View{}, "", fmt.Errorf("encode an enrolment key: %w", err)
	}
	revision, err := k.kv.Create(ctx, key.ID, value)
	if err != nil {
		return View{}, "", fmt.Errorf("write an enrolment key: %w", err)
	}
	return k.keep(key, revision).view(k.registry), secret, nil
}

// Change changes a key. Errors: ErrNotFound, *devices.InvalidError.
func (k *Keys) Change(ctx context.Context, id string, c Change) (View, error) {
	l, err := k.lane(id)
	if err == nil {
		err = l.change(ctx, c.apply)
	}
	if errors.Is(err, errGone) {
		err = ErrNotFound
	}
	if err != nil {
		return View{}, err
	}
	return l.view(k.registry), nil
}

// Remove removes a key. The devices that it enrolled stay. Errors: ErrNotFound.
func (k *Keys) Remove(ctx context.Context, id string) (View, error) {
	l, err := k.lane(id)
	if err != nil {
		return View{}, err
	}
	if err := k.kv.Delete(ctx, id); err != nil {
		return View{}, fmt.Errorf("remove enrolment key %s: %w", id, err)
	}
	k.forget(id)
	return l.view(k.registry), nil
}
