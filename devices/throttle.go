package devices

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"telemetryhub/wire"
)

// Throttle holds devices to their rates. Who brings more messages or bytes than a rate is slowed: whoever reads its socket
// waits before it reads on, so that TCP, and the acks that come later, tell it; nothing is lost. Where there is no socket
// to wait with (a post), and where waiting would cost the hub more than an answer (a connection), it is refused and told
// when to come back.
//
// A device costs nothing here but while one of its buckets is not full.
type Throttle struct {
	notes interface {
		Note(device string, e Event)
		Presence(device string) Presence
	}
	log     *slog.Logger
	metrics throttleMetrics
	holding atomic.Int64 // those that wait at present
	lines   *rate.Limiter
	seed    maphash.Seed
	shards  [64]throttleShard
}

type throttleShard struct {
	mu     sync.Mutex
	meters map[string]*meter
}

// Hold is what a rate asks of who brought something. The zero Hold asks nothing.
type Hold struct {
	Wait  time.Duration
	Limit string // name of the limit
	Bound int64  // a second, of LimitConnects a minute
	Value int64  // what came in that time while the hub read it; 0 unless Tell
	Tell  bool   // the device is to be told: not each time
}

// How often a device that is over its rates is told so, in hub.notice, in its flight recorder and in the log; and how many
// lines the log has of it a second, whoever it is about.
const (
	tellEvery = time.Minute
	logPerS   = 1
	logBurst  = 20
)

const (
	lookEvery  = 250 * time.Millisecond // while a device is held: is it still there?
	sweepMeter = 10 * time.Second
)

// NewThrottle returns a Throttle that tells s of who is slowed.
func NewThrottle(s *Sessions, reg prometheus.Registerer, log *slog.Logger) *Throttle {
	t := &Throttle{notes: s, log: log, lines: rate.NewLimiter(logPerS, logBurst), seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].meters = map[string]*meter{}
	}
	t.metrics = newThrottleMetrics(reg, func() float64 { return float64(t.holding.Load()) })
	return t
}

// Run forgets devices whose buckets are full, until ctx ends.
func (t *Throttle) Run(ctx context.Context) {
	tick := time.NewTicker(sweepMeter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for i := range t.shards {
				t.shards[i].sweep(now)
			}
		}
	}
}

func (s *throttleShard) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, m := range s.meters {
		if m.idle(now) && m.slowed == (Slowed{}) {
			delete(s.meters, device)
		}
	}
}

func (t *Throttle) shard(device string) *throttleShard {
	return &t.shards[maphash.String(t.seed, device)%uint64(len(t.shards))]
}

// with calls do with the device's meter, under its lock.
func (t *Throttle) with(device string, do func(m *meter)) {
	s := t.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meters[device]
	if m == nil {
		m = &meter{}
		s.meters[device] = m
	}
	do(m)
}

// Take counts one message of size bytes, and says how long to wait before more is read of the device. What is beyond
// max_frame was read past and counts no more than that.
func (t *Throttle) Take(device string, p *Profile, size int64) (h Hold) {
	if p.Limits.Messages == 0 && p.Limits.Bytes == 0 {
		return h
	}
	now := time.Now()
	t.with(device, func(m *meter) {
		m.set(now, p.Limits)
		if h = m.take(now, min(size, p.Limits.MaxFrame)); h.Wait > 0 {
			m.slowed.hold(now, h)
			m.due(now, &h)
		}
	})
	if h.Wait > 0 {
		t.metrics.hits.WithLabelValues(h.Limit, p.Type).Inc()
		t.metrics.seconds.WithLabelValues(h.Limit, p.Type).Add(h.Wait.Seconds())
		t.tell(device, h, "slowed: the rest is read later and nothing is lost")
	}
	return h
}

// Try counts one message of size bytes that is refused where Take would wait: the Hold says when it would be taken.
func (t *Throttle) Try(device string, p *Profile, size int64) (h Hold) {
	if p.Limits.Messages == 0 && p.Limits.Bytes == 0 {
		return h
	}
	now := time.Now()
	t.with(device, func(m *meter) {
		m.set(now, p.Limits)
		if h = m.try(now, min(size, p.Limits.MaxFrame)); h.Wait > 0 {
			m.slowed.refuse(now, h)
			m.due(now, &h)
			h.Value = max(h.Value, h.Bound+1) // it is in each answer
		}
	})
	if h.Wait > 0 {
		t.metrics.hits.WithLabelValues(h.Limit, p.Type).Inc()
		t.tell(device, h, "refused until then, as a post cannot be read later")
	}
	return h
}

