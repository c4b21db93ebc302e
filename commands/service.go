package commands

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/feed"
	"telemetryhub/wire"
)

// Router sends. Neither method blocks. An error means that surely nothing was sent; of Send a [*wire.Error] says that the
// command itself cannot be sent to this device, and any other that this connection does not take it now.
type Router interface {
	Send(device string, session uint64, cmd wire.Command) error
	// Cancel asks the device to give up a command that it was sent.
	Cancel(device string, session uint64, id string) error
	// Ended tells that a command that was sent has its outcome: whatever still holds it lets it go.
	Ended(device string, session uint64, id string)
}

// writers is how many changes are written at once without a Batch. On one disk they share its fsyncs hardly at all; on a
// cluster each waits for a round trip of its own. With a Batch there is one: what comes while it writes is its next batch.
const writers = 4

// entry is a command in memory. All of it is guarded by Service.mu.
type entry struct {
	view Command // what is durable, and what readers see
	next Command // what the ledger has decided; the same as view when nothing is unsaved
	rev  uint64  // of view in the bucket; 0: not there yet

	recorded chan struct{} // closed when the first record is durable, or has failed
	refused  error         // why the first record failed; read after recorded is closed
	settled  chan struct{} // closed when a final state is durable
	shown    bool          // the first record is durable
	counted  bool          // among Service.busy
	weight   int           // in mirror.bytes

	departing bool   // it is to go out once version departs is durable
	departs   int    //
	sending   bool   // the Router has it at this moment
	again     bool   // it is to be sent again on the lane's session
	lost      bool   // the session ended while sending
	abandoned string // why all of the device's were ended while sending
	abandoner string // by whom

	unsaved  bool          // next is newer than view
	version  int           // of next, counted by its changes
	durable  int           // version that is in the bucket
	queued   bool          // in Service.queue or with a writer
	failures int           // of writing, in a row
	written  chan struct{} // closed by the next write; nil: nobody waits for it

	due   time.Time // of the answer, of sending again, or of the expiry; zero: none
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
	feeds  feed.Feeds[Command]

	mu      sync.Mutex
	mirror  mirror
	keys    keys
	lanes   map[string]*lane // by device
	roused  []*lane          // to be looked at by the alarm loop, each once
	alarms  alarms
	queue   []*entry // waiting for a writer, each once
	work    *sync.Cond
	busy    int   // entries that are open or unsaved, at most MaxOpen
	held    int   // bytes of their params, at most MaxOpenBytes
	stats   Stats // of which only what is not counted elsewhere is filled
	tallied tallied
	closed  bool

	wakeUp  chan struct{} // the first alarm changed, or a lane is roused
	lookups chan lateAnswer
	group   sync.WaitGroup
	ctx     context.Context // ends when Close gives up the bucket
	cancel  context.CancelFunc
	stop    chan struct{} // closed when Close begins
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
		lanes:   map[string]*lane{},
		tallied: newTallied(),
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
	atOnce := writers
	if cfg.Batch != nil {
		atOnce = 1
	}
	for range atOnce {
		s.group.Go(s.writeLoop)
	}
	s.group.Go(s.alarmLoop)
	s.group.Go(s.sweepLoop)
	return s, nil
}

// Close refuses new commands, ends the waits, and writes what is unsaved until ctx ends. What waits stays queued, what
// was sent and is not answered stays sent; the next Open makes that unknown, or sends it again if it may.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	for _, l := range s.lanes {
		for _, e := range slices.Clone(l.out) {
			if e.departing {
				s.requeue(l, e, "the hub stopped before it was sent", time.Now())
			}
		}
	}
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
	s.feeds.Close()
	if unsaved := s.Stats().Unsaved; unsaved > 0 {
		return fmt.Errorf("commands: close: %d changes could not be written; after the next start these commands are unknown", unsaved)
	}
	return nil
}

// change makes a legal change of state and hands it to the writers; an illegal one is refused. Called with mu.
func (s *Service) change(e *entry, step Change, edit func(*Command)) bool {
	if !legal(&e.next, step) {
		s.log.Debug("command: change refused", "command", e.next.ID, "from", e.next.State, "to", step.State, "cause", step.Cause)
		return false
	}
	e.next.record(step)
	e.version++
	if edit != nil {
		edit(&e.next)
	}
	if step.State.Final() {
		s.ended(e)
	}
	s.save(e)
	return true
}

// ended takes a command that has ended out of its lane, where the next may follow. Called with mu.
func (s *Service) ended(e *entry) {
	e.due, e.departing, e.again = time.Time{}, false, false
	s.setAlarm(e)
	s.mirror.weigh(e)
	if l := s.lanes[e.next.Device]; l != nil {
		out := len(l.out)
		l.waiting, l.out = remove(l.waiting, e), remove(l.out, e)
		if len(l.out) < out && e.next.Attempt > 0 {
			l.over = append(l.over, over{e.next.Session, e.next.ID})
		}
		s.rouse(l)
	}
}

// note adds to a command's story what does not change its state. Called with mu.
func (s *Service) note(e *entry, step Change, edit func(*Command)) {
	step.State = e.next.State
	e.next.record(step)
	e.version++
	edit(&e.next)
	s.save(e)
}

// stamp is how the ledger writes a time: UTC, to the millisecond.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
