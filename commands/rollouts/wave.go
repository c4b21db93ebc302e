package rollouts

import "time"

// wave is where the waves are: the devices from ≤ i < to are the wave that is out.
type wave struct {
	number   int // from 1
	from, to int
	open     int       // devices in it without an outcome
	ended    int       // with evidence since the last resume
	failures int       // of those
	sent     time.Time // when the last of it was sent; zero: not all are
	rest     time.Time // the pause after it ends; zero: there is none yet
	began    bool      // something was sent in it; after a start, of the wave that is out it is taken for granted
}

// size is that of wave number n, from 1, of so many devices.
func (w Waves) size(n, devices int) int {
	if len(w.Sizes) == 0 {
		return devices
	}
	return w.Sizes[min(n, len(w.Sizes))-1].of(devices)
}

// count is how many waves so many devices make.
func (w Waves) count(devices int) int {
	n, left := 0, devices
	for n < len(w.Sizes)-1 && left > 0 {
		n++
		left -= w.size(n, devices)
	}
	if left <= 0 {
		return n
	}
	size := w.size(n+1, devices)
	return n + (left+size-1)/size
}

// nextWave begins the wave after this one. Called with mu.
func (r *rollout) nextWave() {
	l := r.live
	n := l.wave.number + 1
	l.wave = wave{number: n, from: l.wave.to, to: min(l.wave.to+r.plan.Waves.size(n, len(l.devices)), len(l.devices))}
	r.countWave()
}

// findWave finds the wave that is out after a start: the one of the last device before the first that is pending.
func (r *rollout) findWave() {
	l := r.live
	first := 0
	for first < len(l.targets) && l.targets[first].Outcome != Pending {
		first++
	}
	l.next = first
	r.nextWave()
	for l.wave.to < first {
		r.nextWave()
	}
	l.wave.began = true
}

// countWave counts the wave's outcomes anew. Called with mu.
func (r *rollout) countWave() {
	w := &r.live.wave
	w.open, w.ended, w.failures = 0, 0, 0
	for i := w.from; i < w.to; i++ {
		t := r.live.targets[i]
		if !t.Outcome.Final() {
			w.open++
		} else if t.Run == r.head.Run {
			w.count(t.Outcome, 1)
		}
	}
}

func (w *wave) count(o Outcome, n int) {
	if o.evidence() {
		w.ended += n
	}
	if o.Failure() {
		w.failures += n
	}
}

// waveOpen returns how long the wave, all of which is sent, may still be waited for. Called with mu.
func (r *rollout) waveOpen(now time.Time) time.Duration {
	w := &r.live.wave
	if w.sent.IsZero() {
		w.sent = now
	}
	if w.open == 0 {
		return 0
	}
	return w.sent.Add(r.plan.WaveTimeout()).Sub(now)
}

// WaveTimeout is how long a wave is waited for after its last sending.
func (p *Plan) WaveTimeout() time.Duration {
	if p.Waves.Timeout > 0 {
		return p.Waves.Timeout
	}
	return p.Longest + waveMargin
}
