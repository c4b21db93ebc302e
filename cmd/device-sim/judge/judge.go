package judge

import (
	"context"
	"fmt"
	"iter"
	"math"

	"telemetryhub/cmd/device-sim/readings"
)

// Point is one stored reading as the hub gives it back.
type Point struct {
	TS     int64 // ms since the epoch
	Values map[string]any
}

// Store reads a device's raw points back. From is inclusive, to exclusive, ms since the epoch.
type Store interface {
	Points(ctx context.Context, device string, from, to int64) iter.Seq2[Point, error]
}

// Span is a range of time to be read back: from inclusive, to exclusive, ms since the epoch.
type Span struct{ From, To int64 }

// Subject is a device with all that it sent.
type Subject struct {
	Device string
	Source readings.Source
	Ledger *Ledger
	Sent   uint64 // readings 1 to Sent went out at least once
	Acked  uint64 // readings 1 to Acked were acknowledged
	Spans  []Span // where its points are looked for; they do not overlap

	// Run is the value of the field "run"; a reading is then known by its field "n". 0: the readings bear neither, and
	// are known by their time.
	Run uint64
	// Clockless readings have no time of their own: theirs is not compared.
	Clockless bool
	// Alone says that nothing else may have points in the spans: others are then faults. Only for Run 0, as a
	// run's own points are known by their mark.
	Alone bool
}

// Verdict counts readings.
type Verdict struct {
	Stored     uint64   // readings that were sent and found, as they were sent
	Lost       uint64   // acked, and not found as they were sent
	Duplicated uint64   // points beyond the first of a reading, and points of this run that were never sent
	Foreign    uint64   // points of others in the same span, not judged
	Faults     []string // the first few, in words
}

// maxFaults bounds what is told of one device.
const maxFaults = 5

// Good says that nothing is wrong.
func (v *Verdict) Good() bool { return v.Lost == 0 && v.Duplicated == 0 }

// Add sums another device's verdict up.
func (v *Verdict) Add(other Verdict) {
	v.Stored += other.Stored
	v.Lost += other.Lost
	v.Duplicated += other.Duplicated
	v.Foreign += other.Foreign
	for _, fault := range other.Faults {
		v.fault("%s", fault)
	}
}

func (v *Verdict) fault(format string, args ...any) {
	if len(v.Faults) < maxFaults {
		v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
	}
}

// Check reads the device's points back and compares. An error means that there is no verdict.
func Check(ctx context.Context, store Store, subject Subject) (Verdict, error) {
	c := newCheck(subject)
	for _, span := range subject.Spans {
		for point, err := range store.Points(ctx, subject.Device, span.From, span.To) {
			if err != nil {
				return Verdict{}, fmt.Errorf("read %s back: %w", subject.Device, err)
			}
			c.point(point)
		}
	}
	c.finish()
	return c.verdict, nil
}

// check is one device's examination.
type check struct {
	subject Subject
	verdict Verdict
	names   []string
	values  []float64        // scratch
	times   []int64          // of reading n at n-1
	byTime  map[int64]uint64 // reading of a time; only without a run
	seen    bits             // found at least once
	right   bits             // found as it was sent
}

func newCheck(subject Subject) *check {
	c := &check{
		subject: subject,
		names:   subject.Source.Names(),
		times:   subject.Ledger.Times(),
		seen:    newBits(subject.Sent + 1),
		right:   newBits(subject.Sent + 1),
	}
	if subject.Run == 0 {
		c.byTime = make(map[int64]uint64, subject.Sent)
		for n := uint64(1); n <= subject.Sent; n++ {
			c.byTime[c.times[n-1]] = n
		}
	}
	return c
}

func (c *check) point(p Point) {
	n, ours := c.identify(p)
	if !ours {
		c.verdict.Foreign++
		return
	}
	if n == 0 {
		c.verdict.Duplicated++
		c.verdict.fault("%s: a point at %d that was never sent: %v", c.subject.Device, p.TS, p.Values)
		return
	}
	if c.seen.has(n) {
		c.verdict.Duplicated++
		c.verdict.fault("%s: reading %d (%s) is stored more than once, again at %d", c.subject.Device, n, c.timeText(n), p.TS)
	}
	c.seen.set(n)
	if difference := c.compare(n, p); difference != "" {
		c.verdict.fault("%s: reading %d (%s) is not stored as it was sent: %s", c.subject.Device, n, c.timeText(n), difference)
		return
	}
	c.right.set(n)
}

// identify says which reading a point is: 0 if none that was sent; ours is false if it is none of this run's.
func (c *check) identify(p Point) (n uint64, ours bool) {
	if c.subject.Run == 0 {
		n := c.byTime[p.TS]
		return n, n > 0 || c.subject.Alone
	}
	run, is := p.Values[readings.FieldRun].(float64)
	if !is || run != float64(c.subject.Run) {
		return 0, false
	}
	number, is := p.Values[readings.FieldNumber].(float64)
	if !is || number < 1 || number != math.Trunc(number) || number > float64(c.subject.Sent) {
		return 0, true
	}
	return uint64(number), true
}

// compare says how a point differs from reading n; "" if in nothing.
func (c *check) compare(n uint64, p Point) string {
	if !c.subject.Clockless && p.TS != c.times[n-1] {
		return fmt.Sprintf("its time is %d", p.TS)
	}
	c.values = c.subject.Source.Values(c.values[:0], n)
	for i, name := range c.names {
		got, found := p.Values[name]
		if !found {
			return fmt.Sprintf("%s is missing", name)
		}
		if number, is := got.(float64); !is || number != c.values[i] {
			return fmt.Sprintf("%s is %v (%T), sent was %v", name, got, got, c.values[i])
		}
	}
	if len(p.Values) != len(c.names) {
		return fmt.Sprintf("it has %d fields, sent were %d: %v", len(p.Values), len(c.names), p.Values)
	}
	return ""
}

func (c *check) finish() {
	for n := uint64(1); n <= c.subject.Sent; n++ {
		switch {
		case c.right.has(n):
			c.verdict.Stored++
		case n <= c.subject.Acked:
			c.verdict.Lost++
			if !c.seen.has(n) {
				c.verdict.fault("%s: reading %d (%s) was acked and is not stored", c.subject.Device, n, c.timeText(n))
			}
		}
	}
}

func (c *check) timeText(n uint64) string {
	if c.subject.Clockless {
		return "no time"
	}
	return fmt.Sprintf("ts %d", c.times[n-1])
}

// bits is a set of small numbers.
type bits []uint64

func newBits(size uint64) bits { return make(bits, size/64+1) }

func (b bits) has(n uint64) bool { return b[n/64]&(1<<(n%64)) != 0 }
func (b bits) set(n uint64)      { b[n/64] |= 1 << (n % 64) }
