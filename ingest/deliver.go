package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"telemetryhub/wire"
)

// Store is where points are kept. Write takes lines of line protocol with times in ns; writing the same lines again
// changes nothing. It has three outcomes: nil, all of them are stored; *RejectedError, some of them never will be and
// the others may or may not be stored; any other error, none of them counts as stored and they can be tried again.
type Store interface {
	Write(ctx context.Context, lines []byte) error
}

// RejectedError is the store's word that lines are bad.
type RejectedError struct{ Message string }

// Error returns the store's own words.
func (e *RejectedError) Error() string { return "rejected by the store: " + e.Message }

// MisconfiguredError is a fault that only an operator can mend, such as wrong credentials or a missing bucket. Nothing
// is rejected because of it.
type MisconfiguredError struct{ Message, Mend string }

// Error says what is wrong and what mends it.
func (e *MisconfiguredError) Error() string { return e.Message + "; " + e.Mend }

// TooLargeError says that fewer lines at a time would be taken.
type TooLargeError struct{ Message string }

// Error returns the store's own words.
func (e *TooLargeError) Error() string { return "too large for the store: " + e.Message }

// RetryAfter is implemented by errors that know when the next try is welcome.
type RetryAfter interface{ RetryAfter() time.Duration }

// Pauses between tries to write.
const (
	storeFirstPause   = 200 * time.Millisecond
	storeLongestPause = 15 * time.Second
)

// errLeft says that the hub stops while the store takes nothing.
var errLeft = errors.New("the batch is left in the journal")

// deliver writes the batch, sets aside what the store rejects, and moves the position. It returns an error only when
// hard ends before the store has taken the batch, or ctx has ended and the store takes nothing: then nothing of it
// counts, and it is read again after the restart.
func (w *writer) deliver(ctx, hard context.Context) error {
	b := &w.work
	if len(b.points) > 0 {
		start := time.Now()
		if err := w.write(ctx, hard, b.points, 0); err != nil {
			return err
		}
		w.metrics.stored(time.Since(start), len(b.points))
	}
	if err := w.quarantine.put(hard, b.aside); err != nil {
		return err
	}
	w.tellAside()
	if err := w.takeOut(hard); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.position = b.last
	for _, a := range b.of {
		a.add(a.batch)
		a.batch = Counts{}
		w.dirty[a.device] = true
	}
	return nil
}

// write writes the lines of points, which begin at from in the batch's lines. Where the store rejects some of them it
// halves, until the bad ones are found and all others are stored.
func (w *writer) write(ctx, hard context.Context, points []point, from int) error {
	lines := w.work.lines[from:points[len(points)-1].end]
	err := w.try(ctx, hard, lines)
	var rejected *RejectedError
	var tooLarge *TooLargeError
	switch {
	case err == nil:
		for i := range points {
			points[i].account.batch.Stored++
		}
		return nil
	case errors.As(err, &rejected) && len(points) == 1:
		w.reject(points[0], lines, rejected.Message)
		return nil
	case errors.As(err, &tooLarge) && len(points) == 1:
		w.reject(points[0], lines, tooLarge.Message)
		return nil
	case errors.As(err, &rejected), errors.As(err, &tooLarge):
		half := len(points) / 2
		if err := w.write(ctx, hard, points[:half], from); err != nil {
			return err
		}
		return w.write(ctx, hard, points[half:], points[half-1].end)
	}
	return err
}

// try writes lines until the store takes or rejects them, a try fails after ctx has ended, or hard ends.
func (w *writer) try(ctx, hard context.Context, lines []byte) error {
	pause := storeFirstPause
	for {
		err := w.store.Write(hard, lines)
		var rejected *RejectedError
		var tooLarge *TooLargeError
		if err == nil || errors.As(err, &rejected) || errors.As(err, &tooLarge) {
			w.setFault(nil)
			return err
		}
		if hard.Err() != nil {
			return fmt.Errorf("write to the store: %w; it waits in the journal", errors.Join(hard.Err(), err))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("write to the store: %w: %w", errLeft, err)
		}
		w.setFault(err)
		w.metrics.retries.Inc()
		wait := pause/2 + rand.N(pause)
		var advised RetryAfter
		if errors.As(err, &advised) {
			wait = max(wait, advised.RetryAfter())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done(): // one try more
		}
		pause = min(2*pause, storeLongestPause)
	}
}

// reject sets aside one point with the store's own words.
func (w *writer) reject(p point, line []byte, message string) {
	p.account.batch.Quarantined++
	w.work.aside = append(w.work.aside, Quarantined{
		ID: p.retry, Count: 1, Device: p.account.device, Reason: wire.ReasonStoreRejected, Message: message, Boot: p.boot, Seq: p.seq,
		Received: time.UnixMilli(p.received).UTC(), Frame: withMillis(line), at: p.at,
	})
}

// withMillis returns a line with its time in ms, as all of the quarantine are.
func withMillis(line []byte) string {
	digits := bytes.LastIndexByte(line, ' ') + 1
	ns, err := strconv.ParseInt(string(bytes.TrimRight(line[digits:], "\n")), 10, 64)
	if err != nil {
		return string(line)
	}
	ms := ns / nanosPerMs
	if ns%nanosPerMs < 0 {
		ms-- // before 1970
	}
	return string(append(strconv.AppendInt(line[:digits:digits], ms, 10), '\n'))
}

// setFault notes whether the store takes points, and logs when that changes.
func (w *writer) setFault(err error) {
	w.mu.Lock()
	before := w.fault
	w.fault = err
	w.mu.Unlock()
	var misconfigured *MisconfiguredError
	switch {
	case errors.As(err, &misconfigured) && (before == nil || before.Error() != err.Error()):
		w.log.Error("the store refuses the hub; readings wait in the journal until that is mended", "err", misconfigured.Message, "mend", misconfigured.Mend)
	case err != nil && before == nil:
		w.log.Warn("the store takes nothing; readings wait in the journal", "err", err)
	case err == nil && before != nil:
		w.log.Info("the store takes readings again")
	}
}

// tellAside tells of the readings that have come into the quarantine.
func (w *writer) tellAside() {
	if w.cfg.SetAside == nil {
		return
	}
	for i := range w.work.aside {
		a := &w.work.aside[i]
		w.cfg.SetAside(a.Device, a.Reason, a.Message, a.Count)
	}
}
