package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"telemetryhub/wire"
)

// ErrNotQuarantined says that the quarantine never had a reading with this id.
var ErrNotQuarantined = errors.New("no reading with this id is in the quarantine")

// Fate is what a retry or drop made of a quarantined reading.
type Fate string

// The fates. A retry or drop that has not come to its end is queued in the journal, and ends there.
const (
	FateStored      Fate = "stored"
	FateDropped     Fate = "dropped"
	FateQuarantined Fate = "quarantined" // it cannot be stored now either
	FateQueued      Fate = "queued"
	FateGone        Fate = "gone" // it was retried or dropped before, or fell out of a full quarantine
)

// Settled is the outcome of a retry or drop. Reason and Message say why a reading stays in the quarantine.
type Settled struct {
	ID      uint64
	Fate    Fate
	Reason  string
	Message string
}

// settling is the retries and drops that are between Append and the writer's saved progress. While one is there, no
// other of the same reading is let into the journal: so what the writer reads again after a crash settles each reading
// at most once, whatever the store says the second time.
type settling struct {
	mu      sync.Mutex
	pending map[uint64]*settlement
}

// settlement is one retry or drop on its way. It is the wire.Waiter of its commit.
type settlement struct {
	of      *settling
	id      uint64
	journal *journal
	done    chan struct{} // closed at its end; outcome and err are set before

	outcome Settled
	err     error
	upTo    uint64 // of of.mu: the journal's sequence that it is not after; 0: not yet durable
}

func newSettling() *settling { return &settling{pending: map[uint64]*settlement{}} }

// begin returns the reading's settlement, and whether it is a new one, which the caller has to append or fail.
func (s *settling) begin(id uint64, j *journal) (*settlement, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on := s.pending[id]; on != nil {
		return on, false
	}
	on := &settlement{of: s, id: id, journal: j, done: make(chan struct{})}
	s.pending[id] = on
	return on, true
}

