package presence

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/devices"
	"telemetryhub/feed"
)

// Source is who is connected; devices.Sessions is one.
type Source interface {
	Subscribe(buffer int) *feed.Feed[devices.PresenceChange]
	ChangedSince(version uint64) (found []devices.Changed, newest uint64)
	Presence(device string) devices.Presence
	Written() uint64
}

// Teller tells of changes. Tell returns nil when they are told for good. A *RefusedError says that these changes are not
// taken; after any other error, of which a *LaterError says when, they are told again. Dropped is how many changes were
// lost before these.
type Teller interface {
	Tell(ctx context.Context, changes []Change, dropped uint64) error
}

// RefusedError says that changes are not taken, now or later.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// LaterError says when to try again.
type LaterError struct {
	After time.Duration
	Err   error
}

func (e *LaterError) Error() string { return e.Err.Error() }
func (e *LaterError) Unwrap() error { return e.Err }

// Config is how a Follower works.
type Config struct {
	Name     string        // in the log, in metrics and in the bucket
	Receiver string        // who is told; another one is told of every device at the start
	Batch    int           // changes told together at most
	Wait     time.Duration // how long a change waits for others
	Debounce time.Duration // how long a change waits for a later one of its device, which is told in its place
	Queue    int           // changes that wait at most
}

const (
	feedBuffer   = 4096
	firstBackoff = time.Second // the longest first pause; each later one may be twice as long
	mostBackoff  = time.Minute
	mostLater    = time.Hour              // that a receiver may ask for
	refusals     = 5                      // of the same changes, until they are given up
	saveEvery    = 200 * time.Millisecond // how far the telling has come; what was told since is told again after a kill
	pollWritten  = 250 * time.Millisecond // until a change is in the bucket
	farewell     = 3 * time.Second        // for what waits when the hub stops
)

// Follower tells a Teller of every change of presence.
type Follower struct {
	cfg    Config
	source Source
	teller Teller
	kv     jetstream.KeyValue
	log    *slog.Logger
	feed   *feed.Feed[devices.PresenceChange]
	queue  *queue

	closing chan struct{}
	drained chan struct{}   // closed when the feed is empty after that
	ctx     context.Context // of the telling; ends a while after closing
	cancel  context.CancelFunc
	group   sync.WaitGroup

	// Owned by the telling goroutine.
	behind  []devices.Changed // devices to be told of from the sessions, before the queue
	told    mark
	saved   mark
	savedAt time.Time
	said    uint64 // dropped changes that the receiver was told of

	mu     sync.Mutex
	counts Counts
}

// Counts are a Follower's figures since the start.
type Counts struct {
	Told     uint64 // changes
	Refused  uint64 // changes that the receiver did not take
	Tries    uint64
	Failures uint64 // tries that failed
	Dropped  uint64 // changes
	Waiting  int    // changes
	Fault    string // why the receiver takes nothing at present
}

// Follow begins to tell of changes, from where an earlier run has come to.
func Follow(ctx context.Context, cfg Config, source Source, teller Teller, kv jetstream.KeyValue, log *slog.Logger) (*Follower, error) {
	f := &Follower{
		cfg: cfg, source: source, teller: teller, kv: kv, log: log.With("presence", cfg.Name), queue: newQueue(cfg.Queue), closing: make(chan struct{}), drained: make(chan struct{}),
	}
	if err := f.load(ctx); err != nil {
		return nil, err
	}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.feed = source.Subscribe(feedBuffer)
	since := f.told.Version
	f.lookBack(since)
	f.group.Go(func() { f.listen(since) })
	f.group.Go(f.run)
	return f, nil
}

// Close tells, for a while, what still waits.
func (f *Follower) Close(ctx context.Context) error {
	close(f.closing)
	late := context.AfterFunc(ctx, f.cancel)
	timer := time.AfterFunc(farewell, f.cancel)
	f.group.Wait()
	late()
	timer.Stop()
	f.cancel()
	return nil
}

// Name is what the follower is called.
func (f *Follower) Name() string { return f.cfg.Name }

// Counts returns the figures as they are now.
func (f *Follower) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.counts
	c.Waiting, c.Dropped, _ = f.queue.state()
	return c
}

// listen empties the feed, whose changes are newer than last, into the queue, and ends when the hub stops and the feed is
// empty.
func (f *Follower) listen(last uint64) {
	defer close(f.drained)
	defer f.feed.Close()
	for {
		select {
		case p := <-f.feed.C():
			f.queue.put(changeOf(p.Device, p.At, p.Presence))
			if missed := f.feed.Missed(); missed > 0 { // all of them after the last one before
				f.queue.miss(last+1, missed)
			}
			last = p.Version
			continue
		default:
		}
		select {
		case p := <-f.feed.C():
			f.queue.put(changeOf(p.Device, p.At, p.Presence))
			last = p.Version
		case <-f.closing:
			return
		}
	}
}

// lookBack makes the devices that have changed since a version the next to be told of, as they are. What is queued up to
// now is among that, or has a later change behind it.
func (f *Follower) lookBack(since uint64) {
	var newest uint64
	f.behind, newest = f.source.ChangedSince(since)
	f.queue.skipTo(newest)
	if len(f.behind) == 0 {
		f.told.Version = max(f.told.Version, newest)
	}
}

