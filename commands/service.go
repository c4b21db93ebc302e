package commands

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/wire"
)

// Router says who is connected and sends. Neither method blocks. An error of Send means that surely nothing was sent.
type Router interface {
	Online(device string) (session uint64, ok bool)
	Send(device string, session uint64, cmd wire.Command) error
}

// writers is how many changes are written at once. On one disk they share its fsyncs hardly at all; on a cluster
// each waits for a round trip of its own.
const writers = 4

// entry is a command in memory. All of it is guarded by Service.mu.
type entry struct {
	view Command // what is durable, and what readers see
	next Command // what the ledger has decided; the same as view when nothing is unsaved
	rev  uint64  // of view in the bucket; 0: not there yet

	recorded chan struct{} // closed when the first record is durable, or has failed
	settled  chan struct{} // closed when a final state is durable
	shown    bool          // the first record is durable
	counted  bool          // among Service.busy
	weight   int           // in mirror.bytes

	sending   bool   // the Router has it at this moment
	lost      bool   // the session ended while sending
	abandoned bool   // the device was deleted while sending
	abandoner string // by whom
	ready     uint64 // the session to send again on; 0: the one it was sent on

	unsaved  bool // next is newer than view
	version  int  // of next, counted by its changes
	queued   bool // in Service.queue or with a writer
	failures int  // of writing, in a row

	due   time.Time // of the answer, or of sending again; zero: none
	retry time.Time // of the next try to write; zero: none
	alarm int       // place in Service.alarms, -1: none
	wake  time.Time // the earlier of due and retry
}

// Service is the ledger. Open makes it; Close ends it.
type Service struct {
	kv     jetstream.KeyValue
	router Router
	cfg    Config
	log    *slog.Logger
	ids    ids
	feeds  feeds

	mu     sync.Mutex
	mirror mirror
	keys   keys
	alarms alarms
	queue  []*entry // waiting for a writer, each once
	work   *sync.Cond
	busy   int // entries that are open or unsaved, at most MaxOpen
	stats  Stats
	closed bool

	wakeUp  chan struct{} // the first alarm changed
	lookups chan lateAnswer
	group   sync.WaitGroup
	ctx     context.Context // ends when Close gives up the bucket
	cancel  context.CancelFunc
	stop    chan struct{} // closed when Close begins
}

// Stats are the ledger's gauges and counters.
type Stats struct {
	Open           int    // open or unsaved commands
	Mirrored       int    // commands in memory
	MirroredBytes  int    // about, of the ended ones
	Unsaved        int    // changes that wait for a writer
	WriteFailures  uint64 // writes of the bucket that failed and are tried again
	IgnoredAnswers uint64 // second answers, answers to unknown ids, progress of ended commands
	DroppedAnswers uint64 // late answers to old commands that came faster than the bucket could be read
	MissedChanges  uint64 // changes that slow readers of the feed lost
	Damaged        uint64 // records that could not be read
}

// Open loads the ledger from its bucket and settles what an earlier process left open. The router may not be called
// before it serves: Open itself does not call it.
func Open(ctx context.Context, kv jetstream.KeyValue, r Router, cfg Config, log *slog.Logger) (*Service, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("commands: %w", err)
	}
	s := &Service{
		kv: kv, router: r, cfg: cfg, log: log,
		mirror:  newMirror(),
		keys:    newKeys(),
		wakeUp:  make(chan struct{}, 1),
		lookups: make(chan lateAnswer, 64),
		stop:    make(chan struct{}),
	}
	s.work = sync.NewCond(&s.mu)
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("commands: load the ledger: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.settleLeftovers(time.Now())
	for range writers {
		s.group.Go(s.writeLoop)
	}
	s.group.Go(s.alarmLoop)
	s.group.Go(s.sweepLoop)
	return s, nil
}

// Close refuses new commands, ends the waits, and writes what is unsaved until ctx ends. What was sent and is not
// answered stays sent; the next Open makes it unknown.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	for _, e := range s.alarms { // what waits to be tried again is tried now
		if !e.retry.IsZero() {
			e.retry = time.Time{}
			s.save(e)
		}
	}
	s.work.Broadcast() // writers end when the queue is empty
	s.mu.Unlock()

	done := make(chan struct{})
	go func() { s.group.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.cancel() // ends the writes on their way
		<-done
	}
	s.cancel()
	s.feeds.close()
	if unsaved := s.Stats().Unsaved; unsaved > 0 {
		return fmt.Errorf("commands: close: %d changes could not be written; after the next start these commands are unknown", unsaved)
	}
	return nil
}

// Stats returns the gauges and counters.
func (s *Service) Stats() Stats {
	missed := s.feeds.missed()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Open, st.Mirrored, st.MirroredBytes, st.MissedChanges = s.busy, len(s.mirror.byID), s.mirror.bytes, missed
	for _, e := range s.mirror.byID {
		if e.unsaved {
			st.Unsaved++
		}
	}
	return st
}

// change makes a legal change of state and hands it to the writers; an illegal one is refused. Called with mu.
func (s *Service) change(e *entry, step Change, edit func(*Command)) bool {
	if !legal(&e.next, step.State) {
		s.log.Debug("command: change refused", "command", e.next.ID, "from", e.next.State, "to", step.State, "cause", step.Cause)
		return false
	}
	e.next.record(step)
	e.version++
	if edit != nil {
		edit(&e.next)
	}
	if step.State.Final() {
		e.due = time.Time{}
		s.setAlarm(e)
		s.mirror.ended(e)
	}
	s.save(e)
	return true
}

// stamp is how the ledger writes a time: UTC, to the millisecond.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
