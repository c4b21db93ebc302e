package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/wire"
)

// ErrReplayRunning says that there is one already; there is one at a time.
var ErrReplayRunning = errors.New("a replay is running; wait for its end or cancel it")

// ReplayState is how far a replay is.
type ReplayState string

// The states; the last three are final.
const (
	ReplayRunning   ReplayState = "running"
	ReplayDone      ReplayState = "done"
	ReplayCancelled ReplayState = "cancelled"
	ReplayFailed    ReplayState = "failed"
)

// Replay is what is known of the last replay since the hub was started.
type Replay struct {
	State    ReplayState
	From, To time.Time // of receipt; To is exclusive
	Device   string    // empty: all
	Started  time.Time
	Ended    time.Time
	Oldest   time.Time // the journal keeps no envelope that is older; zero: it keeps none

	Envelopes, Of uint64 // read so far, and to be read
	Written       uint64 // readings that the store took
	PassedOver    uint64 // that were a duplicate or quarantined the first time
	Rejected      uint64 // that the store rejects
	Missing       uint64 // envelopes that were gone or damaged
	Fault         string // why it waits or failed
}

// replayer runs replays beside the writer.
type replayer struct {
	w       *writer
	backlog func() uint64 // envelopes that wait for the writer
	active  atomic.Bool   // holds back the purge

	mu      sync.Mutex
	last    *Replay
	cancel  context.CancelFunc // of the one that runs
	done    chan struct{}
	stopped bool
}

// StartReplay begins to write to the store again what the journal keeps of the readings that were received from From
// until To, of one device or all. Each reading gets the verdict that it had: duplicates and quarantined ones are passed
// over. Writing what is there changes nothing. Live readings go first. The account is not touched.
func (in *Ingest) StartReplay(from, to time.Time, device string) (Replay, error) {
	r := in.replayer
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
		return Replay{}, ErrStopped
	case r.last != nil && r.last.State == ReplayRunning:
		return *r.last, ErrReplayRunning
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.last = &Replay{State: ReplayRunning, From: from, To: to, Device: device, Started: time.Now()}
	r.cancel, r.done = cancel, make(chan struct{})
	r.active.Store(true)
	go r.run(ctx, *r.last)
	return *r.last, nil
}

// Replay returns how far the last replay is; false if there was none since the start.
func (in *Ingest) Replay() (Replay, bool) { return in.replayer.state() }

// CancelReplay ends the replay that runs, if one does, and returns the last.
func (in *Ingest) CancelReplay() (Replay, bool) {
	in.replayer.stop(false)
	return in.replayer.state()
}

func (r *replayer) state() (Replay, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		return Replay{}, false
	}
	return *r.last, true
}

// stop ends the one that runs and waits for its end.
func (r *replayer) stop(forGood bool) {
	r.mu.Lock()
	r.stopped = r.stopped || forGood
	cancel, done := r.cancel, r.done
	r.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

func (r *replayer) run(ctx context.Context, what Replay) {
	defer close(r.done)
	defer r.active.Store(false)
	pass := &replayPass{r: r, from: what.From.UnixMilli(), to: what.To.UnixMilli(), device: what.Device, skip: map[asideKey]bool{}}
	err := pass.run(ctx)
	r.update(func(p *Replay) {
		p.Ended, p.Fault = time.Now(), ""
		switch {
		case err == nil:
			p.State = ReplayDone
		case ctx.Err() != nil:
			p.State = ReplayCancelled
		default:
			p.State, p.Fault = ReplayFailed, err.Error()
		}
		r.w.log.Info("replay ended", "state", p.State, "written", p.Written, "passed_over", p.PassedOver, "rejected", p.Rejected, "missing", p.Missing, "err", err)
	})
}

func (r *replayer) update(change func(*Replay)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r.last)
}

// replayPass is one replay at work. One goroutine owns it.
type replayPass struct {
	r        *replayer
	from, to int64 // Unix ms
	device   string

	skip     map[asideKey]bool   // places whose readings were set aside
	accounts map[string]*account // numbers from the first envelope that is kept on
	runs     map[uint64]uint64
	lines    []byte
	ends     []int // of each line
	reading  wire.Reading
	types    *fieldTypes // a copy of its own; all that was stored has its types there
	fields   []FieldType
}

func (p *replayPass) run(ctx context.Context) error {
	w := p.r.w
	w.mu.Lock()
	upTo := w.position
	w.mu.Unlock()
	info, err := w.journal.Info(ctx)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	first := max(info.State.FirstSeq, 1)
	if info.State.Msgs == 0 || first > upTo {
		return nil
	}
	p.r.update(func(s *Replay) { s.Of, s.Oldest = upTo+1-first, info.State.FirstTime })
	if err := w.quarantine.places(ctx, first, p.skip); err != nil {
		return err
	}
	// Readings that were retried or dropped since are not in the quarantine any more; their places are in the journal.
	if err := p.follow(ctx, first, upTo, func(env *envelope, _ uint64) error {
		var e entry
		for env.next(&e) {
			if e.settles > 0 {
				p.skip[e.place] = true
			}
		}
		return nil
	}); err != nil {
		return err
	}
	p.types = &fieldTypes{kv: w.types.kv, by: map[string]*measurementTypes{}}
	if err := p.types.load(ctx); err != nil {
		return err
	}
	p.accounts, p.runs = map[string]*account{}, map[uint64]uint64{}
	read := uint64(0)
	err = p.follow(ctx, first, upTo, func(env *envelope, sequence uint64) error {
		read++
		if env.number > p.runs[env.run] {
			p.runs[env.run] = env.number
			p.envelope(env, sequence)
		}
		if len(p.ends) >= w.cfg.BatchLines || len(p.lines) >= batchBytes {
			if err := p.flush(ctx); err != nil {
				return err
			}
		}
		p.r.update(func(s *Replay) { s.Envelopes = sequence + 1 - first })
		return nil
	})
	if err != nil {
		return err
	}
	p.r.update(func(s *Replay) { s.Envelopes, s.Missing = s.Of, s.Of-min(read, s.Of) })
	return p.flush(ctx)
}

