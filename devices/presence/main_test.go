package presence_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"telemetryhub/devices"
	"telemetryhub/devices/presence"
	"telemetryhub/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet stands for the sessions: what is known of devices, and the feed of its changes.
type fleet struct {
	mu      sync.Mutex
	version uint64
	written uint64
	held    bool   // the bucket is not written
	asked   func() // called when ChangedSince is, if not nil
	known   map[string]devices.Presence
	feeds   feed.Feeds[devices.PresenceChange]
}

func newFleet() *fleet {
	return &fleet{version: 1000, written: 1000, known: map[string]devices.Presence{}}
}

func (f *fleet) Subscribe(buffer int) *feed.Feed[devices.PresenceChange] {
	return f.feeds.Subscribe(buffer)
}

func (f *fleet) Presence(device string) devices.Presence {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[device]
}

func (f *fleet) Written() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written
}

func (f *fleet) ChangedSince(version uint64) (found []devices.Changed, newest uint64) {
	if f.asked != nil {
		f.asked()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for device, p := range f.known {
		if p.Version > version {
			found = append(found, devices.Changed{Device: device, Version: p.Version})
		}
	}
	slices.SortFunc(found, func(a, b devices.Changed) int { return cmp.Compare(a.Version, b.Version) })
	return found, f.version
}

// change makes a device come or go.
func (f *fleet) change(device string, online bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	now := time.Now()
	p := f.known[device]
	p.Online, p.Version, p.Transport = online, f.version, "wss"
	if online {
		p.Session, p.ConnectedAt = f.version, now
	} else {
		p.DisconnectedAt, p.Cause = now, "gone"
	}
	f.known[device] = p
	if !f.held {
		f.written = f.version
	}
	f.feeds.Publish(devices.PresenceChange{Device: device, Version: p.Version, At: now, Presence: p})
}

// hold keeps what changes from the bucket; write lets it in.
func (f *fleet) hold(held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held = held; !held {
		f.written = f.version
	}
}

// receiver is told; what it answers is the test's.
type receiver struct {
	mu      sync.Mutex
	told    []presence.Change
	calls   []time.Time
	sizes   []int
	dropped uint64
	answer  func(try int) error // nil: it takes all
}

func (r *receiver) Tell(ctx context.Context, changes []presence.Change, dropped uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls, r.sizes = append(r.calls, time.Now()), append(r.sizes, len(changes))
	if r.answer != nil {
		if err := r.answer(len(r.calls)); err != nil {
			return err
		}
	}
	r.told = append(r.told, changes...)
	r.dropped += dropped
	return ctx.Err()
}

// says returns what was told, as "device+" and "device-".
func (r *receiver) says() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	words := make([]string, len(r.told))
	for i, c := range r.told {
		words[i] = c.Device + map[bool]string{true: "+", false: "-"}[c.Online]
	}
	return strings.Join(words, " ")
}

// check holds what is promised of the order, and returns how often each change was told.
func (r *receiver) check(t *testing.T) map[string]int {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	last, often := map[string]uint64{}, map[string]int{}
	for _, c := range r.told {
		if c.Version < last[c.Device] {
			t.Errorf("%s: version %d is told after %d", c.Device, c.Version, last[c.Device])
		}
		last[c.Device] = c.Version
		often[fmt.Sprint(c.Device, " ", c.Version)]++
	}
	return often
}

// bucket is what a follower keeps in the presence bucket.
type bucket struct {
	jetstream.KeyValue
	mu     sync.Mutex
	values map[string][]byte
	writes int
}

func newBucket() *bucket { return &bucket{values: map[string][]byte{}} }

type bucketEntry struct {
	jetstream.KeyValueEntry
	value []byte
}

func (e bucketEntry) Value() []byte { return e.value }

func (b *bucket) Get(_ context.Context, key string) (jetstream.KeyValueEntry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	value, ok := b.values[key]
	if !ok {
		return nil, jetstream.ErrKeyNotFound
	}
	return bucketEntry{value: value}, nil
}

func (b *bucket) Put(_ context.Context, key string, value []byte) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	b.values[key] = value
	return uint64(b.writes), nil
}

// scene is a follower between a fleet and a receiver.
type scene struct {
	*fleet
	*receiver
	t        *testing.T
	bucket   *bucket
	cfg      presence.Config
	follower *presence.Follower
}

// play runs a scene in a bubble of virtual time.
func play(t *testing.T, cfg presence.Config, script func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{fleet: newFleet(), receiver: &receiver{}, t: t, bucket: newBucket(), cfg: cfg}
		s.cfg.Name, s.cfg.Receiver = "webhook", cmp.Or(cfg.Receiver, "https://one")
		s.cfg.Batch, s.cfg.Wait, s.cfg.Queue = cmp.Or(cfg.Batch, 500), cmp.Or(cfg.Wait, time.Second), cmp.Or(cfg.Queue, 20_000)
		s.follow()
		script(s)
		s.close()
	})
}

func (s *scene) follow() {
	s.t.Helper()
	f, err := presence.Follow(s.t.Context(), s.cfg, s.fleet, s.receiver, s.bucket, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	s.follower = f
}

func (s *scene) close() {
	if s.follower != nil {
		_ = s.follower.Close(s.t.Context())
		s.follower = nil
	}
}

// crash ends the follower as a kill would: what it had not written is gone.
func (s *scene) crash() {
	s.bucket.mu.Lock()
	before := maps.Clone(s.bucket.values)
	s.bucket.mu.Unlock()
	s.answers(func(int) error { return errAway })
	s.close()
	s.answers(nil)
	s.bucket.mu.Lock()
	s.bucket.values = before
	s.bucket.mu.Unlock()
}

func (s *scene) answers(answer func(try int) error) {
	s.receiver.mu.Lock()
	defer s.receiver.mu.Unlock()
	s.answer = answer
}

func (s *scene) forget() {
	s.receiver.mu.Lock()
	defer s.receiver.mu.Unlock()
	s.told, s.calls, s.sizes, s.dropped = nil, nil, nil, 0
}

// after lets time pass and everything come to rest.
func (s *scene) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *scene) wantTold(want string) {
	s.t.Helper()
	if got := s.says(); got != want {
		s.t.Errorf("told %q, want %q", got, want)
	}
}

var errAway = errors.New("it is away")
