package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/wire"
)

// writer carries envelopes from the journal to the store, one batch of lines at a time. One goroutine owns it; what
// others ask (audit) is under mu.
type writer struct {
	cfg Config

	receivedField []byte
	store         Store
	journal       jetstream.Stream
	latest        *Latest
	quarantine    *quarantine
	progress      *progress
	types         *fieldTypes
	metrics       *metrics
	log           *slog.Logger

	mu       sync.Mutex
	accounts map[string]*account
	position uint64            // the journal's sequence up to which all is accounted for
	runs     map[uint64]uint64 // of each run of a hub, the last commit that was seen
	fault    error             // why the store takes nothing at present
	endWait  func()            // ends the wait for the next envelope

	currentRun  uint64      // of the journal of this process
	journalFull func() bool // whether it waits for room
	mayPurge    func() bool // whether the disk has room to purge it
	keepAll     func() bool // whether a replay reads it
	work        batchWork
	dirty       map[string]bool // devices whose account changed since it was saved
	saved       uint64          // the position that was saved last
	settled     []Settled       // since then
	settling    *settling
	retyping    *retyping
	savedAt     time.Time
	purgedAt    time.Time
}

// batchWork is what the writer is about to write. Its memory is reused.
type batchWork struct {
	lines  []byte
	points []point // one a line
	aside  []Quarantined
	of     []*account // whose readings are in it
	settle []Settled  // the quarantined readings that it retries or drops
	last   uint64     // sequence of the last envelope in it

	left  error       // why the batch is left in the journal
	types []FieldType // of the fields of the reading at hand

	reading wire.Reading // the one at hand
	at      asideKey     // and its place
	nth     uint64       // entry of its envelope, from 0
}

// point is one line of a batch.
type point struct {
	account  *account
	end      int // of the line, within lines
	at       asideKey
	received int64  // Unix ms
	seq      uint64 // its number within its boot
	boot     string
	retry    uint64 // the quarantined reading that it is
}

func (b *batchWork) reset() {
	clear(b.points)
	clear(b.aside)
	clear(b.of)
	b.left = nil
	b.lines, b.points, b.aside, b.of, b.settle = b.lines[:0], b.points[:0], b.aside[:0], b.of[:0], b.settle[:0]
}

// run writes until ctx ends. Then it finishes the batch that it has, as long as hard allows, and saves.
func (w *writer) run(ctx, hard context.Context) error {
	messages, _, err := w.follow(ctx, w.position)
	if err != nil {
		return nil // ctx has ended, and nothing was done
	}
	defer func() {
		if messages != nil { // opened again in vain, as the hub stopped
			messages.Stop()
		}
	}()
	for ctx.Err() == nil {
		broken := w.gather(ctx, hard, messages)
		if w.work.left != nil {
			w.log.Warn("the batch cannot be judged; it is in the journal and goes on after the next start", "err", w.work.left)
			return nil
		}
		// What was unpacked has been judged, so it is delivered even when the next could not be read: read again, its
		// readings would pass for duplicates.
		if w.work.last > w.position {
			err := w.deliver(ctx, hard)
			if errors.Is(err, errLeft) {
				w.log.Warn("the store takes nothing; what it lacks is in the journal and goes on after the next start", "err", err)
				return nil
			}
			if err != nil {
				return err
			}
		}
		if broken != nil && ctx.Err() == nil {
			w.log.Error("reading the journal failed; it is opened again", "err", broken)
			messages.Stop()
			if messages, _, err = w.follow(ctx, w.position); err != nil {
				break
			}
		}
		full := w.journalFull()
		if full || len(w.settled) > 0 || time.Since(w.savedAt) >= w.cfg.SaveEvery {
			w.save(hard)
			w.tellSettled()
		}
		if w.mayPurge() && (full || time.Since(w.purgedAt) >= purgeEvery && !w.keepAll()) {
			w.purge(hard, full)
		}
	}
	w.save(hard)
	w.tellSettled()
	return nil
}

// Following the journal. NATS forgets a consumer that nobody asks for minutes, as while the store is away, and says
// nothing to the one who asks next: only missing heartbeats tell. They are noticed within one wait, after two of them.
const (
	followHeartbeat = time.Second
	idleWait        = 3 * time.Second // above two heartbeats
)