// Connect counts a connection of a device that has proved who it is; the Hold says when the next one would be taken.
// Nobody else can use up what a device may open, and no address is shut out.
func (t *Throttle) Connect(device string, p *Profile) (h Hold) {
	most := p.Limits.Connects
	if most == 0 {
		return h
	}
	now := time.Now()
	if now.Sub(t.notes.Presence(device).ConnectedAt) > time.Minute {
		return h // its bucket is full: thousands that come once need none
	}
	t.with(device, func(m *meter) {
		m.connects = m.connects.set(now, float64(most)/time.Minute.Seconds(), most)
		if h = (Hold{Limit: LimitConnects, Bound: most, Wait: m.connects.try(now, 1)}); h.Wait > 0 {
			h.Value = max(m.connects.rate(now, time.Minute), most+1)
			m.slowed.refuse(now, h)
		}
	})
	if h.Wait > 0 {
		t.metrics.hits.WithLabelValues(h.Limit, p.Type).Inc()
	}
	return h
}

// Passed counts what was refused by a limit that is held elsewhere: a frame by its size, a reading by its fields.
func (t *Throttle) Passed(limit string, p *Profile, n uint64) {
	t.metrics.hits.WithLabelValues(limit, p.Type).Add(float64(n))
}

// Overrun is Take for who cannot be slowed, as others wait behind it: it only tells.
func (t *Throttle) Overrun(device string, p *Profile, size int64) {
	if p.Limits.Messages == 0 && p.Limits.Bytes == 0 {
		return
	}
	now := time.Now()
	var h Hold
	t.with(device, func(m *meter) {
		m.set(now, p.Limits)
		if h = m.try(now, min(size, p.Limits.MaxFrame)); h.Wait > 0 {
			m.due(now, &h)
		}
	})
	if h.Wait > 0 {
		t.metrics.hits.WithLabelValues(h.Limit, p.Type).Inc()
		t.tell(device, h, "not slowed: it shares its broker's connection with others; bound it at that broker")
	}
}

// tell notes a hold that is to be told.
func (t *Throttle) tell(device string, h Hold, what string) {
	if !h.Tell {
		return
	}
	t.notes.Note(device, Event{
		Kind: EventLimit, Reason: wire.ReasonRateLimited, Message: h.text() + "; " + what,
		Limit: h.Bound, Value: h.Value, RetryAfter: max(h.Wait.Milliseconds(), 1),
	})
	if t.lines.Allow() {
		t.log.Info("device is over a limit", "device", device, "limit", h.Limit, "bound", h.Bound, "value", h.Value, "outcome", what)
	}
}

func (h Hold) text() string {
	return fmt.Sprintf("%s: %d a second, where the limit is %d", h.Limit, h.Value, h.Bound)
}

// Notice is how the device is told.
func (h Hold) Notice() wire.Notice {
	return wire.Notice{
		Code: wire.ReasonRateLimited, Of: h.Limit, Limit: uint64(h.Bound), Value: uint64(h.Value), RetryAfter: max(h.Wait, time.Millisecond),
		Message: h.text() + "; what you send is read later, and nothing of it is lost",
	}
}

// Refusal says why a connection is not taken.
func (h Hold) Refusal() string {
	return fmt.Sprintf("the device opened %d connections in a minute; the limit is %d", h.Value, h.Bound)
}

// Refused is the event of a connection that is not taken.
func (h Hold) Refused(remote string, status int) Event {
	return Event{
		Kind: EventLimit, Reason: wire.ReasonConnects, Message: h.Refusal(), Remote: remote, Status: status,
		Limit: h.Bound, Value: h.Value, RetryAfter: h.Wait.Milliseconds(),
	}
}

// Wait returns when the hold is over, or over says that nobody is there to be held.
func (t *Throttle) Wait(h Hold, over func() bool) {
	t.holding.Add(1)
	defer t.holding.Add(-1)
	end := time.Now().Add(h.Wait)
	for left := h.Wait; left > 0 && !over(); left = time.Until(end) {
		time.Sleep(min(left, lookEvery))
	}
}

// Slowed returns what the device's limits have cost it since the hub's start.
func (t *Throttle) Slowed(device string) Slowed {
	s := t.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.meters[device]; m != nil {
		return m.slowed
	}
	return Slowed{}
}

// Forget drops what is known of a device that was deleted.
func (t *Throttle) Forget(device string) {
	s := t.shard(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.meters, device)
}

// throttleMetrics are the Throttle's own. Types are those of the configuration: a handful.
type throttleMetrics struct {
	hits    *prometheus.CounterVec
	seconds *prometheus.CounterVec
}

func newThrottleMetrics(reg prometheus.Registerer, holding func() float64) throttleMetrics {
	m := throttleMetrics{
		hits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_limit_hits_total", Help: "Messages, readings and connections that passed a limit of their device, by the limit and the device's type. By messages and bytes they are only read later.",
		}, []string{"limit", "type"}),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_limit_held_seconds_total", Help: "Time for which devices were not read because of a limit.",
		}, []string{"limit", "type"}),
	}
	if reg != nil {
		reg.MustRegister(m.hits, m.seconds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hub_devices_slowed", Help: "Devices that are not read at present because of a limit.",
		}, holding))
	}
	return m
}
