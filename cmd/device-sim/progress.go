package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	barEvery = 200 * time.Millisecond
	logEvery = 10 * time.Second
)

// progress tells how a run goes: a bar on a terminal, else a line now and then.
type progress struct {
	fleet *fleet
	bar   *progressbar.ProgressBar // nil without a terminal

	mu    sync.Mutex
	start time.Time // of the readings
	done  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

func newProgress(w io.Writer, f *fleet) *progress {
	p := &progress{fleet: f, done: make(chan struct{})}
	every := logEvery
	if file, is := w.(*os.File); is && term.IsTerminal(int(file.Fd())) {
		every = barEvery
		p.bar = progressbar.NewOptions64(p.whole(), progressbar.OptionSetWriter(w), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(true), progressbar.OptionFullWidth(),
			progressbar.OptionThrottle(barEvery/2))
	}
	p.ended.Go(func() { p.loop(every) })
	return p
}

// whole is what counts as finished: ms of --duration, readings of a replay that ends by itself, or -1.
func (p *progress) whole() int64 {
	switch o := p.fleet.options; {
	case o.replayMode() == replayAtOnce || o.replayMode() == replayPaced:
		var sum int64
		for _, r := range p.fleet.replays {
			sum += int64(len(r.file.Steps))
		}
		return sum
	case o.Duration > 0:
		return o.Duration.Milliseconds()
	}
	return -1
}

func (p *progress) loop(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-p.done:
			if p.bar != nil {
				_ = p.bar.Clear() // a bar that stays is no harm
			}
			return
		case <-ticker.C:
			p.show()
		}
	}
}

func (p *progress) show() {
	t := p.fleet.tally
	if p.bar == nil {
		p.fleet.log.Info("progress", "connected", t.connected.Load(), "sent", t.sent.Load(), "acked", t.acked.Load(),
			"reconnects", t.reconnects.Load(), "failed_attempts", t.failedAttempts.Load(), "last_end", t.lastCause())
		return
	}
	p.mu.Lock()
	start := p.start
	p.mu.Unlock()
	if start.IsZero() {
		return
	}
	p.bar.Describe(fmt.Sprintf("%d devices, sent %d, acked %d, reconnects %d", t.connected.Load(), t.sent.Load(), t.acked.Load(), t.reconnects.Load()))
	at := int64(t.acked.Load())
	if p.fleet.options.replayMode() == replayNone || p.fleet.options.replayMode() == replayHistory {
		at = time.Since(start).Milliseconds()
	}
	if whole := p.bar.GetMax64(); whole > 0 {
		at = min(at, whole-1) // the bar ends with the run
	}
	_ = p.bar.Set64(at) // a terminal that went away is no reason to stop
}

// registered tells how many devices are registered.
func (p *progress) registered(done int) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("registered %d of %d devices", done, len(p.fleet.devices)))
	}
}

// begin tells that readings begin.
func (p *progress) begin(start time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start = start
}

// stop ends it; a second call does nothing.
func (p *progress) stop() {
	p.once.Do(func() { close(p.done) })
	p.ended.Wait()
}
