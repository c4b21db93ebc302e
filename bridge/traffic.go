package bridge

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of what is kept of the messages that a bridge refused, for people to look at.
const (
	examplesOfOne  = 5   // reason
	exampleReasons = 16  // beyond them the reason that was met longest ago goes
	exampleTopic   = 512 // bytes
	examplePayload = 1 << 10
)

// Example is a message that was refused.
type Example struct {
	Topic   string
	Payload []byte // cut at 1 KiB
	Size    int    // bytes, before it was cut
	Device  string // "": no device came of it
	Reason  string
	Message string
	At      time.Time
}

// traffic is how a bridge fares, kept for those who ask; what is counted for ever is in its metrics.
type traffic struct {
	ackSeconds prometheus.Histogram

	mu       sync.Mutex
	open     []time.Time // when the messages in flight were received, the oldest first
	acks     [512]time.Duration
	acked    int // of acks, ever
	seconds  [rateSeconds + 2]second
	examples map[string][]Example // by reason, the newest last
	since    time.Time            // of the connection, or of its loss
	up       bool

	readings, redelivered tally
}

// second is how many messages came in one.
type second struct {
	of       int64 // s since 1970
	messages uint64
}

// rateSeconds is over how long a rate is reckoned.
const rateSeconds = 10

// newTraffic names its metric by the prefix.
func newTraffic(prefix string) *traffic {
	return &traffic{
		examples: map[string][]Example{}, since: time.Now(),
		ackSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "_ack_seconds", Help: "From the receipt of a message to its acknowledgement.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60},
		}),
	}
}

// received notes a message that came at a time and will be acknowledged; those that come later are acknowledged later.
func (t *traffic) received(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = append(t.open, at)
	t.tick(at)
}

// counted notes a message whose acknowledgement is told by answered, if it has one.
func (t *traffic) counted(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(at)
}

// tick counts one for the rate. It needs mu.
func (t *traffic) tick(at time.Time) {
	s := &t.seconds[at.Unix()%int64(len(t.seconds))]
	if s.of != at.Unix() {
		*s = second{of: at.Unix()}
	}
	s.messages++
}

// acknowledged notes that the oldest message in flight is acknowledged, which has brought so many readings.
func (t *traffic) acknowledged(readings int, now time.Time) {
	t.readings.Add(uint64(readings))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) == 0 {
		return // of a connection that has ended
	}
	t.answer(now.Sub(t.open[0]))
	t.open = t.open[1:]
}

// answered notes how long a message has waited for its acknowledgement.
func (t *traffic) answered(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer(took)
}

// answer needs mu.
func (t *traffic) answer(took time.Duration) {
	t.acks[t.acked%len(t.acks)] = took
	t.acked++
	t.ackSeconds.Observe(took.Seconds())
}

// connected notes that the bridge has a connection, or has none any more: then nothing is in flight.
func (t *traffic) connected(up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !up {
		t.open = nil
	}
	if up != t.up {
		t.up, t.since = up, time.Now()
	}
}

// refused keeps a message that was not taken, to be looked at; size is what its payload was before it was cut. Of devices that are not registered, discovery keeps the last.
func (t *traffic) refused(m message, size int, device string, r *refusal) {
	if r.reason == ReasonUnknownDevice {
		return
	}
	e := Example{
		Topic: cutText(m.topic, exampleTopic), Payload: slices.Clone(m.payload[:min(len(m.payload), examplePayload)]), Size: size,
		Device: device, Reason: r.reason, Message: cutText(r.message, exampleTopic), At: time.Now().UTC(),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := append(t.examples[r.reason], e)
	t.examples[r.reason] = kept[max(len(kept)-examplesOfOne, 0):]
	if len(t.examples) <= exampleReasons {
		return
	}
	oldest := r.reason
	for reason, of := range t.examples {
		if of[len(of)-1].At.Before(t.examples[oldest][len(t.examples[oldest])-1].At) {
			oldest = reason
		}
	}
	delete(t.examples, oldest)
}

func cutText(text string, most int) string {
	return strings.Clone(strings.ToValidUTF8(text[:min(len(text), most)], ""))
}

// lag returns for how long the oldest message in flight has waited.
func (t *traffic) lag(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) == 0 {
		return 0
	}
	return now.Sub(t.open[0])
}

// Pace is how fast a bridge takes messages.
type Pace struct {
	PerSecond float64       // messages received, over the last ten seconds
	Lag       time.Duration // age of the oldest message that is not acknowledged
	Ack50     time.Duration // from receipt to acknowledgement, of the last 512: the middle one,
	Ack99     time.Duration // and the one that 99 % are no slower than
	AckMax    time.Duration
}

func (t *traffic) pace(now time.Time) (p Pace) {
	p.Lag = t.lag(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	messages := uint64(0)
	for _, s := range t.seconds {
		if age := now.Unix() - s.of; age >= 1 && age <= rateSeconds { // whole seconds
			messages += s.messages
		}
	}
	p.PerSecond = float64(messages) / rateSeconds
	if n := min(t.acked, len(t.acks)); n > 0 {
		sorted := slices.Sorted(slices.Values(t.acks[:n]))
		at := func(share float64) time.Duration { return sorted[int(math.Ceil(share*float64(n)))-1] }
		p.Ack50, p.Ack99, p.AckMax = at(0.5), at(0.99), sorted[n-1]
	}
	return p
}

// shown returns the examples, the newest first.
func (t *traffic) shown() []Example {
	t.mu.Lock()
	all := slices.Concat(slices.Collect(maps.Values(t.examples))...)
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b Example) int { return b.At.Compare(a.At) })
	return all
}

// connection says whether there is one, and since when that is so.
func (t *traffic) connection() (up bool, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.up, t.since.UTC()
}
