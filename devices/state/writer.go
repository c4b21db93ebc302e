package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	writers       = 4                // writes of the bucket at one time, each an fsync
	conflicts     = 16               // how often a change is merged again because another hub was first
	bucketTimeout = 10 * time.Second // of one read or write of the bucket
	firstRetry    = 100 * time.Millisecond
	longestRetry  = 5 * time.Second
	longestJitter = 64 * time.Millisecond
)

func (s *Documents) writeLoop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 {
			if s.closed && !s.anyWriting() {
				return
			}
			s.work.Wait()
		}
		if s.ctx.Err() != nil {
			return
		}
		c := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		c.queued = false
		taken := c.waiting
		c.waiting = nil
		if len(taken) == 0 { // withdrawn or forgotten
			s.finished(c)
			continue
		}
		c.writing = true
		s.mu.Unlock()
		left, err := s.write(c.device, taken)
		s.mu.Lock()
		c.writing = false
		c.waiting = append(left, c.waiting...)
		s.written(c, err)
	}
}

// anyWriting reports whether a writer may yet leave something to be written again. Called with mu.
func (s *Documents) anyWriting() bool {
	for _, c := range s.changes {
		if c.writing {
			return true
		}
	}
	return false
}

// written arranges what follows a write. Called with mu.
func (s *Documents) written(c *changes, err error) {
	c.retry = time.Time{}
	if err != nil {
		if c.fails++; c.fails == 1 {
			s.log.Error("a device's state could not be written; it is tried again", "device", c.device, "err", err)
		}
		s.metrics.failures.Inc()
		pause := min(firstRetry<<min(c.fails-1, 10), longestRetry)
		c.retry = time.Now().Add(pause/2 + rand.N(pause/2+1))
	} else if c.fails > 0 {
		s.log.Info("a device's state was written again", "device", c.device, "failures", c.fails)
		c.fails = 0
	}
	if s.closed && err != nil { // Close tells who waits
		s.work.Broadcast()
		return
	}
	s.finished(c)
}

// finished schedules what waits, or forgets a device that has nothing under way. Called with mu.
func (s *Documents) finished(c *changes) {
	if len(c.waiting) > 0 {
		s.schedule(c)
	} else if !c.queued && !c.writing {
		if c.timer != nil {
			c.timer.Stop()
		}
		delete(s.changes, c.device)
	}
	if s.closed {
		s.work.Broadcast()
	}
}

// write makes a device's changes durable and ends them. After an error those that are left are to be tried again.
func (s *Documents) write(device string, all []*change) (left []*change, err error) {
	if !s.known(device) {
		s.endAll(all, ErrNoDevice)
		return nil, nil
	}
	var b *batch
	for try := range conflicts {
		r, revision, err := s.read(s.ctx, device)
		if err != nil {
			return s.failed(all, err, ErrNotMade)
		}
		if b, err = s.merge(r, all); err != nil {
			return s.failed(all, err, ErrNotMade)
		}
		if b.record.Version == r.Version { // nothing to write
			b.end()
			return nil, nil
		}
		next, err := s.put(b.record, revision)
		if err == nil {
			s.metrics.count(b)
			s.keep(b.record, next)
			s.afterWrite(device, b)
			b.end()
			return nil, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return s.failed(all, err, ErrUncertain)
		}
		s.metrics.conflicts.Inc()
		time.Sleep(rand.N(min(time.Millisecond<<try, longestJitter))) // so that two hubs do not meet again and again
	}
	return s.failed(all, fmt.Errorf("other hubs changed it %d times meanwhile", conflicts), ErrNotMade)
}

// afterWrite notes a device's pace, and removes what was written for a device that was deleted meanwhile.
func (s *Documents) afterWrite(device string, b *batch) {
	if b.reported {
		s.mu.Lock()
		s.spend(device)
		s.mu.Unlock()
	}
	if s.known(device) {
		return
	}
	if err := s.Forget(s.ctx, device); err != nil {
		s.log.Warn("the state of a deleted device was not removed", "device", device, "err", err)
	}
}

// failed ends operators' changes by outcome, and leaves the device's own for another try.
func (s *Documents) failed(all []*change, err, outcome error) (left []*change, _ error) {
	for _, c := range all {
		if c.side == Reported {
			left = append(left, c)
		} else {
			c.end(0, fmt.Errorf("%w: %w", outcome, err))
		}
	}
	return left, err
}

func (s *Documents) endAll(all []*change, err error) {
	for _, c := range all {
		c.end(0, err)
	}
}