// envelope judges the readings of one envelope as the writer did.
func (p *replayPass) envelope(env *envelope, sequence uint64) {
	at := asideKey{sequence: sequence}
	passed := uint64(0)
	var e entry
	for env.next(&e) {
		if e.kind != entryReadings && e.kind != entryRetry {
			continue
		}
		if p.device != "" && string(e.device) != p.device {
			at.reading += e.count // the places of those behind it stay
			continue
		}
		a := p.accounts[string(e.device)]
		if a == nil {
			a = &account{}
			p.accounts[string(e.device)] = a
		}
		wanted := e.received >= p.from && e.received < p.to
		for i := uint64(0); i < e.count && e.reading(&p.reading); i++ {
			at.reading++
			// Numbers that the scratch account does not know any more were either stored or are in skip.
			again := e.kind == entryReadings && e.seq > 0 && a.judge(e.boot, e.seq+i) == isDuplicate
			if !wanted {
				continue
			}
			if again || p.skip[at] || !p.line(&e, i, sequence) {
				passed++
			}
		}
	}
	if passed > 0 {
		p.r.update(func(s *Replay) { s.PassedOver += passed })
	}
}

// line appends reading number i of the entry, the one at hand, as the writer wrote it; false if it cannot be stored.
func (p *replayPass) line(e *entry, i, sequence uint64) bool {
	r := &p.reading
	if r.Flaw != "" {
		return false
	}
	seq := e.seq
	if seq > 0 {
		seq += i
	}
	stored, reason := e.stamp(seq, r), ""
	addReceived(r, p.r.w.receivedField, e.received)
	if p.fields, reason, _ = p.types.apply(p.types.of(e.measurement), r, sequence, p.fields[:0]); reason != "" {
		return false
	}
	p.lines = appendLine(p.lines, e.device, e.measurement, r, p.fields, stored)
	p.ends = append(p.ends, len(p.lines))
	return true
}

// follow gives each envelope that can be read, from first up to upTo.
func (p *replayPass) follow(ctx context.Context, first, upTo uint64, each func(env *envelope, sequence uint64) error) error {
	consumer, err := p.r.w.journal.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first, MaxResetAttempts: 1,
	})
	if err != nil {
		return fmt.Errorf("follow the journal: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(64, 8<<20), jetstream.PullHeartbeat(followHeartbeat))
	if err != nil {
		return fmt.Errorf("follow the journal: %w", err)
	}
	defer messages.Stop()
	for pending := consumer.CachedInfo().NumPending; pending > 0; {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		pending = meta.NumPending
		if meta.Sequence.Stream > upTo {
			return nil
		}
		env, err := openEnvelope(msg.Data())
		if err != nil {
			continue // the writer said so when it came there
		}
		if err := each(&env, meta.Sequence.Stream); err != nil {
			return err
		}
		if meta.Sequence.Stream == upTo {
			return nil
		}
	}
	return nil
}

// Pace of a replay: it writes at most half of the time, and not while live readings wait.
const (
	replayBacklog = 16 // envelopes that may wait for the writer
	replayLook    = 50 * time.Millisecond
	replayRest    = time.Second // at most, after a write
)

// flush writes the lines, once the writer has few to do, and rests as long as that took.
func (p *replayPass) flush(ctx context.Context) error {
	if len(p.ends) == 0 {
		return nil
	}
	for p.r.backlog() > replayBacklog {
		if err := rest(ctx, replayLook); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := p.write(ctx, p.ends, 0); err != nil {
		return err
	}
	p.lines, p.ends = p.lines[:0], p.ends[:0]
	return rest(ctx, min(time.Since(began), replayRest))
}

// write writes the lines that end at ends and begin at from; where the store rejects some it halves, as the writer does.
func (p *replayPass) write(ctx context.Context, ends []int, from int) error {
	err := p.try(ctx, p.lines[from:ends[len(ends)-1]])
	var rejected *RejectedError
	var tooLarge *TooLargeError
	switch {
	case err == nil:
		p.r.w.metrics.replayed.Add(float64(len(ends)))
		p.r.update(func(s *Replay) { s.Written += uint64(len(ends)) })
		return nil
	case !errors.As(err, &rejected) && !errors.As(err, &tooLarge):
		return err
	case len(ends) == 1:
		p.r.update(func(s *Replay) { s.Rejected++ })
		return nil
	}
	half := len(ends) / 2
	if err := p.write(ctx, ends[:half], from); err != nil {
		return err
	}
	return p.write(ctx, ends[half:], ends[half-1])
}

// try writes until the store takes or rejects the lines, or ctx ends.
func (p *replayPass) try(ctx context.Context, lines []byte) error {
	for pause := storeFirstPause; ; pause = min(2*pause, storeLongestPause) {
		err := p.r.w.store.Write(ctx, lines)
		var rejected *RejectedError
		var tooLarge *TooLargeError
		fault := ""
		ended := err == nil || errors.As(err, &rejected) || errors.As(err, &tooLarge)
		if !ended {
			fault = err.Error()
		}
		p.r.update(func(s *Replay) { s.Fault = fault })
		if ended {
			return err
		}
		wait := pause/2 + rand.N(pause)
		var advised RetryAfter
		if errors.As(err, &advised) {
			wait = max(wait, advised.RetryAfter())
		}
		if err := rest(ctx, wait); err != nil {
			return err
		}
	}
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("replay: %w", ctx.Err())
	}
}