// follow opens the journal behind after, where so many envelopes are pending; it tries until that succeeds or ctx ends.
func (w *writer) follow(ctx context.Context, after uint64) (messages jetstream.MessagesContext, pending uint64, err error) {
	for {
		consumer, err := w.journal.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
			MaxResetAttempts: 1, // more of them would not end with ctx
		})
		if err == nil {
			if messages, err = consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(256, 8<<20), jetstream.PullHeartbeat(followHeartbeat)); err == nil {
				return messages, consumer.CachedInfo().NumPending, nil
			}
		}
		if ctx.Err() != nil {
			return nil, 0, fmt.Errorf("follow the journal: %w", ctx.Err())
		}
		w.log.Error("the journal cannot be followed", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

var errUnreadable = errors.New("NATS cannot read an envelope; it is passed over, and what was in it is counted as damaged")

// unreadable reports whether the envelope behind after is there and cannot be read. A NATS whose own checksum fails says
// nothing to who follows the stream, and moves on to nothing: only who asks for the envelope itself is told.
func (w *writer) unreadable(ctx context.Context, after uint64) bool {
	info, err := w.journal.Info(ctx)
	if err != nil || info.State.LastSeq <= after {
		return false
	}
	_, err = w.journal.GetMsg(ctx, after+1)
	_, answered := errors.AsType[*jetstream.APIError](err)
	return answered || errors.Is(err, jetstream.ErrMsgNotFound)
}

// passOver returns the last of the numbers from sequence on that are of no envelope by what NATS says, or sequence: where damage
// was erased at the journal's end there may be a thousand.
func (w *writer) passOver(ctx context.Context, sequence uint64) uint64 {
	info, err := w.journal.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return sequence
	}
	none := info.State.Deleted
	slices.Sort(none)
	at, found := slices.BinarySearch(none, sequence)
	for ; found && at+1 < len(none) && none[at+1] == sequence+1; at++ {
		sequence++
	}
	return sequence
}

// batchBytes bounds the lines of one batch: long texts make few lines heavy, and InfluxDB 1.8 takes 25 MB at once.
const batchBytes = 4 << 20

// gather reads envelopes until a batch is large or old enough.
func (w *writer) gather(ctx, hard context.Context, messages jetstream.MessagesContext) error {
	w.work.reset()
	w.work.last = w.position
	var deadline time.Time
	for w.work.left == nil && len(w.work.points)+len(w.work.aside) < w.cfg.BatchLines {
		wait := idleWait
		switch {
		case !deadline.IsZero():
			wait = time.Until(deadline)
		case w.saved != w.position:
			wait = time.Until(w.savedAt.Add(w.cfg.SaveEvery))
		}
		wait = max(wait, time.Millisecond)
		next, cancel := context.WithTimeout(ctx, wait)
		w.mu.Lock()
		w.endWait = cancel
		w.mu.Unlock()
		msg, err := messages.Next(jetstream.NextContext(next))
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && deadline.IsZero() && w.unreadable(ctx, w.work.last):
			w.work.last = w.passOver(ctx, w.work.last+1)
			return errUnreadable
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
		w.unpack(ctx, hard, msg.Data(), meta.Sequence.Stream)
		if len(w.work.lines) >= batchBytes || time.Now().After(deadline) {
			return nil
		}
	}
	return nil
}

// wake lets the writer look around instead of waiting for the next envelope.
func (w *writer) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.endWait != nil {
		w.endWait()
	}
}

// unpack turns one envelope into lines, verdicts and counts. If the batch has to be left, all that it did is void.
func (w *writer) unpack(ctx, hard context.Context, data []byte, sequence uint64) {
	w.work.last = sequence
	w.work.at = asideKey{sequence: sequence}
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
	for w.work.nth = 0; w.work.left == nil && env.next(&e); w.work.nth++ {
		w.entry(ctx, hard, &e, sequence)
	}
}

