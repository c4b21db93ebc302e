package ingest

import (
	"sync"
	"sync/atomic"

	"telemetryhub/wire"
)

// Event is a device's readings as they became durable. A resent reading is seen again.
type Event struct {
	Device      string
	Measurement string
	Readings    []Point
}

// Point is one reading: its time in Unix ms and its values (float64, string or bool).
type Point struct {
	Time   int64
	Values map[string]any
}

// Feed gives readings to whoever looks, as soon as they are durable. It waits for nobody: what a looker has no room
// for is counted.
type Feed struct {
	mu   sync.Mutex
	subs map[*Subscription]bool
}

// Subscription is one looker at the feed.
type Subscription struct {
	c      chan Event
	missed atomic.Uint64
	feed   *Feed
	device map[string]bool // nil: all
}

// Subscribe returns a subscription that holds up to buffer events that were not yet looked at. Without devices it is
// to all of them.
func (f *Feed) Subscribe(buffer int, devices ...string) *Subscription {
	s := &Subscription{c: make(chan Event, buffer), feed: f}
	if len(devices) > 0 {
		s.device = map[string]bool{}
		for _, d := range devices {
			s.device[d] = true
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[s] = true
	return s
}

// C is where the events come.
func (s *Subscription) C() <-chan Event { return s.c }

// Missed returns how many events did not fit since it was last asked.
func (s *Subscription) Missed() uint64 { return s.missed.Swap(0) }

// Close ends the subscription. C is not closed.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	delete(s.feed.subs, s)
}

// publish gives a sealed envelope to those who look; it costs nothing when nobody does.
func (f *Feed) publish(sealed []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.subs) == 0 {
		return
	}
	env, err := openEnvelope(sealed)
	if err != nil {
		return
	}
	var e entry
	for env.next(&e) {
		if e.kind == entryReadings {
			f.give(&e)
		}
	}
}

// give needs mu.
func (f *Feed) give(e *entry) {
	var event *Event
	for s := range f.subs {
		if s.device != nil && !s.device[string(e.device)] {
			continue
		}
		if event == nil {
			if event = eventOf(e); len(event.Readings) == 0 {
				return
			}
		}
		select {
		case s.c <- *event:
		default:
			s.missed.Add(1)
		}
	}
}

func eventOf(e *entry) *Event {
	event := &Event{Device: string(e.device), Measurement: measurementOf(e.measurement)}
	var r wire.Reading
	for range e.count {
		if !e.reading(&r) {
			break
		}
		if r.Flaw == "" {
			event.Readings = append(event.Readings, Point{Time: r.Time, Values: valuesOf(&r)})
		}
	}
	return event
}

func measurementOf(name []byte) string {
	if len(name) == 0 {
		return wire.DefaultMeasurement
	}
	return string(name)
}

func valuesOf(r *wire.Reading) map[string]any {
	values := make(map[string]any, len(r.Fields))
	for i := range r.Fields {
		values[string(r.Fields[i].Name)] = valueOf(&r.Fields[i])
	}
	return values
}

func valueOf(f *wire.Field) any {
	switch f.Kind {
	case wire.Float:
		return f.Number
	case wire.String:
		return string(f.Text)
	}
	return f.Kind == wire.True
}
