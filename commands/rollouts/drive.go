package rollouts

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"telemetryhub/commands"
)

const (
	// maxSending is how many commands of a rollout are on their way into the ledger at a time: it writes them together.
	maxSending = 32
	// All rollouts may have half of the ledger's room, so that single commands always find some: most of it for commands
	// that wait for their devices, the rest for those of devices that are there.
	shareOfQueued  = commands.MaxOpen / 10 * 4
	shareOfWorking = commands.MaxOpen / 10
	lookAgain      = time.Second // for a device to come back, for room in the ledger
	longest        = time.Hour
)

// live is what is in memory of a rollout that is not settled.
type live struct {
	devices []string // in the order of sending
	index   map[string]int
	targets []note
	counts  map[Outcome]int
	wave    wave

	next     int          // no device before it is pending, but for those in sending and held
	held     []int        // offline, and too many commands are queued already: they wait here, in order
	heldAt   time.Time    // when they are looked at again
	sending  map[int]bool // on their way into the ledger, and whether the device was offline then
	senders  sync.WaitGroup
	cancels  bool // queued commands are being cancelled
	ended    int  // devices with evidence since the last resume
	failures int  // of those
	began    time.Time
	finished int // devices that had their outcome then

	grace   time.Time // until then a device that is away may only not have come back yet
	backoff time.Time // nothing is sent before: the ledger could not take it
	trouble string    // why
	waiting string    // for what, in words
	recheck bool      // the feed lost changes: ask the ledger

	version, saved uint64 // of what is to be written, and what is
	dirty          map[int]bool
	saveAt         time.Time
	saveErr        error
	tried          chan struct{} // closed, and made anew, after each save

	wake chan struct{}
}

func newLive(devices []string, targets []note) *live {
	l := &live{
		devices: devices, targets: targets, index: make(map[string]int, len(devices)), counts: map[Outcome]int{},
		sending: map[int]bool{}, dirty: map[int]bool{}, tried: make(chan struct{}), wake: make(chan struct{}, 1), began: time.Now(),
	}
	for i, id := range devices {
		l.index[id] = i
	}
	return l
}

func (l *live) isSending(i int) bool {
	_, ok := l.sending[i]
	return ok
}

func (l *live) unsaved() bool { return l.version != l.saved }

func (l *live) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// drive is the one goroutine that moves an open rollout on, and the only one that writes its records. It returns when
// the rollout is settled and written, or the service stops.
func (s *Service) drive(r *rollout) {
	l := r.live
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.wake:
		case <-s.stop:
			s.lastSave(r)
			return
		}
		s.mu.Lock()
		ask := l.recheck
		l.recheck = false
		s.mu.Unlock()
		if ask {
			s.askLedger(r)
		}
		s.mu.Lock()
		now, wait := time.Now(), lookAgain
		if !l.recheck { // else the ledger could not be asked
			wait = s.advance(r, now)
		}
		u, save := r.toSave(now)
		s.mu.Unlock()
		if save && s.save(r, u) && s.settle(r) {
			return
		}
		s.mu.Lock()
		if l.unsaved() {
			wait = min(wait, max(time.Until(l.saveAt), 0))
		}
		s.mu.Unlock()
		timer.Reset(max(wait, time.Millisecond))
	}
}

// lastSave waits for what is on its way into the ledger and notes it.
func (s *Service) lastSave(r *rollout) {
	r.live.senders.Wait()
	s.mu.Lock()
	r.live.saveAt = time.Time{}
	u, save := r.toSave(time.Now())
	s.mu.Unlock()
	if save {
		s.save(r, u)
	}
}

// settle lets a rollout go from memory whose devices all have their outcome and which is written.
func (s *Service) settle(r *rollout) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.head.Settled || r.live.unsaved() {
		return false
	}
	r.live, r.plan.Params = nil, nil
	s.log.Info("rollout settled", "rollout", r.plan.ID, "state", r.head.State, "devices", r.plan.Devices, "outcomes", r.head.Counts)
	return true
}

// advance does what is to be done now, and returns how long nothing is. Called with mu.
func (s *Service) advance(r *rollout, now time.Time) time.Duration {
	l := r.live
	l.waiting = ""
	if r.head.State == Cancelled {
		s.cancelRest(r)
	}
	switch {
	case l.open() == 0 && len(l.sending) == 0:
		s.finish(r, now)
		return longest
	case r.head.State == Cancelled && l.counts[Outcome(commands.Queued)] > 0:
		return lookAgain
	case r.head.State != Running:
		return longest
	}
	if cause := r.overLimit(); cause != "" {
		s.step(r, Change{State: Stopped, Time: stamp(now), Cause: cause})
		s.log.Warn("rollout stopped by its limit of failures", "rollout", r.plan.ID, "cause", cause)
		return longest
	}
	for {
		if wait := l.wave.rest.Sub(now); wait > 0 {
			l.waiting = fmt.Sprintf("the pause after wave %d", l.wave.number)
			return wait
		}
		if !l.wave.rest.IsZero() {
			r.nextWave()
		}
		if wait := s.sendSome(r, now); wait > 0 {
			return wait
		}
		if l.wave.to == len(l.devices) {
			l.waiting = l.missing()
			return l.look()
		}
		if wait := r.waveOpen(now); wait > 0 {
			l.waiting = fmt.Sprintf("wave %d: %s", l.wave.number, l.missing())
			return min(wait, l.look())
		}
		if l.wave.rest = now; l.wave.began { // after a start, waves that are over need no pause again
			l.wave.rest = now.Add(r.plan.Waves.Pause)
		}
	}
}

