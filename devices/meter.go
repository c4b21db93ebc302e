package devices

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// meter is what a device has brought of late. It is of its shard's lock.
type meter struct {
	messages, bytes, connects *gauge // nil: not limited, or nothing came yet
	told                      time.Time
	slowed                    Slowed
}

// Slowed is what a device's limits have cost it since the hub's start.
type Slowed struct {
	Held    time.Duration // for which it was not read
	Refused uint64        // posts and connections that were told to come back
	Limit   string        // the last that it passed
	Last    time.Time     // and when
}

func (s *Slowed) hold(now time.Time, h Hold) { s.Held, s.Limit, s.Last = s.Held+h.Wait, h.Limit, now }

func (s *Slowed) refuse(now time.Time, h Hold) {
	s.Refused, s.Limit, s.Last = s.Refused+1, h.Limit, now
}

// set makes the limits those that hold now.
func (m *meter) set(now time.Time, l Limits) {
	burst := func(perSecond int64) int64 {
		return max(perSecond*l.BurstMs/1000, 1)
	}
	m.messages = m.messages.set(now, float64(l.Messages), burst(l.Messages))
	m.bytes = m.bytes.set(now, float64(l.Bytes), max(burst(l.Bytes), l.MaxFrame)) // so that any frame fits
}

// take counts a message and returns the longest wait that a rate asks for. The wait for one is at most LongestHold.
func (m *meter) take(now time.Time, size int64) (h Hold) {
	h = m.longest(m.messages.take(now, 1), m.bytes.take(now, size))
	h.Wait = min(h.Wait, LongestHold*time.Millisecond)
	m.messages.held(h.Wait)
	m.bytes.held(h.Wait)
	return h
}

// try counts a message if no rate asks for a wait.
func (m *meter) try(now time.Time, size int64) (h Hold) {
	first := m.messages.try(now, 1)
	if first == 0 {
		if h = m.longest(0, m.bytes.try(now, size)); h.Wait > 0 {
			m.messages.giveBack(now)
		}
		return h
	}
	return m.longest(first, 0)
}

func (m *meter) longest(messages, bytes time.Duration) Hold {
	if bytes > messages {
		return Hold{Wait: bytes, Limit: LimitBytes, Bound: int64(m.bytes.limiter.Limit())}
	}
	if messages > 0 {
		return Hold{Wait: messages, Limit: LimitMessages, Bound: int64(m.messages.limiter.Limit())}
	}
	return Hold{}
}

// due decides whether a hold is told, and measures what is told of it. What is told begins the count anew.
func (m *meter) due(now time.Time, h *Hold) {
	of := m.messages
	if h.Limit == LimitBytes {
		of = m.bytes
	}
	h.Value = max(of.rate(now, time.Second), h.Bound+1)
	if h.Tell = m.told.IsZero() || now.Sub(m.told) >= tellEvery; h.Tell {
		m.told = now
		m.messages.restart(now)
		m.bytes.restart(now)
	}
}

// idle reports whether the meter holds nothing that a new one would not.
func (m *meter) idle(now time.Time) bool {
	for _, g := range []**gauge{&m.messages, &m.bytes, &m.connects} {
		if *g != nil && (*g).full(now) {
			*g = nil
		}
	}
	return m.messages == nil && m.bytes == nil && m.connects == nil
}

// gauge is one rate of one device: a bucket of tokens, and what came since it was full last. A nil gauge is no limit.
type gauge struct {
	limiter *rate.Limiter
	since   time.Time
	count   int64
	holds   time.Duration // for which nothing was read since then
	last    *rate.Reservation
}

// set returns the gauge with that rate; nil for none.
func (g *gauge) set(now time.Time, perSecond float64, burst int64) *gauge {
	if perSecond == 0 {
		return nil
	}
	most := int(min(burst, math.MaxInt32))
	if g == nil {
		return &gauge{limiter: rate.NewLimiter(rate.Limit(perSecond), most), since: now}
	}
	if g.limiter.Limit() != rate.Limit(perSecond) || g.limiter.Burst() != most {
		g.limiter.SetLimitAt(now, rate.Limit(perSecond))
		g.limiter.SetBurstAt(now, most)
	}
	return g
}

func (g *gauge) full(now time.Time) bool {
	return g.limiter.TokensAt(now) >= float64(g.limiter.Burst())
}

// take takes n tokens and returns how long it is until they are there.
func (g *gauge) take(now time.Time, n int64) time.Duration {
	if g == nil {
		return 0
	}
	if g.full(now) {
		g.restart(now)
	}
	g.count += n
	return g.limiter.ReserveN(now, int(min(n, int64(g.limiter.Burst())))).DelayFrom(now)
}

// try takes n tokens if they are there; else it says how long it is until then.
func (g *gauge) try(now time.Time, n int64) time.Duration {
	if g == nil {
		return 0
	}
	if g.full(now) {
		g.restart(now)
	}
	g.count += n
	g.last = g.limiter.ReserveN(now, int(min(n, int64(g.limiter.Burst()))))
	wait := g.last.DelayFrom(now)
	if wait > 0 {
		g.giveBack(now)
	}
	return wait
}

// giveBack undoes the last try.
func (g *gauge) giveBack(now time.Time) {
	if g != nil {
		g.last.CancelAt(now)
	}
}

func (g *gauge) held(wait time.Duration) {
	if g != nil {
		g.holds += wait
	}
}

func (g *gauge) restart(now time.Time) {
	if g != nil {
		g.since, g.count, g.holds = now, 0, 0
	}
}

// rate is what came in such a time while it was read, rounded up.
func (g *gauge) rate(now time.Time, per time.Duration) int64 {
	read := max(now.Sub(g.since)-g.holds, per)
	return int64(math.Ceil(float64(g.count) * per.Seconds() / read.Seconds()))
}
