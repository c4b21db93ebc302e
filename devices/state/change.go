package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxDesires bounds operators' changes of one device that are under way.
const MaxDesires = 64

// change is one patch on its way to the bucket.
type change struct {
	side  Side
	patch map[string]any
	clear bool     // remove all that there is, before the patch
	only  []uint64 // versions that it is for; nil: any
	actor string
	done  func(version uint64, err error) // called once, without locks
}

func (c *change) end(version uint64, err error) { c.done(version, err) }

// changes are those of one device that are under way. Guarded by Documents.mu.
type changes struct {
	device  string
	waiting []*change
	queued  bool        // in Documents.queue
	writing bool        // a writer has it
	timer   *time.Timer // until the device's pace, or the next try; nil: none
	retry   time.Time   // not before
	fails   int         // of writing, in a row
}

// Report merges patch into what the device reported. A patch that cannot be used is refused at once, by a *wire.Error.
// Else done is called once, from another goroutine: with the document's version when the change is durable, with a
// *wire.Error where the document would be too large, with any other error when it can never be. It does not wait;
// whoever calls it bounds how many of its reports are under way.
func (s *Documents) Report(device string, patch []byte, done func(version uint64, err error)) error {
	tree, err := s.parse(patch, Reported)
	if err != nil {
		s.metrics.refused.Inc()
		return err.wire()
	}
	return s.add(device, &change{side: Reported, patch: tree, actor: "device", done: func(version uint64, err error) {
		if invalid, ok := errors.AsType[*InvalidError](err); ok {
			s.metrics.refused.Inc()
			err = invalid.wire()
		}
		done(version, err)
	}})
}

// parse reads a patch.
func (s *Documents) parse(patch []byte, side Side) (map[string]any, *InvalidError) {
	tree, err := parseObject(patch)
	if err == nil {
		return tree, nil
	}
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok {
		invalid = &InvalidError{Message: err.Error()}
	}
	return nil, invalid.under(side)
}

// Desire merges patch into what is desired of the device and returns the document once that is durable; a patch that is
// null removes all. With versions given, the document must have one of them. Errors: *InvalidError, *VersionError,
// *BusyError, ErrNoDevice, ErrClosed, ErrNotMade (also when ctx ended first) and ErrUncertain.
func (s *Documents) Desire(ctx context.Context, device string, patch []byte, only []uint64, actor string) (Document, error) {
	ended := make(chan error, 1)
	c := &change{side: Desired, only: only, actor: actor, done: func(_ uint64, err error) { ended <- err }}
	if c.clear = string(bytes.TrimSpace(patch)) == "null"; !c.clear {
		var invalid *InvalidError
		if c.patch, invalid = s.parse(patch, Desired); invalid != nil {
			s.metrics.refused.Inc()
			return Document{}, invalid
		}
	}
	if err := s.add(device, c); err != nil {
		return Document{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, desireTimeout)
	defer cancel()
	select {
	case err := <-ended:
		return s.Get(device), err
	case <-ctx.Done():
		if s.withdraw(device, c) {
			return Document{}, fmt.Errorf("device %s: %w in time: %w", device, ErrNotMade, ctx.Err())
		}
	}
	// A writer has it: the bucket says in time what came of it.
	return s.Get(device), <-ended
}

// desireTimeout bounds how long an operator's change waits for the bucket.
const desireTimeout = 10 * time.Second

// withdraw takes back a change that no writer has.
func (s *Documents) withdraw(device string, c *change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, ok := s.changes[device]
	if !ok {
		return false
	}
	n := len(all.waiting)
	all.waiting = slices.DeleteFunc(all.waiting, func(w *change) bool { return w == c })
	s.finished(all)
	return len(all.waiting) < n
}

func (s *Documents) add(device string, c *change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	all, ok := s.changes[device]
	if !ok {
		all = &changes{device: device}
		s.changes[device] = all
	}
	if c.side == Desired {
		desires := 0
		for _, w := range all.waiting {
			if w.side == Desired {
				desires++
			}
		}
		if desires >= MaxDesires {
			return &BusyError{Limit: MaxDesires}
		}
	}
	all.waiting = append(all.waiting, c)
	s.schedule(all)
	return nil
}

// A device's pace.
const (
	perSecond = 10
	burst     = 10
)

// schedule lets a writer take a device's changes, now or when its pace allows it. Called with mu.
func (s *Documents) schedule(c *changes) {
	if c.queued || c.writing || len(c.waiting) == 0 {
		return
	}
	now := time.Now()
	wait := c.retry.Sub(now)
	if d, ok := s.byDevice[c.device]; ok && !slices.ContainsFunc(c.waiting, func(w *change) bool { return w.side == Desired }) {
		wait = max(wait, time.Duration(d.pace-now.UnixNano())-(burst-1)*time.Second/perSecond)
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if wait > 0 && !s.closed {
		c.timer = time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.finished(c)
		})
		return
	}
	c.queued = true
	s.queue = append(s.queue, c)
	s.work.Signal()
}

// spend notes that a device wrote a change of its own. Called with mu.
func (s *Documents) spend(device string) {
	if d, ok := s.byDevice[device]; ok {
		d.pace = max(d.pace, time.Now().UnixNano()) + int64(time.Second/perSecond)
	}
}
