package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	bucketTimeout = 10 * time.Second // of one read or write of the bucket
	firstRetry    = 100 * time.Millisecond
	longestRetry  = 5 * time.Second
)

// save hands an entry to the writers. What changes while it waits or is being written is
// written with it or after it, so an entry is in the queue at most once. Called with mu.
func (s *Service) save(e *entry) {
	e.unsaved = true
	if e.queued || !e.retry.IsZero() {
		return
	}
	e.queued = true
	s.queue = append(s.queue, e)
	s.work.Signal()
}

func (s *Service) writeLoop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 {
			if s.closed {
				return
			}
			s.work.Wait()
		}
		if s.ctx.Err() != nil {
			return
		}
		s.writeNext(s.take())
	}
}

// writeNext writes what was taken, together if it is more than one. Called with mu, which it leaves meanwhile.
func (s *Service) writeNext(jobs []job) {
	if len(jobs) > 1 {
		s.mu.Unlock()
		revisions, err := s.writeTogether(jobs)
		s.mu.Lock()
		if err == nil {
			s.stats.Batches++
			for i, j := range jobs {
				s.written(j.e, j.version, j.cmd, revisions[i], nil)
			}
			return
		}
		s.stats.BatchFailures++
		s.log.Debug("command ledger: a batch could not be written; its records are written one by one", "records", len(jobs), "err", err)
	}
	for _, j := range jobs {
		s.mu.Unlock()
		stored, rev, err := s.write(j.cmd, j.rev)
		s.mu.Lock()
		s.written(j.e, j.version, stored, rev, err)
	}
}

// write puts a command into the bucket if it is still at rev (0: new), and returns what the bucket now holds. Where
// somebody else was first, or an earlier try had succeeded unheard, the change is made on top of what is there,
// if it is legal there; else what is there stands.
func (s *Service) write(cmd Command, rev uint64) (Command, uint64, error) {
	next, err := s.put(cmd, rev)
	if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && !errors.Is(err, jetstream.ErrKeyExists) {
		return cmd, next, err
	}
	there, rev, err := s.read(s.ctx, cmd.ID)
	if err != nil {
		return cmd, 0, err
	}
	if there.State == cmd.State && there.changed().Equal(cmd.changed()) {
		return cmd, rev, nil // it was this change, unheard
	}
	if len(cmd.History) == 0 || !legal(&there, cmd.History[len(cmd.History)-1]) {
		s.log.Warn("command ledger: the bucket was ahead", "command", cmd.ID, "bucket", there.State, "here", cmd.State)
		return there, rev, nil
	}
	merged := there
	merged.record(cmd.History[len(cmd.History)-1])
	merged.Result, merged.Error, merged.Late = cmd.Result, cmd.Error, cmd.Late
	merged.Session, merged.Attempt, merged.CancelAsked = cmd.Session, cmd.Attempt, cmd.CancelAsked
	next, err = s.put(merged, rev)
	return merged, next, err
}

func (s *Service) put(cmd Command, rev uint64) (uint64, error) {
	record, err := encodeRecord(cmd)
	if err != nil {
		return 0, fmt.Errorf("command %s: encode: %w", cmd.ID, err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, bucketTimeout)
	defer cancel()
	var next uint64
	if rev == 0 {
		next, err = s.kv.Create(ctx, cmd.ID, record)
	} else {
		next, err = s.kv.Update(ctx, cmd.ID, record, rev)
	}
	if err != nil {
		return 0, fmt.Errorf("command %s: write: %w", cmd.ID, err)
	}
	return next, nil
}

// written takes the outcome of a write: what is durable becomes visible. Called with mu.
func (s *Service) written(e *entry, version int, stored Command, rev uint64, err error) {
	e.queued = false
	if err != nil {
		s.notWritten(e, err)
		if !e.shown && e.refused == nil {
			s.notRecorded(e, err)
		}
		return
	}
	if e.failures > 0 {
		s.log.Info("command ledger: written again", "command", e.next.ID, "failures", e.failures)
	}
	first := !e.shown && e.refused == nil
	e.failures, e.rev, e.shown, e.durable = 0, rev, true, version
	if e.written != nil {
		close(e.written)
		e.written = nil
	}
	if e.version == version {
		e.unsaved = false
		progress := e.next.Progress
		e.next = stored
		e.next.Progress = progress
		if stored.State.Final() { // of the bucket's own accord, maybe
			s.ended(e)
		}
	}
	s.show(e, stored)
	s.proceed(e, first)
	if e.unsaved {
		s.save(e)
		return
	}
	if !stored.State.Final() {
		return
	}
	s.discount(e)
	if s.mirror.bytes > s.mirror.limit {
		s.mirror.evict(nil)
	}
}

// proceed does what was to follow a durable change: the command goes out, and whoever asked for it is answered after
// that. Called with mu.
func (s *Service) proceed(e *entry, first bool) {
	l := s.lane(e.next.Device)
	if first && e.abandoned != "" {
		e.next.Attempt = 0
		s.abandon(e, e.abandoned, e.abandoner)
	}
	if e.departing {
		s.dispatch(l)
	} else if first {
		s.rouse(l) // it waits, and its place may be free by now
	}
	if first {
		if s.cfg.Recorded != nil {
			s.cfg.Recorded(e.view)
		}
		close(e.recorded)
	}
	s.sweepLane(l)
}

// show makes a durable command what readers see. Called with mu.
func (s *Service) show(e *entry, stored Command) {
	wasFinal := e.view.State.Final()
	e.view = stored
	e.view.Progress = e.next.Progress
	switch {
	case stored.State.Final() && !wasFinal:
		s.tallied.ended(&stored)
		close(e.settled)
	case wasFinal:
		s.tallied.late++
	}
	s.feeds.Publish(e.view)
}

// notWritten arranges the next try: later with jitter, or at once when the hub stops. Called with mu.
func (s *Service) notWritten(e *entry, err error) {
	s.stats.WriteFailures++
	e.failures++
	if e.failures == 1 {
		s.log.Error("command ledger: a change could not be written; it is tried again", "command", e.next.ID, "state", e.next.State, "err", err)
	}
	pause := min(firstRetry<<min(e.failures-1, 10), longestRetry)
	pause = pause/2 + rand.N(pause/2+1)
	if !s.closed {
		e.retry = time.Now().Add(pause)
		s.setAlarm(e)
		return
	}
	s.mu.Unlock() // the alarms have ended: this writer waits itself
	timer := time.NewTimer(firstRetry)
	select {
	case <-timer.C:
	case <-s.ctx.Done():
		timer.Stop()
	}
	s.mu.Lock()
	if !e.queued {
		s.save(e)
	}
}

func encodeRecord(cmd Command) ([]byte, error) { return encodeJSON(cmd) }

func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // params stay as they were asked for
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
