package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/wire"
)

// writer carries envelopes from the journal to the store, one batch of lines at a time. One goroutine owns it; what
// others ask (audit) is under mu.
type writer struct {
	cfg        Config
	store      Store
	journal    jetstream.Stream
	latest     *Latest
	quarantine *quarantine
	progress   *progress
	metrics    *metrics
	log        *slog.Logger

	mu       sync.Mutex
	accounts map[string]*account
	position uint64            // the journal's sequence up to which all is accounted for
	runs     map[uint64]uint64 // of each run of a hub, the last commit that was seen
	fault    error             // why the store takes nothing at present
	backlog  uint64            // envelopes that wait, as far as known

	currentRun uint64 // of the journal of this process
	work       batchWork
	dirty      map[string]bool // devices whose account changed since it was saved
	savedAt    time.Time
	purgedAt   time.Time
}

// batchWork is what the writer is about to write. Its memory is reused.
type batchWork struct {
	lines  []byte
	points []point // one a line
	aside  []Quarantined
	counts map[string]*Counts // what this batch adds to each device's account
	last   uint64             // sequence of the last envelope in it
}

// point is one line of a batch.
type point struct {
	counts   *Counts
	device   string
	end      int // of the line, within lines
	sequence uint64
	seq      uint64 // its number within its boot
	boot     string
}

func (b *batchWork) reset() {
	clear(b.points)
	clear(b.aside)
	clear(b.counts)
	b.lines, b.points, b.aside = b.lines[:0], b.points[:0], b.aside[:0]
}

// run writes until ctx ends. Then it finishes the batch that it has, as long as hard allows, and saves.
func (w *writer) run(ctx, hard context.Context) error {
	messages, err := w.follow(ctx)
	if err != nil {
		return nil // ctx has ended, and nothing was done
	}
	defer func() { messages.Stop() }()
	for ctx.Err() == nil {
		broken := w.gather(ctx, messages)
		// What was unpacked has been judged, so it is delivered even when the next could not be read: read again, its
		// readings would pass for duplicates.
		if w.work.last > w.position {
			if err := w.deliver(hard); err != nil {
				return err
			}
		}
		if broken != nil && ctx.Err() == nil {
			w.log.Error("reading the journal failed; it is opened again", "err", broken)
			messages.Stop()
			if messages, err = w.follow(ctx); err != nil {
				break
			}
		}
		if time.Since(w.savedAt) >= w.cfg.SaveEvery {
			w.save(hard)
		}
	}
	w.save(hard)
	return nil
}

// Following the journal. NATS forgets a consumer that nobody asks for minutes, as while the store is away, and says
// nothing to the one who asks next: only missing heartbeats tell. They are noticed within one wait, after two of them.
const (
	followHeartbeat = time.Second
	idleWait        = 10 * time.Second // must be above two heartbeats
)

// follow opens the journal after the writer's position; it tries until that succeeds or ctx ends.
func (w *writer) follow(ctx context.Context) (jetstream.MessagesContext, error) {
	for {
		consumer, err := w.journal.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: w.position + 1,
			MaxResetAttempts: 1, // more of them would not end with ctx
		})
		if err == nil {
			var messages jetstream.MessagesContext
			if messages, err = consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(256, 8<<20), jetstream.PullHeartbeat(followHeartbeat)); err == nil {
				return messages, nil
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("follow the journal: %w", ctx.Err())
		}
		w.log.Error("the journal cannot be followed", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// gather reads envelopes until a batch is large or old enough.
func (w *writer) gather(ctx context.Context, messages jetstream.MessagesContext) error {
	w.work.reset()
	w.work.last = w.position
	var deadline time.Time
	for len(w.work.points) < w.cfg.BatchLines {
		wait := idleWait
		switch {
		case !deadline.IsZero():
			wait = time.Until(deadline)
		case len(w.dirty) > 0:
			wait = time.Until(w.savedAt.Add(w.cfg.SaveEvery))
		}
		wait = max(wait, time.Millisecond)
		next, cancel := context.WithTimeout(ctx, wait)
		msg, err := messages.Next(jetstream.NextContext(next))
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(w.cfg.BatchAge)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		w.unpack(msg.Data(), meta.Sequence.Stream)
		w.setBacklog(meta.NumPending)
	}
	return nil
}

func (w *writer) setBacklog(n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.backlog = n
}

// unpack turns one envelope into lines, verdicts and counts.
func (w *writer) unpack(data []byte, sequence uint64) {
	w.work.last = sequence
	env, err := openEnvelope(data)
	if err != nil {
		w.log.Error("an envelope of the journal cannot be read and is passed over", "sequence", sequence, "err", err)
		w.metrics.damaged.Inc()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if env.number <= w.runs[env.run] {
		w.log.Warn("an envelope came twice and is passed over", "sequence", sequence)
		return
	}
	w.runs[env.run] = env.number
	var e entry
	for env.next(&e) {
		w.entry(&e, sequence)
	}
}

// entry judges the readings of one entry. What it counts is not in the accounts before the batch is delivered: an
// audit sees each reading once, queued or settled. It needs mu.
func (w *writer) entry(e *entry, sequence uint64) {
	device := string(e.device)
	a := w.accounts[device]
	if a == nil {
		a = &account{}
		w.accounts[device] = a
	}
	if a.asOf >= sequence {
		return // saved after the position was: counted already
	}
	counts := w.countsOf(device)
	counts.Received += e.count
	if e.kind == entryRefusal {
		counts.refuse(string(e.reason), e.count)
		return
	}
	p := point{counts: counts, device: device, sequence: sequence, boot: string(e.boot)}
	var r wire.Reading
	for i := range e.count {
		if !e.reading(&r) {
			break
		}
		if e.seq > 0 {
			p.seq = e.seq + i
		}
		switch a.judge(e.boot, p.seq) {
		case isDuplicate:
			counts.Duplicate++
			continue
		case isUnknown:
			r.Flaw = wire.ReasonSeqUnknown
		}
		if r.Flaw != "" {
			counts.Quarantined++
			w.setAside(e, &p, &r)
			continue
		}
		w.work.lines = appendLine(w.work.lines, e.device, e.measurement, &r)
		p.end = len(w.work.lines)
		w.work.points = append(w.work.points, p)
		w.latest.note(device, e.measurement, &r)
	}
}

func (w *writer) countsOf(device string) *Counts {
	c := w.work.counts[device]
	if c == nil {
		c = &Counts{}
		w.work.counts[device] = c
	}
	return c
}

// setAside puts a reading that cannot be stored with those for the quarantine.
func (w *writer) setAside(e *entry, p *point, r *wire.Reading) {
	frame := r.Raw
	if frame == nil {
		frame = appendLine(nil, e.device, e.measurement, r)
	}
	w.work.aside = append(w.work.aside, Quarantined{
		Device: p.device, Reason: r.Flaw, Boot: p.boot, Seq: p.seq, Received: time.UnixMilli(e.received).UTC(), Frame: string(frame),
		key: asideKey{p.sequence, uint64(len(w.work.aside)), p.seq},
	})
}