// look is how long until devices that are held are looked at again.
func (l *live) look() time.Duration {
	if len(l.held) > 0 {
		return lookAgain
	}
	return longest
}

// missing says which outcomes are not there.
func (l *live) missing() string {
	queued := l.counts[Outcome(commands.Queued)] + len(l.held)
	open := l.open() - l.counts[Pending] + len(l.held)
	text := fmt.Sprintf("the outcomes of %d devices", open)
	if open == 1 {
		text = "the outcome of 1 device"
	}
	if queued > 0 {
		text += fmt.Sprintf(", %d queued", queued)
	}
	return text
}

// sendSome starts as many sendings as there is room for in the wave, and returns how long to wait before more; 0 says
// that the wave is out. Called with mu.
func (s *Service) sendSome(r *rollout, now time.Time) time.Duration {
	l := r.live
	if now.Before(l.backoff) {
		l.waiting = l.trouble
		return l.backoff.Sub(now)
	}
	s.sendHeld(r, now)
	for ; l.next < l.wave.to; l.next++ {
		if l.targets[l.next].Outcome != Pending || l.isSending(l.next) {
			continue
		}
		place, held := slices.BinarySearch(l.held, l.next)
		switch {
		case held:
		case !s.room(r, l.next):
			l.held = slices.Insert(l.held, place, l.next)
		default:
			if wait := s.full(r, now, l.next); wait != 0 {
				return wait
			}
			s.start(r, l.next)
		}
	}
	if len(l.sending) > 0 {
		return longest // one that returns wakes
	}
	return 0
}

// sendHeld starts, once a second, what was held and now has room. Called with mu.
func (s *Service) sendHeld(r *rollout, now time.Time) {
	l := r.live
	if len(l.held) == 0 || now.Before(l.heldAt) {
		return
	}
	l.heldAt = now.Add(lookAgain)
	l.held = slices.DeleteFunc(l.held, func(i int) bool {
		if !s.room(r, i) || s.full(r, now, i) != 0 {
			return false
		}
		s.start(r, i)
		return true
	})
}

// room reports whether the device is there, or its command may be queued for it. Called with mu.
func (s *Service) room(r *rollout, i int) bool {
	return s.queued < s.shareQueued || s.fleet.Online(r.live.devices[i])
}

// full returns how long nothing may be sent to the device, and says why; 0 is no time. Called with mu.
func (s *Service) full(r *rollout, now time.Time, i int) time.Duration {
	l := r.live
	switch {
	case len(l.sending) >= maxSending:
		return longest // one that returns wakes
	case l.atWork()+len(l.sending) >= s.cfg.Open:
		l.waiting = fmt.Sprintf("%d commands are with their devices, which is the limit", s.cfg.Open)
		return longest // an outcome wakes
	case s.working >= s.shareWorking:
		l.waiting = fmt.Sprintf("%d commands of all rollouts are with their devices, which is the limit", s.working)
		return lookAgain
	case now.Before(l.grace) && !s.fleet.Online(l.devices[i]):
		l.waiting = "devices to come back after the start of the hub"
		return min(lookAgain, l.grace.Sub(now))
	}
	return 0
}

// underWay counts a command that is on its way into the ledger as what it will be there. Called with mu.
func (s *Service) underWay(offline bool, n int) {
	if offline {
		s.queued += n
	} else {
		s.working += n
	}
}

// start sends in the background. Called with mu.
func (s *Service) start(r *rollout, i int) {
	offline := !s.fleet.Online(r.live.devices[i])
	r.live.sending[i] = offline
	r.live.wave.began = true
	s.underWay(offline, 1)
	r.live.senders.Add(1)
	go s.send(r, i)
}

// finish ends a rollout whose devices all have their outcome. Called with mu.
func (s *Service) finish(r *rollout, now time.Time) {
	if r.head.Settled {
		return
	}
	r.head.Settled = true
	if r.head.State == Cancelled {
		r.changed()
		return
	}
	cause := "each device has its outcome"
	if n := failuresOf(r.live.counts); n > 0 {
		cause = fmt.Sprintf("each device has its outcome; %d of %d failed", n, len(r.live.devices))
	}
	s.step(r, Change{State: Done, Time: stamp(now), Cause: cause})
}

// step makes a change of state, which is written at once. Called with mu.
func (s *Service) step(r *rollout, step Change) {
	r.head.record(step)
	r.changed()
}

// changed has the head written at once. Called with mu.
func (r *rollout) changed() {
	r.live.version++
	r.live.saveAt = time.Time{}
	r.live.poke()
}