// entry judges the readings of one entry. What it counts is not in the account before the batch is delivered: an audit
// sees each reading once, queued or settled. It needs mu.
func (w *writer) entry(ctx, hard context.Context, e *entry, sequence uint64) {
	if e.kind == entryRetype {
		w.retype(ctx, hard, e, sequence)
		return
	}
	a := w.accounts[string(e.device)]
	if a == nil {
		a = &account{device: string(e.device)}
		w.accounts[a.device] = a
	}
	if a.asOf >= sequence {
		if e.kind == entryReadings || e.kind == entryRetry {
			w.work.at.reading += e.count // the places of those behind it stay
		}
		return // saved after the position was: counted already
	}
	if a.batch.Received == 0 {
		w.work.of = append(w.work.of, a)
	}
	if met := a.Received + a.batch.Received; e.prior > met {
		w.missed(a, e, e.prior-met)
	}
	if e.kind == entryRefusal {
		a.batch.Received += e.count
		a.batch.refuse(string(e.reason), e.count)
		return
	}
	if e.settles > 0 {
		w.settleEntry(ctx, hard, a, e)
		return
	}
	a.Clock, a.Top = max(a.Clock, e.clock), max(a.Top, e.after)
	p := point{account: a, received: e.received}
	r := &w.work.reading
	for i := uint64(0); i < e.count && e.reading(r); i++ {
		if e.seq > 0 {
			p.seq = e.seq + i
		}
		w.work.at.reading++
		p.at = w.work.at
		a.batch.Received++
		switch a.judge(e.boot, p.seq) {
		case isDuplicate:
			a.batch.Duplicate++
			continue
		case isUnknown:
			r.Flaw = wire.ReasonSeqUnknown
		}
		if i == 0 || p.boot == "" {
			p.boot = a.bootOf(e.boot)
		}
		if w.place(ctx, hard, e, p, r); w.work.left != nil {
			return
		}
	}
}

// place puts a reading that is new with the lines for the store, or, where it cannot be stored, with those for the
// quarantine. It needs mu.
func (w *writer) place(ctx, hard context.Context, e *entry, p point, r *wire.Reading) {
	stored := e.stamp(p.seq, r)
	addReceived(r, w.receivedField, p.received)
	message := ""
	if r.Flaw == "" {
		message = w.fit(ctx, hard, e, r)
	}
	switch {
	case w.work.left != nil:
		return
	case r.Flaw != "":
		p.account.batch.Quarantined++
		w.setAside(e, &p, r, message)
		return
	}
	w.work.lines = appendLine(w.work.lines, e.device, e.measurement, r, w.work.types, stored)
	p.end = len(w.work.lines)
	w.work.points = append(w.work.points, p)
	w.latest.note(p.account.device, e.measurement, r)
}

// fit gives the fields of a reading the types that they have in the store. Where that cannot be it marks the reading
// with its flaw and says more; where it cannot be known now it says that the batch has to be left. It needs mu, and
// lets go of it while it waits.
func (w *writer) fit(ctx, hard context.Context, e *entry, r *wire.Reading) (message string) {
	at := w.work.at.sequence
	if !w.types.of(e.measurement).knows(r, at) {
		w.mu.Unlock()
		w.work.left = w.types.settle(ctx, hard, string(e.device), e.measurement, r, at)
		w.mu.Lock()
		if w.work.left != nil {
			return ""
		}
	}
	w.work.types, r.Flaw, message = w.types.apply(w.types.of(e.measurement), r, at, w.work.types[:0])
	return message
}

// missedPlace sets the places of what is missing before an entry, which count entries, apart from those of readings.
const missedPlace = 1 << 40

// missed counts readings that were acked and that no envelope before e has shown: they were in one that is damaged.
func (w *writer) missed(a *account, e *entry, n uint64) {
	w.log.Error("readings are lost to damage of the journal", "device", a.device, "count", n)
	at := asideKey{sequence: w.work.at.sequence, reading: missedPlace + w.work.nth}
	a.batch.Received += n
	a.batch.Quarantined += n
	w.work.aside = append(w.work.aside, Quarantined{
		Device: a.device, Reason: reasonDamaged, Received: time.UnixMilli(e.received).UTC(), at: at,
		Count:   n,
		Message: fmt.Sprintf("%d readings or refused frames were in envelopes of the journal that cannot be read", n),
	})
}

// setAside puts a reading that cannot be stored with those for the quarantine. The time of its line is in ms.
func (w *writer) setAside(e *entry, p *point, r *wire.Reading, message string) {
	frame := string(r.Raw)
	if frame == "" {
		frame = string(appendLine(nil, e.device, e.measurement, r, nil, r.Time))
	}
	w.work.aside = append(w.work.aside, Quarantined{
		ID: p.retry, Device: p.account.device, Reason: r.Flaw, Message: message, Boot: p.boot, Seq: p.seq, Received: time.UnixMilli(p.received).UTC(), Frame: frame, at: p.at,
		Measurement: string(e.measurement), Count: 1,
	})
}
