package rollouts

import (
	"fmt"
	"strings"

	"telemetryhub/commands"
	"telemetryhub/feed"
)

// counts is how many devices have each outcome.
type counts = map[Outcome]int

// keyPrefix begins the Idempotency-Keys of rollouts' commands; nobody else's may.
const keyPrefix = "rollout."

func keyOf(id string) string { return keyPrefix + id }

// Of returns the rollout that a command belongs to.
func Of(c commands.Command) (id string, ok bool) {
	return strings.CutPrefix(c.IdempotencyKey, keyPrefix)
}

// OwnKey reports whether an Idempotency-Key is kept for rollouts.
func OwnKey(key string) bool { return strings.HasPrefix(key, keyPrefix) }

// set notes what became of a device. Called with mu.
func (s *Service) set(r *rollout, i int, o Outcome, command, text string) {
	l := r.live
	t := l.targets[i]
	if t.Outcome == o && t.Command == command && t.Text == text {
		return
	}
	s.tally(r, i, -1)
	run := t.Run
	if !t.Outcome.Final() {
		run = r.head.Run // an outcome that is mended stays in the run that it came in
	}
	l.targets[i] = note{Outcome: o, Command: command, Text: text, Run: run}
	s.tally(r, i, 1)
	l.dirty[i/shardSize] = true
	l.version++
	l.poke()
}

// tally counts a device in (1) or out (-1). Called with mu.
func (s *Service) tally(r *rollout, i, n int) {
	l := r.live
	t := l.targets[i]
	if l.counts[t.Outcome] += n; l.counts[t.Outcome] == 0 {
		delete(l.counts, t.Outcome)
	}
	if t.Outcome == Outcome(commands.Queued) {
		s.queued += n
	} else if t.Outcome.atWork() {
		s.working += n
	}
	inWave := i >= l.wave.from && i < l.wave.to
	if !t.Outcome.Final() {
		if inWave {
			l.wave.open += n
		}
		return
	}
	if t.Run != r.head.Run {
		return
	}
	if t.Outcome.evidence() {
		l.ended += n
	}
	if t.Outcome.Failure() {
		l.failures += n
	}
	if inWave {
		l.wave.count(t.Outcome, n)
	}
}

// open is how many devices have no outcome yet.
func (l *live) open() int {
	open := len(l.targets)
	for o, n := range l.counts {
		if o.Final() {
			open -= n
		}
	}
	return open
}

// atWork is how many commands are with their devices.
func (l *live) atWork() (n int) {
	for o, count := range l.counts {
		if o.atWork() {
			n += count
		}
	}
	return n
}

func failuresOf(c counts) (n int) {
	for o, count := range c {
		if o.Failure() {
			n += count
		}
	}
	return n
}

// overLimit says in words which limit of failures is reached; "" is none. Called with mu.
func (r *rollout) overLimit() string {
	l, limits := r.live, r.head.Limits
	minimum := limits.Minimum
	if minimum == 0 {
		minimum = leastEnded
	}
	since := ""
	if r.head.Run > 0 {
		since = " since it was resumed"
	}
	if limits.Failures.reached(l.failures, l.ended, minimum) {
		return fmt.Sprintf("%d of %d devices failed%s; the limit is %s", l.failures, l.ended, since, limits.Failures)
	}
	w := &l.wave
	if w.open == 0 {
		minimum = 1
	}
	if limits.WaveFailures.reached(w.failures, w.ended, minimum) {
		return fmt.Sprintf("%d of %d devices of wave %d failed%s; the limit is %s", w.failures, w.ended, w.number, since, limits.WaveFailures)
	}
	return ""
}

// reached reports whether so many failures, of so many that have ended, are the limit.
func (a Amount) reached(failures, ended, minimum int) bool {
	switch {
	case failures == 0 || a.IsZero():
		return false
	case a.Percent > 0:
		return ended >= minimum && float64(failures)*100 >= a.Percent*float64(ended)
	}
	return failures >= a.Count
}

// take notes a command's state as the feed tells it, in order. A final outcome is only replaced by a final one.
// Called with mu.
func (s *Service) take(r *rollout, i int, c commands.Command) {
	t, o := r.live.targets[i], Outcome(c.State)
	if t.Outcome.Final() && !o.Final() || t.Outcome == Skipped {
		return
	}
	s.set(r, i, o, c.ID, "")
}

// takeOlder notes a state that the feed may have overtaken meanwhile. Called with mu.
func (s *Service) takeOlder(r *rollout, i int, c commands.Command) {
	t, o := r.live.targets[i], Outcome(c.State)
	if t.Command == "" || o.Final() && !t.Outcome.Final() || t.Outcome.mendable() && !o.mendable() {
		s.take(r, i, c)
	}
}

// listen takes the ledger's changes.
func (s *Service) listen(changes *feed.Feed[commands.Command]) {
	defer changes.Close()
	for {
		select {
		case c := <-changes.C():
			s.observe(c)
			if changes.Missed() > 0 {
				s.askAll()
			}
		case <-s.stop:
			return
		}
	}
}

func (s *Service) observe(c commands.Command) {
	id, ok := Of(c)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.byID[id]
	if !ok {
		return
	}
	if r.live == nil {
		s.late(r)
		return
	}
	if i, ok := r.live.index[c.Device]; ok {
		s.take(r, i, c)
	}
}

// late marks a settled rollout as one whose outcomes may have been mended. Called with mu.
func (s *Service) late(r *rollout) {
	r.stale = true
	select {
	case s.visit <- struct{}{}:
	default:
	}
}

// askAll has every rollout compared with the ledger.
func (s *Service) askAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.byID {
		switch {
		case r.live != nil:
			r.live.recheck = true
			r.live.poke()
		case r.head.mendable():
			s.late(r)
		}
	}
}

func (h *head) mendable() bool {
	for o, n := range h.Counts {
		if o.mendable() && n > 0 {
			return true
		}
	}
	return false
}