// expect notes one that the journal holds from before this start.
func (s *settling) expect(id, sequence uint64) {
	on, _ := s.begin(id, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	on.upTo = sequence
}

func (s *settling) end(outcome Settled, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(outcome, err)
}

func (s *settling) endLocked(outcome Settled, err error) {
	on := s.pending[outcome.ID]
	if on == nil {
		return
	}
	delete(s.pending, outcome.ID)
	on.outcome, on.err = outcome, err
	close(on.done)
}

// overtaken ends those that the writer must have passed without seeing them: their envelope is damaged.
func (s *settling) overtaken(saved uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, on := range s.pending {
		if on.upTo > 0 && on.upTo <= saved {
			s.endLocked(Settled{ID: id, Fate: FateQuarantined, Reason: reasonDamaged, Message: "its retry was in an envelope of the journal that cannot be read"}, nil)
		}
	}
}

// Join implements wire.Waiter.
func (*settlement) Join(uint64) bool { return true }

// Committed implements wire.Waiter.
func (on *settlement) Committed(_ uint64, err error) {
	if err != nil {
		on.of.end(Settled{ID: on.id}, err)
		return
	}
	on.journal.mu.Lock()
	last := on.journal.last
	on.journal.mu.Unlock()
	on.of.mu.Lock()
	defer on.of.mu.Unlock()
	on.upTo = last
}

// wait returns the outcome; when ctx ends first, the settlement is queued and goes on.
func (on *settlement) wait(ctx context.Context) (Settled, error) {
	select {
	case <-on.done:
		return on.outcome, on.err
	case <-ctx.Done():
		return Settled{ID: on.id, Fate: FateQueued}, nil
	}
}

// Retry puts a quarantined reading through the journal again, as a new attempt with its old numbers and time of
// receipt. It returns once the outcome is durable, or with FateQueued when ctx ends before that. The error is
// ErrNotQuarantined for an id that was never given, or ErrStopped.
func (in *Ingest) Retry(ctx context.Context, id uint64) (Settled, error) {
	return in.settle(ctx, id, entryRetry)
}

// Drop takes a reading out of the quarantine: from then on it is counted as refused(dropped). Otherwise as Retry.
func (in *Ingest) Drop(ctx context.Context, id uint64) (Settled, error) {
	return in.settle(ctx, id, entryDrop)
}

func (in *Ingest) settle(ctx context.Context, id uint64, kind byte) (Settled, error) {
	for {
		on, isNew := in.writer.settling.begin(id, in.journal)
		if isNew {
			in.startSettlement(ctx, on, kind)
		}
		outcome, err := on.wait(ctx)
		// A drop that met a retry waits for its end, and has its own say then.
		if isNew || err != nil || outcome.Fate == FateQueued || kind == entryRetry || outcome.Fate != FateQuarantined {
			return outcome, err
		}
	}
}

// startSettlement appends a new settlement to the journal, or ends it where there is nothing to append.
func (in *Ingest) startSettlement(ctx context.Context, on *settlement, kind byte) {
	q, err := in.writer.quarantine.get(ctx, on.id)
	if errors.Is(err, ErrNotQuarantined) {
		var given bool
		if given, err = in.writer.quarantine.gave(ctx, on.id); err == nil && !given {
			err = ErrNotQuarantined
		}
		in.writer.settling.end(Settled{ID: on.id, Fate: FateGone}, err)
		return
	}
	if err != nil {
		in.writer.settling.end(Settled{ID: on.id}, err)
		return
	}
	t := &wire.Telemetry{}
	if kind == entryRetry {
		if t, err = q.telemetry(in.journal.limits); err != nil {
			in.writer.settling.end(Settled{ID: on.id, Fate: FateQuarantined, Reason: q.Reason, Message: err.Error()}, nil)
			return
		}
	}
	if err := in.journal.settle(ctx, kind, &q, t, on); err != nil {
		in.writer.settling.end(Settled{ID: on.id}, err)
	}
}

// settle appends the entry of a retry or drop.
func (j *journal) settle(ctx context.Context, kind byte, q *Quarantined, t *wire.Telemetry, on *settlement) error {
	a := j.arrivals.of(q.Device)
	j.mu.Lock()
	defer j.mu.Unlock()
	b, err := j.take(ctx)
	if err != nil {
		return err
	}
	if kind == entryRetry && t.Readings[0].Flaw == "" && !a.names.admit(t.Measurement, t.Readings[0].Fields, nameLimit{j.names, q.Device}) {
		t.Readings[0].Flaw, t.Readings[0].Raw = wire.ReasonTooManyNames, []byte(q.Frame)
	}
	wasEmpty, from := b.empty(), len(b.envelope)
	b.envelope = appendSettlement(b.envelope, kind, a.appended, q, t)
	if size := len(b.envelope) - from; size > j.most {
		b.envelope = b.envelope[:from]
		return fmt.Errorf("retry a reading: it takes %d bytes in the journal, which takes %d", size, j.most)
	}
	b.marks = append(b.marks, mark{of: a})
	on.Join(b.gen)
	b.waiters = append(b.waiters, on)
	if wasEmpty {
		j.changed.Broadcast()
	}
	return nil
}

// settleEntry judges a retry or drop in the journal's order: it moves the reading out of quarantined, and what then becomes
// of it is counted as of any other. It needs mu.
func (w *writer) settleEntry(ctx, hard context.Context, a *account, e *entry) {
	outcome := Settled{ID: e.settles, Fate: FateDropped}
	if e.kind == entryRetry {
		w.work.at.reading++
	}
	if a.Quarantined+a.batch.Quarantined < e.count {
		w.log.Error("a retry or drop is of more than is quarantined and is passed over", "device", a.device, "id", e.settles)
		outcome.Fate = FateGone
		w.work.settle = append(w.work.settle, outcome)
		return
	}
	a.batch.Quarantined -= e.count // below zero for a moment: the sum with the account is not
	if e.kind == entryDrop {
		a.batch.refuse(reasonDropped, e.count)
		w.work.settle = append(w.work.settle, outcome)
		return
	}
	outcome.Fate = FateStored // unless it is set aside again
	w.work.settle = append(w.work.settle, outcome)
	p := point{account: a, received: e.received, seq: e.seq, boot: string(e.boot), retry: e.settles, at: w.work.at}
	r := &w.work.reading
	if !e.reading(r) {
		r.Flaw = reasonDamaged
	}
	w.place(ctx, hard, e, p, r)
}

// reasonDropped is the reason of readings that an operator dropped from the quarantine.
const reasonDropped = "dropped"

// takeOut removes what the batch settled from the quarantine, before the batch counts; it tries until that succeeds or
// hard ends.
func (w *writer) takeOut(hard context.Context) error {
	b := &w.work
	for i := range b.settle {
		s := &b.settle[i]
		for j := range b.aside {
			if b.aside[j].ID == s.ID {
				s.Fate, s.Reason, s.Message = FateQuarantined, b.aside[j].Reason, b.aside[j].Message
			}
		}
		if s.Fate == FateGone {
			continue
		}
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			err := w.quarantine.remove(hard, s.ID, s.Fate == FateQuarantined)
			if err == nil {
				break
			}
			select {
			case <-time.After(pause):
			case <-hard.Done():
				return err
			}
		}
	}
	w.settled = append(w.settled, b.settle...)
	return nil
}

// tellSettled tells who waits, once what the writer did is saved.
func (w *writer) tellSettled() {
	if w.saved != w.position {
		return
	}
	for _, s := range w.settled {
		w.settling.end(s, nil)
	}
	clear(w.settled)
	w.settled = w.settled[:0]
	w.settling.overtaken(w.saved)
}
