package acts

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/backbone"
)

const (
	writeTimeout = 10 * time.Second
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// batch is one message of the stream.
type batch struct {
	Floor time.Time `json:"floor"` // of commands sent before it, none is missing in the log
	Acts  []Act     `json:"acts"`
}

// floorSlack is more than passes between a command's time and its coming here: its record is written in between.
const floorSlack = time.Minute

// write is the life of the writer: it ends when the log is closed and nothing waits, or ctx has ended.
func (l *Log) write() {
	for {
		taken, ok := l.take()
		if !ok {
			return
		}
		if !l.publish(taken) {
			return
		}
		l.written(taken)
	}
}

// take waits for acts and returns those to be written at once. They stay in the queue until they are.
func (l *Log) take() (taken []pending, ok bool) {
	var gathered <-chan time.Time
	for {
		l.mu.Lock()
		n := len(l.queue)
		full := n >= maxBatch || l.waited > 0 || l.closed
		taken = l.queue[:min(n, maxBatch):min(n, maxBatch)]
		closed := l.closed
		l.mu.Unlock()
		switch {
		case n > 0 && full:
			return taken, true
		case n == 0 && closed:
			return nil, false
		case n > 0 && gathered == nil:
			gathered = time.After(linger)
		}
		select {
		case <-gathered:
			return taken, true
		case <-l.wake:
		case <-l.ctx.Done():
			return nil, false
		}
	}
}

// publish writes a batch, until it is written or ctx has ended.
func (l *Log) publish(taken []pending) bool {
	b := batch{Floor: l.floor(taken), Acts: make([]Act, len(taken))}
	for i := range taken { // and nothing else of them: flush may change the rest at this moment
		b.Acts[i] = taken[i].act
	}
	data, err := json.Marshal(b)
	if err != nil {
		l.log.Error("audit log: acts cannot be encoded; they are lost", "acts", len(taken), "err", err)
		return true
	}
	id := rand.Text() // NATS drops the second of a try that had succeeded unheard
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		ctx, cancel := context.WithTimeout(l.ctx, writeTimeout)
		_, err = l.js.Publish(ctx, backbone.ActsSubject, data, jetstream.WithMsgID(id))
		cancel()
		if err == nil {
			return true
		}
		l.failed(err)
		select {
		case <-time.After(pause/2 + mrand.N(pause/2)):
		case <-l.ctx.Done():
			return false
		}
	}
}

// floor is from when on commands may be missing when these acts have been written.
func (l *Log) floor(taken []pending) time.Time {
	floor := time.Now().Add(-floorSlack)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(floor) {
			floor = t
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	earlier(l.dropped)
	for _, p := range l.queue[len(taken):] {
		earlier(p.act.Time)
	}
	return floor.UTC()
}

func (l *Log) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Failures++
	if l.fault == nil {
		l.log.Error("audit log: acts cannot be written; they are kept and tried again", "acts", len(l.queue), "err", err)
	}
	l.fault = fmt.Errorf("the audit log cannot be written: %w", err)
}

// written tells those who wait, and fetches what had no room.
func (l *Log) written(taken []pending) {
	l.mu.Lock()
	if l.fault != nil {
		l.log.Info("audit log: written again", "acts", len(l.queue))
	}
	l.fault = nil
	l.queue = append([]pending(nil), l.queue[len(taken):]...)
	l.stats.Written += uint64(len(taken))
	for _, p := range taken {
		if p.done != nil {
			l.waited--
			close(p.done)
		}
	}
	since, source := l.dropped, l.source
	fetch := !since.IsZero() && source != nil && len(l.queue) == 0
	l.mu.Unlock()
	if fetch {
		if err := l.recover(l.ctx, since, source); err != nil {
			l.log.Error("audit log: commands could not be compared with the ledger; tried again later", "err", err)
		}
	}
}
