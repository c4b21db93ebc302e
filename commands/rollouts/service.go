package rollouts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/commands"
	"telemetryhub/feed"
)

// Fixed bounds.
const (
	MaxOpen        = 50      // rollouts that are not final, or whose commands have not all ended
	MaxDevices     = 100_000 // of a rollout
	MaxOpenDevices = 200_000 // of all open ones
	MaxKept        = 1000    // ended rollouts
)

// Bounds of a Config.
const (
	LargestOpen  = 5000
	LongestGrace = time.Hour
)

// Config holds what an operator sets. Zero values take the defaults.
type Config struct {
	Open  int           `yaml:"open"`  // commands of one rollout that are at devices at a time
	Grace time.Duration `yaml:"grace"` // for devices to come back after a start, before an absent one counts as offline

	Keep time.Duration `yaml:"-"` // how long ended rollouts are kept; the ledger's
}

// Defaults returns the configuration of a hub that configures nothing.
func Defaults() Config {
	return Config{Open: 500, Grace: time.Minute, Keep: commands.Defaults().Keep}
}

func (c Config) withDefaults() Config {
	d := Defaults()
	if c.Open == 0 {
		c.Open = d.Open
	}
	if c.Keep == 0 {
		c.Keep = d.Keep
	}
	return c
}

// Validate reports every wrong value, each named by its key.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Open < 1 || c.Open > LargestOpen {
		errs = append(errs, fmt.Errorf("open: %d is not between 1 and %d", c.Open, LargestOpen))
	}
	if c.Grace < 0 || c.Grace > LongestGrace {
		errs = append(errs, fmt.Errorf("grace: %v is not between 0s and %v", c.Grace, LongestGrace))
	}
	return errors.Join(errs...)
}

// Device is what a rollout must know of a device.
type Device struct {
	ID         string
	Type       string
	Tags       []string
	Attributes map[string]string
	Enabled    bool
}

// Fleet knows the devices. Its methods do not block.
type Fleet interface {
	Devices() []Device
	Find(id string) (Device, bool)
	Online(id string) bool
}

// rollout is one rollout in memory. All but the plan is guarded by Service.mu.
type rollout struct {
	plan Plan // without params once it is settled
	head head
	live *live // nil once it is settled

	stale bool // settled, and a late answer may have changed an outcome
}

// Service drives the rollouts. Open makes it; Close ends it.
type Service struct {
	kv     jetstream.KeyValue
	ledger *commands.Service
	fleet  Fleet
	cfg    Config
	log    *slog.Logger
	feeds  feed.Feeds[Rollout]

	making  sync.Mutex      // held by Create: one at a time
	damaged map[string]bool // rollouts whose records could not be read; fixed after load

	shareQueued, shareWorking int // of the ledger's room

	mu      sync.Mutex
	byID    map[string]*rollout
	keys    map[string]string // Idempotency-Key to id
	queued  int               // commands of all rollouts that wait in the ledger for their devices
	working int               // commands of all rollouts that are at their devices, or on their way into the ledger
	stats   Stats
	closed  bool

	visit chan struct{} // a settled rollout is stale
	group sync.WaitGroup
	ctx   context.Context // ends when Close gives up
	end   context.CancelFunc
	stop  chan struct{} // closed when Close begins
}

// Stats are gauges and counters.
type Stats struct {
	Open         int    // rollouts that are not settled
	Devices      int    // of those
	Kept         int    // rollouts in all
	SaveFailures uint64 // writes of the bucket that failed and are tried again
	SendFailures uint64 // sendings that the ledger could not take and that are tried again
	MissedViews  uint64 // views that slow readers of the feed lost
	Damaged      int    // rollouts whose records could not be read
}

// feedBuffer holds the ledger's changes while one of them is taken. What is lost beyond it is read from the ledger.
const feedBuffer = 8192

// Open loads the rollouts from their bucket and goes on with those that were running.
func Open(ctx context.Context, kv jetstream.KeyValue, ledger *commands.Service, fleet Fleet, cfg Config, log *slog.Logger) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("rollouts: %w", err)
	}
	s := &Service{
		kv: kv, ledger: ledger, fleet: fleet, cfg: cfg, log: log,
		byID: map[string]*rollout{}, keys: map[string]string{}, damaged: map[string]bool{},
		shareQueued: shareOfQueued, shareWorking: shareOfWorking,
		visit: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("rollouts: load: %w", err)
	}
	s.ctx, s.end = context.WithCancel(context.WithoutCancel(ctx))
	changes := ledger.Subscribe(feedBuffer) // before the drivers ask the ledger: nothing falls between
	s.group.Go(func() { s.listen(changes) })
	s.group.Go(s.sweepLoop)
	for _, r := range s.byID {
		if r.live != nil {
			s.group.Go(func() { s.drive(r) })
		}
	}
	return s, nil
}

// Close sends nothing more, and writes what is unsaved until ctx ends. The next Open goes on with the rollouts.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.mu.Unlock()

	done := make(chan struct{})
	go func() { s.group.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.end() // ends what is still on its way to the ledger or the bucket
	<-done
	s.feeds.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.byID {
		if r.live != nil && r.live.unsaved() {
			return errors.New("rollouts: close: the newest outcomes could not be noted; the next start asks the ledger for them")
		}
	}
	return nil
}

// Stats returns the gauges and counters.
func (s *Service) Stats() Stats {
	missed := s.feeds.Lost()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Kept, st.MissedViews, st.Damaged = len(s.byID), missed, len(s.damaged)
	st.Open, st.Devices = s.open()
	return st
}

// open counts the open rollouts and their devices. Called with mu.
func (s *Service) open() (rollouts, devices int) {
	for _, r := range s.byID {
		if r.live != nil {
			rollouts++
			devices += len(r.live.devices)
		}
	}
	return rollouts, devices
}

// stamp is how a time is written: UTC, to the millisecond.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
