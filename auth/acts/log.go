package acts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
)

const (
	// MaxPending is how many acts may wait to be written.
	MaxPending = 10_000
	// maxBatch is how many are written at once.
	maxBatch = 64
	// linger is how long acts for which nobody waits gather, so that a row of commands costs few writes.
	linger = 100 * time.Millisecond
	// appendTimeout is how long Append waits for a log that cannot be written.
	appendTimeout = 5 * time.Second
)

// Errors of Append.
var (
	ErrFull   = errors.New("too many acts wait to be written to the audit log")
	ErrClosed = errors.New("the audit log is closed")
)

// pending is an act that waits to be written.
type pending struct {
	act  Act
	done chan struct{} // closed when it is written; nil: nobody waits
}

// Stats are the log's gauges and counters.
type Stats struct {
	Pending  int    // acts that wait to be written
	Written  uint64 // acts, since the start
	Lost     uint64 // acts that did not fit into the queue and are nowhere else
	Failures uint64 // writes that failed and are tried again
}

// Log is the audit log. Open makes it; Close ends it.
type Log struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	log    *slog.Logger

	mu      sync.Mutex
	queue   []pending
	waited  int // of queue, those for which somebody waits
	source  Source
	dropped time.Time // acts of commands from then on are to be fetched from the source; zero: none
	fault   error     // of the last write
	stats   Stats
	closed  bool

	wake   chan struct{} // something came
	ended  chan struct{} // the writer has
	ctx    context.Context
	cancel context.CancelFunc // gives up what cannot be written
}

// Open opens the log of a backbone.
func Open(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*Log, error) {
	stream, err := js.Stream(ctx, backbone.Acts)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	l := &Log{js: js, stream: stream, log: log, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() { //nolint:contextcheck // the writer ends with the log, not with its start
		defer close(l.ended)
		l.write()
	}()
	return l, nil
}

// Close writes what waits, until ctx ends.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stir()
	select {
	case <-l.ended:
	case <-ctx.Done():
	}
	l.cancel()
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.queue); n > 0 {
		return fmt.Errorf("audit log: %d acts could not be written: %w", n, l.fault)
	}
	return nil
}

// Append writes an act and returns when it is on disk. With an error it may still be written later, unless that is
// ErrFull or ErrClosed. The end of ctx does not take it back.
func (l *Log) Append(ctx context.Context, a Act) error {
	done := make(chan struct{})
	if err := l.put(pending{a, done}); err != nil {
		return err
	}
	timer := time.NewTimer(appendTimeout)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	case <-l.ended:
		select {
		case <-done:
			return nil
		default:
		}
	}
	return errors.Join(errors.New("the act is not in the audit log yet"), l.Err(), ctx.Err())
}

// Note writes an act soon, and does not wait.
func (l *Log) Note(a Act) {
	if l.put(pending{act: a}) == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.Act != CommandSend {
		l.stats.Lost++
		return
	}
	if l.dropped.IsZero() || a.Time.Before(l.dropped) {
		l.dropped = a.Time
	}
}

func (l *Log) put(p pending) error {
	if p.act.Time.IsZero() {
		p.act.Time = time.Now()
	}
	p.act.Time = p.act.Time.UTC().Truncate(time.Millisecond)
	p.act = p.act.bounded()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case len(l.queue) >= MaxPending:
		return ErrFull
	}
	l.queue = append(l.queue, p)
	if p.done != nil {
		l.waited++
	}
	l.stir()
	return nil
}

// flushTimeout bounds how long a reader waits for what is about to be written.
const flushTimeout = time.Second

// flush lets what waits be written at once, so that who has just done something reads it.
func (l *Log) flush(ctx context.Context) {
	l.mu.Lock()
	n := len(l.queue)
	if n == 0 {
		l.mu.Unlock()
		return
	}
	last := &l.queue[n-1]
	if last.done == nil {
		last.done = make(chan struct{})
		l.waited++
	}
	done := last.done
	l.mu.Unlock()
	l.stir()
	timer := time.NewTimer(flushTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stir wakes the writer.
func (l *Log) stir() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Err returns why the log cannot be written at present, nil if it can.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// Stats returns the gauges and counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Pending = len(l.queue)
	return s
}