func (f *Follower) run() {
	for {
		batch, version, wait := f.next(time.Now())
		switch {
		case version == 0 && wait == 0: // nothing waits, and nothing will
			f.save()
			return
		case version == 0:
			f.pause(wait)
		case len(batch) == 0 || f.deliver(batch):
			f.told.Version = max(f.told.Version, version)
		default:
			f.save()
			return
		}
		if time.Since(f.savedAt) >= saveEvery {
			f.save()
		}
	}
}

// pause waits for a change, a time, or the end of the hub.
func (f *Follower) pause(wait time.Duration) {
	if f.told != f.saved {
		wait = min(wait, saveEvery)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-f.drained: // what waits is due now
	case <-f.queue.wake:
	case <-timer.C:
	}
}

const forEver = time.Hour

// next returns what is to be told now and the version that is reached then, which is 0 for nothing: wait says how long
// until there may be something, 0 that the hub stops and all is told.
func (f *Follower) next(now time.Time) (batch []Change, version uint64, wait time.Duration) {
	stopping := false
	select {
	case <-f.drained:
		stopping = true
	default:
	}
	may := ready{version: f.source.Written(), made: now.Add(-f.cfg.Debounce)}
	if stopping { // the bucket is written once more after this
		may = ready{version: 1<<64 - 1, made: now.Add(forEver)}
	}
	if len(f.behind) > 0 {
		if batch, version = f.takeBehind(now, may.version); version == 0 {
			return nil, 0, pollWritten
		}
		return batch, version, 0
	}
	n, first, all := f.queue.peek(may, f.cfg.Batch)
	due := first.Add(f.cfg.Debounce + f.cfg.Wait)
	switch {
	case n == f.cfg.Batch || n > 0 && (stopping || !now.Before(due)):
		batch, version = f.queue.take(n, f.cfg.Debounce > 0)
		return batch, version, 0
	case all > 0 && stopping:
		return nil, 0, pollWritten
	case all > 0 && now.Before(due):
		return nil, 0, due.Sub(now)
	case all > 0:
		return nil, 0, pollWritten
	}
	if lost := f.queue.settleLoss(); lost > 0 {
		f.told.Version = min(f.told.Version, lost-1)
		f.log.Warn("changes of presence were dropped, as they could not be told in time; the newest of each device is told", "dropped", f.Counts().Dropped)
		f.lookBack(lost - 1)
		return nil, 0, pollWritten
	}
	if stopping {
		return nil, 0, 0
	}
	return nil, 0, forEver
}

// takeBehind takes the next devices that are to be told of as they are, as far as the bucket has them. One that has
// changed since is in the queue.
func (f *Follower) takeBehind(now time.Time, written uint64) (batch []Change, version uint64) {
	for len(f.behind) > 0 && len(batch) < f.cfg.Batch && f.behind[0].Version <= written {
		next := f.behind[0]
		f.behind, version = f.behind[1:], next.Version
		if p := f.source.Presence(next.Device); p.Version == next.Version {
			batch = append(batch, changeOf(next.Device, now, p))
		}
	}
	return batch, version
}

// deliver tells until it is told, or given up; false: the hub stops.
func (f *Follower) deliver(batch []Change) bool {
	_, dropped, _ := f.queue.state()
	for try := 1; ; try++ {
		err := f.teller.Tell(f.ctx, batch, dropped-f.said)
		f.count(len(batch), try, err)
		if err == nil {
			f.said = dropped
			return true
		}
		if refused, ok := errors.AsType[*RefusedError](err); ok && try >= refusals {
			f.log.Warn("changes of presence are given up: they are refused again and again", "changes", len(batch), "error", refused)
			f.mu.Lock()
			f.counts.Refused += uint64(len(batch))
			f.counts.Fault = ""
			f.mu.Unlock()
			return true
		}
		timer := time.NewTimer(backoff(try, err))
		select {
		case <-f.ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

// count keeps the figures of one try, and tells the log where it begins or ends to fail.
func (f *Follower) count(changes, try int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Tries++
	if err == nil {
		f.counts.Told += uint64(changes)
		if f.counts.Fault != "" {
			f.log.Info("changes of presence are told again", "tries", try)
		}
		f.counts.Fault = ""
		return
	}
	f.counts.Failures++
	if f.counts.Fault == "" && f.ctx.Err() == nil {
		f.log.Warn("changes of presence are not told; it is tried again", "changes", changes, "error", err)
	}
	f.counts.Fault = err.Error()
}

// backoff is the pause before the next try: with full jitter, or what the receiver asks for and some more.
func backoff(try int, err error) time.Duration {
	most := min(firstBackoff<<min(try-1, 10), mostBackoff)
	pause := rand.N(most) + time.Millisecond
	if later, ok := errors.AsType[*LaterError](err); ok && later.After > 0 {
		return min(later.After, mostLater) + min(pause, firstBackoff)
	}
	return pause
}
