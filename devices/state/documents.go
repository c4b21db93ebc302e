package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/feed"
	"telemetryhub/wire"
)

// Receiver tells a device of its desired state, if it is connected here. It may be told versions out of order and twice;
// it does not block.
type Receiver interface {
	Desire(device string, s wire.State)
}

// Bounds of Config.MaxBytes. A record with both halves, their times and its history stays below the 1 MiB that a NATS
// message holds.
const (
	DefaultMaxBytes = 32 << 10
	LeastMaxBytes   = 1 << 10
	MostMaxBytes    = 64 << 10
)

// Config is what an operator sets.
type Config struct {
	MaxBytes int // of each half of a document, as JSON without white space
}

// Documents is the state of all devices: a mirror in memory of a bucket.
type Documents struct {
	kv       jetstream.KeyValue
	receiver Receiver
	known    func(device string) bool
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	feeds    feed.Feeds[Update]
	watcher  jetstream.KeyWatcher

	mu       sync.Mutex
	byDevice map[string]*document
	bytes    int                 // of the texts in byDevice
	changes  map[string]*changes // devices with changes under way
	queue    []*changes          // those that a writer may take, each once
	work     *sync.Cond
	closed   bool

	group  sync.WaitGroup // writers and the watch
	ctx    context.Context
	cancel context.CancelFunc // gives up the bucket
}

// document is one device's state as it is durable.
type document struct {
	record
	revision uint64 // of the bucket
	// pace is when a device that wrote at perSecond from the beginning would have written what it wrote, Unix ns (the
	// generic cell rate algorithm, ITU-T I.371).
	pace int64
}

func (d *document) size() int {
	return len(d.Desired.Doc) + len(d.Desired.Times) + len(d.Reported.Doc) + len(d.Reported.Times)
}

// Open reads the states from their bucket and follows it until Close. known says whether a device exists.
func Open(ctx context.Context, kv jetstream.KeyValue, to Receiver, known func(device string) bool, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Documents, error) {
	s := &Documents{
		kv: kv, receiver: to, known: known, cfg: cfg, log: log,
		byDevice: map[string]*document{}, changes: map[string]*changes{},
	}
	s.work = sync.NewCond(&s.mu)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.load(ctx); err != nil {
		s.cancel()
		return nil, fmt.Errorf("read the states of devices: %w", err)
	}
	var err error
	if s.metrics, err = newMetrics(reg, s); err != nil {
		s.cancel()
		return nil, errors.Join(fmt.Errorf("states of devices: register metrics: %w", err), s.watcher.Stop())
	}
	s.group.Go(s.follow)
	for range writers {
		s.group.Go(s.writeLoop)
	}
	return s, nil
}

func (s *Documents) load(ctx context.Context) (err error) {
	if s.watcher, err = s.kv.WatchAll(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.watcher.Stop())
		case e, ok := <-s.watcher.Updates():
			if !ok {
				return errors.New("the watch ended")
			}
			if e == nil { // all that was there
				return nil
			}
			s.take(e)
		}
	}
}

func (s *Documents) follow() {
	for e := range s.watcher.Updates() {
		if e != nil {
			s.take(e)
		}
	}
}

// take applies one change of the bucket to the mirror.
func (s *Documents) take(e jetstream.KeyValueEntry) {
	if e.Operation() != jetstream.KeyValuePut {
		s.drop(deviceOf(e.Key()), e.Revision())
		return
	}
	r, err := decodeRecord(e.Value())
	if err != nil || keyOf(r.Device) != e.Key() {
		s.log.Error("a device's state cannot be read", "key", e.Key(), "err", err)
		return
	}
	s.keep(r, e.Revision())
}

// keep makes a durable record what readers see, and tells who wants to know, unless a newer one is there.
func (s *Documents) keep(r record, revision uint64) {
	r.History = nil
	s.mu.Lock()
	d, ok := s.byDevice[r.Device]
	if !ok {
		d = &document{}
		s.byDevice[r.Device] = d
	}
	if d.revision >= revision {
		s.mu.Unlock()
		return
	}
	before := d.record
	s.bytes -= d.size()
	d.record, d.revision = r, revision
	s.bytes += d.size()
	loading := s.metrics == nil
	s.mu.Unlock()
	if loading {
		return
	}
	view := r.view()
	s.feeds.Publish(Update{
		Document: view, DesiredChanged: r.Desired.Version > before.Desired.Version, ReportedChanged: r.Reported.Version > before.Reported.Version,
	})
	if r.Desired.Version > before.Desired.Version {
		s.receiver.Desire(r.Device, view.State())
	}
}

// drop forgets a device whose record was deleted at revision.
func (s *Documents) drop(device string, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.byDevice[device]; ok && d.revision < revision {
		s.bytes -= d.size()
		delete(s.byDevice, device)
	}
}

// Forget removes the state of a device that was deleted, and refuses its changes that are under way.
func (s *Documents) Forget(ctx context.Context, device string) error {
	s.mu.Lock()
	var refused []*change
	if c, ok := s.changes[device]; ok {
		refused, c.waiting = c.waiting, nil
		s.finished(c)
	}
	d, ok := s.byDevice[device]
	if ok {
		s.bytes -= d.size()
		delete(s.byDevice, device)
	}
	s.mu.Unlock()
	for _, c := range refused {
		c.end(0, ErrNoDevice)
	}
	if !ok {
		return nil // a write that is under way sees that the device is gone
	}
	return s.purge(ctx, device)
}

func (s *Documents) purge(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	if err := s.kv.Purge(ctx, keyOf(device)); err != nil {
		return fmt.Errorf("delete the state of device %s: %w", device, err)
	}
	return nil
}

// Close takes no further changes and writes those that are under way, until ctx ends; who waits for the others is told
// that they were not made.
func (s *Documents) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, c := range s.changes {
		s.schedule(c) // what waits for its pace waits no more
	}
	s.work.Broadcast()
	s.mu.Unlock()
	err := s.watcher.Stop()
	ended := make(chan struct{})
	go func() {
		s.group.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	s.cancel()
	<-ended
	left := 0
	for _, c := range s.changes { // nobody else is left
		for _, waiting := range c.waiting {
			waiting.end(0, ErrClosed)
			left++
		}
	}
	s.metrics.unregister()
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("%d changes of devices' states could not be written", left))
	}
	return err
}

// stamp is how a time is kept: UTC, to the millisecond.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