func (s *Documents) read(ctx context.Context, device string) (record, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	e, err := s.kv.Get(ctx, keyOf(device))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{Device: device}, 0, nil
	}
	if err != nil {
		return record{}, 0, fmt.Errorf("read the state of device %s: %w", device, err)
	}
	r, err := decodeRecord(e.Value())
	if err != nil {
		return record{}, 0, fmt.Errorf("read the state of device %s: %w", device, err)
	}
	return r, e.Revision(), nil
}

// put writes a record where the bucket has it at revision (0: not at all).
func (s *Documents) put(r record, revision uint64) (uint64, error) {
	value, err := r.encode()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, bucketTimeout)
	defer cancel()
	if revision == 0 {
		revision, err = s.kv.Create(ctx, keyOf(r.Device), value)
	} else {
		revision, err = s.kv.Update(ctx, keyOf(r.Device), value, revision)
	}
	if err != nil {
		return 0, fmt.Errorf("write the state of device %s: %w", r.Device, err)
	}
	return revision, nil
}

// batch is several changes of one device that are written together.
type batch struct {
	record   record
	reported bool // changes what the device reported
	desired  int  // changes of what is desired
	outcomes []outcome
}

type outcome struct {
	change  *change
	version uint64
	err     error
}

func (b *batch) end() {
	for _, o := range b.outcomes {
		o.change.end(o.version, o.err)
	}
}

// merge applies all to r. Reports are one change together: they differ by moments, and each answer is right about the
// version that holds its report. An operator's changes have a version each.
func (s *Documents) merge(r record, all []*change) (*batch, error) {
	b := &batch{record: r}
	b.record.History = append([]Change(nil), r.History...)
	now := stamp(time.Now())
	doc, times, err := b.record.Reported.trees()
	if err != nil {
		return nil, unreadable(r.Device, err)
	}
	before := doc
	var reports []outcome
	for _, c := range all {
		if c.side == Reported {
			var err error
			doc, err = s.applied(doc, c)
			reports = append(reports, outcome{change: c, err: err})
		}
	}
	if len(reports) > 0 {
		b.reported = b.record.change(Reported, before, doc, times, now, "device")
	}
	for _, o := range reports {
		o.version = b.record.Version
		b.outcomes = append(b.outcomes, o)
	}
	return b, s.mergeDesired(b, all, now)
}

func (s *Documents) mergeDesired(b *batch, all []*change, now time.Time) error {
	for _, c := range all {
		if c.side != Desired {
			continue
		}
		if !c.isFor(b.record.Version) {
			b.outcomes = append(b.outcomes, outcome{change: c, err: &VersionError{Device: b.record.Device, Current: b.record.Version}})
			continue
		}
		doc, times, err := b.record.Desired.trees()
		if err != nil {
			return unreadable(b.record.Device, err)
		}
		next, err := s.applied(doc, c)
		if b.record.change(Desired, doc, next, times, now, c.actor) {
			b.desired++
		}
		b.outcomes = append(b.outcomes, outcome{change: c, version: b.record.Version, err: err})
	}
	return nil
}

// applied returns doc with a change, or doc as it is and why not.
func (s *Documents) applied(doc map[string]any, c *change) (map[string]any, error) {
	if c.clear {
		doc, c = map[string]any{}, &change{side: c.side}
	}
	next := mergeObject(doc, c.patch)
	if size := len(encode(next)); size > s.cfg.MaxBytes {
		return doc, &InvalidError{
			Pointer: "/" + string(c.side), Limit: int64(s.cfg.MaxBytes), Value: int64(size), TooLarge: true,
			Message: fmt.Sprintf("the document would have %d bytes; at most %d are kept", size, s.cfg.MaxBytes),
		}
	}
	return next, nil
}

func (c *change) isFor(version uint64) bool {
	return c.only == nil || slices.Contains(c.only, version)
}

// unreadable hides an error of what was kept from those who would take it for the caller's fault.
func unreadable(device string, err error) error {
	return fmt.Errorf("the kept document of device %s cannot be read: %s", device, err.Error())
}

// change makes a half of the record another document, as one change, and reports whether it is one.
func (r *record) change(side Side, from, to, times map[string]any, now time.Time, actor string) bool {
	patch := diff(from, to)
	if len(patch) == 0 {
		return false
	}
	r.Version++
	h := r.half(side)
	h.Doc, h.Times = encode(to), encode(mergeObject(times, timesOf(patch, now)))
	h.Version, h.At, h.By = r.Version, now, actor
	r.note(Change{Version: r.Version, Time: now, Side: side, Actor: actor, Patch: encode(patch)})
	return true
}
