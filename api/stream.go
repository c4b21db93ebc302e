package api

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
)

// streamQueue holds the events that a live stream has not written yet. Whoever puts never waits: what does not fit is
// counted, and the reader is told the count where the loss happened, after what was queued before it.
type streamQueue struct {
	wake chan struct{} // has an element when there is something to take

	mostEvents, mostBytes int

	mu     sync.Mutex
	events []event
	bytes  int // of events' data
	missed uint64
}

// event is one server-sent event (HTML Living Standard, 9.2).
type event struct {
	name string
	data []byte // one line of JSON
}

func newStreamQueue(mostEvents, mostBytes int) *streamQueue {
	return &streamQueue{wake: make(chan struct{}, 1), mostEvents: mostEvents, mostBytes: mostBytes}
}

// put queues an event and reports whether it fitted. Once something was lost, all is lost until the reader has come,
// so that what it gets stays in order.
func (q *streamQueue) put(e event) bool {
	q.mu.Lock()
	fits := q.missed == 0 && len(q.events) < q.mostEvents && q.bytes+len(e.data) <= q.mostBytes
	if fits {
		q.bytes += len(e.data)
		q.events = append(q.events, e)
	} else {
		q.missed++
	}
	q.mu.Unlock()
	q.signal()
	return fits
}

// lost counts events that were lost before they came here.
func (q *streamQueue) lost(n uint64) {
	if n == 0 {
		return
	}
	q.mu.Lock()
	q.missed += n
	q.mu.Unlock()
	q.signal()
}

func (q *streamQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves all that is queued into spare, whose room is used, and returns how many were lost after it.
func (q *streamQueue) take(spare []event) (events []event, missed uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, missed = q.events, q.missed
	clear(spare[:cap(spare)])
	q.events, q.bytes, q.missed = spare[:0], 0, 0
	return events, missed
}

// appendEvent appends the event as it goes over the connection. JSON has no line breaks, so it is one data line.
func appendEvent(to *bytes.Buffer, e event) {
	to.WriteString("event: ")
	to.WriteString(e.name)
	to.WriteString("\ndata: ")
	to.Write(e.data)
	to.WriteString("\n\n")
}

func missedEvent(count uint64) event {
	data := strconv.AppendUint([]byte(`{"count":`), count, 10)
	return event{name: "missed", data: append(data, '}')}
}

// newEvent encodes v. What cannot be encoded is no event; ok says so.
func newEvent(name string, v any) (e event, ok bool) {
	data, err := json.Marshal(v)
	return event{name: name, data: data}, err == nil
}
