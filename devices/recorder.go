package devices

import (
	"net"
	"slices"
	"sync"
	"time"

	"telemetryhub/wire"
)

// Event is something in a device's life on the line that an operator may ask about. Those that are alike and follow each
// other closely are one, with their count; what it says else is of the last.
type Event struct {
	Kind       string    `json:"kind"`             // one of the kinds below
	Reason     string    `json:"reason,omitempty"` // for programs, as the device was told it
	Message    string    `json:"message,omitempty"`
	Remote     string    `json:"remote,omitempty"`
	Status     int       `json:"status,omitempty"`         // HTTP status, close code, or reason code of MQTT
	Limit      int64     `json:"limit,omitempty"`          // the limit that was passed
	Value      int64     `json:"value,omitempty"`          // what was measured against it
	RetryAfter int64     `json:"retry_after_ms,omitempty"` // when the device was told to try again
	Count      uint64    `json:"count"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
}

// Kinds of events.
const (
	EventConnect    = "connect"
	EventClose      = "close"
	EventRefused    = "refused"    // a connection
	EventLimit      = "limit"      // a limit that a frame passed
	EventUnusable   = "unusable"   // a frame that was refused for another reason
	EventQuarantine = "quarantine" // a reading that could not be stored
	EventGap        = "gap"        // readings that never came
	EventNotice     = "notice"     // another hub.notice
	EventSlowCommit = "slow_commit"
	EventCommand    = "command" // one that ended otherwise than done
	EventProbe      = "probe"   // unresponsive: signs of life and no answer; responsive again
	EventClone      = "clone"   // several devices use the identity: frozen, contested, unfrozen

	EventCredentials = "credentials" // new ones, and what came of them
)

// Bounds of what is kept in memory. An event is some 110 bytes and the texts that it alone has, 200 in all: of all
// devices 50 MB at most. A device that has nothing to tell costs nothing.
const (
	keptEvents    = 64      // of one device, the newest
	keptEventsAll = 250_000 // of all devices; from then on a new one takes the place of its device's oldest
	alikeWithin   = 4       // an event is counted with one like it among so many before
)

// recorder is a flight recorder of each device. Nothing of it is on the disk: it begins anew with the hub.
type recorder struct {
	mu     sync.Mutex
	events map[string][]Event // the oldest first
	total  int
}

// note adds e to what is known of the device. It never waits for more than memory.
func (r *recorder) note(device string, e Event) {
	now := time.Now()
	if e.Count == 0 {
		e.Count = 1
	}
	e.First, e.Last = now, now
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events[device]
	for i := len(events) - 1; i >= max(0, len(events)-alikeWithin); i-- {
		if known := events[i]; known.Kind == e.Kind && known.Reason == e.Reason && known.Status == e.Status && hostOf(known.Remote) == hostOf(e.Remote) {
			e.First, e.Count = known.First, known.Count+e.Count
			copy(events[i:], events[i+1:])
			events[len(events)-1] = e
			return
		}
	}
	if len(events) > 0 && (len(events) == keptEvents || r.total >= keptEventsAll) {
		copy(events, events[1:])
		events[len(events)-1] = e
		return
	}
	if r.events == nil {
		r.events = map[string][]Event{}
	}
	r.events[device] = append(events, e)
	r.total++
}

// of returns what is known of the device, the newest first.
func (r *recorder) of(device string) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := slices.Clone(r.events[device])
	slices.Reverse(events)
	return events
}

func (r *recorder) forget(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total -= len(r.events[device])
	delete(r.events, device)
}

// hostOf is an address without its port, which is another for each connection.
func hostOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}

// Note adds an event to the device's flight recorder. The caller has made sure that the device exists.
func (s *Sessions) Note(device string, e Event) { s.recorder.note(device, e) }

// Events returns the device's flight recorder, the newest event first.
func (s *Sessions) Events(device string) []Event { return s.recorder.of(device) }

// eventOfError is a frame that was refused. What was too much says so by its limit.
func eventOfError(e *wire.Error) Event {
	kind := EventUnusable
	if e.Limit > 0 {
		kind = EventLimit
	}
	return Event{Kind: kind, Reason: e.Reason, Message: e.Message, Limit: e.Limit, Value: e.Value, RetryAfter: e.RetryAfter.Milliseconds()}
}

// eventOfNotice is what a device was told without having asked; ok is false where the journal tells it better, for all
// transports alike.
func eventOfNotice(n wire.Notice) (e Event, ok bool) {
	e = Event{Kind: EventNotice, Reason: n.Code, Message: n.Message, Limit: int64(n.Limit), Value: int64(n.Value), RetryAfter: n.RetryAfter.Milliseconds()}
	switch n.Code {
	case wire.ReasonQuarantined, wire.ReasonRateLimited: // the latter by the Throttle
		return e, false
	case wire.ReasonSeqGap:
		e.Kind = EventGap
	}
	return e, true
}

// slowCommit is how long a commit may take until the device's own recorder tells of it.
const slowCommit = time.Second

// SlowCommit is the event of a reading that became durable so late; ok is false for one that did not.
func SlowCommit(took time.Duration) (e Event, ok bool) {
	if took < slowCommit {
		return Event{}, false
	}
	return Event{
		Kind: EventSlowCommit, Reason: "slow_commit", Message: "readings were durable, and acked, only after " + took.Round(time.Millisecond).String(),
		Limit: slowCommit.Milliseconds(), Value: took.Milliseconds(),
	}, true
}
