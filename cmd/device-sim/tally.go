package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"telemetryhub/wire"
)

// Latencies are kept in µs, up to ten minutes, to three digits.
const (
	latencyMax    = 10 * time.Minute
	latencyDigits = 3
)

// tally counts what a run does. All its methods are safe for concurrent use.
type tally struct {
	sent, acked, skipped atomic.Uint64
	connected            atomic.Uint64 // devices that were connected at least once
	failedAttempts       atomic.Uint64
	reconnects           atomic.Uint64
	enrolled             atomic.Uint64 // devices
	refused              atomic.Uint64 // as the devices were told
	postponements        atomic.Uint64 // connections that the hub refused for now
	postponedAgain       atomic.Uint64 // of them, those of a device that had been told so before and was not connected since
	quarantined          atomic.Uint64
	rotated              atomic.Uint64
	commandsReceived     atomic.Uint64
	commandsAnswered     atomic.Uint64

	mu       sync.Mutex
	ack      *hdrhistogram.Histogram
	command  *hdrhistogram.Histogram
	late     *hdrhistogram.Histogram // from the slot that a device was told until it was connected
	notices  map[string]uint64       // by code
	injected map[string]uint64       // faults played, by name
	notes    map[string]uint64       // what should not happen, by text
	lastEnd  string                  // why a connection ended last
}

func newTally() *tally {
	histogram := func() *hdrhistogram.Histogram {
		return hdrhistogram.New(1, latencyMax.Microseconds(), latencyDigits)
	}
	return &tally{
		ack: histogram(), command: histogram(), late: histogram(),
		notices: make(map[string]uint64), injected: make(map[string]uint64), notes: make(map[string]uint64),
	}
}

func (t *tally) ackLatency(wait time.Duration, readings uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.ack.RecordValues(clampMicros(wait), int64(readings)) // in range by clampMicros
}

func (t *tally) commandAnswered(took time.Duration) {
	t.commandsAnswered.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.command.RecordValue(clampMicros(took)) // in range by clampMicros
}

// postponed counts a connection that the hub refused for now, the device's how manieth in a row.
func (t *tally) postponed(row int) {
	t.postponements.Add(1)
	if row > 1 {
		t.postponedAgain.Add(1)
	}
}

// cameLate notes how long after its slot a device was connected.
func (t *tally) cameLate(late time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.late.RecordValue(clampMicros(late)) // in range by clampMicros
}

func clampMicros(d time.Duration) int64 {
	return max(1, min(d, latencyMax).Microseconds())
}

func (t *tally) joined(first bool) {
	if first {
		t.connected.Add(1)
		return
	}
	t.reconnects.Add(1)
}

func (t *tally) attemptFailed() { t.failedAttempts.Add(1) }

// ended notes why a connection ended or was not made.
func (t *tally) ended(err error) {
	if err == nil || errors.Is(err, errRebooted) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastEnd = err.Error()
}

// maxNotes bounds the different texts.
const maxNotes = 50

// note counts what should not happen.
func (t *tally) note(what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := what + ": " + err.Error()
	if _, known := t.notes[text]; known || len(t.notes) < maxNotes {
		t.notes[text]++
	}
}

func (t *tally) inject(fault string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.injected[fault]++
}

// notice counts a hub.notice: readings that are quarantined, or a frame that was refused. What says only when to come
// again, or that numbers are missing, is counted by its code alone.
func (t *tally) notice(n notice) {
	t.mu.Lock()
	t.notices[n.Code]++
	t.mu.Unlock()
	switch {
	case n.Code == wire.ReasonSeqGap, n.Code == wire.ReasonStopping, n.RetryAfterMs > 0:
	case aboutReading(n.Code):
		count := uint64(1)
		if n.From > 0 && n.To >= n.From {
			count = n.To - n.From + 1
		}
		t.quarantined.Add(count)
	default:
		t.refused.Add(1)
	}
}

// aboutReading says whether a notice is about a reading that is kept in quarantine, not about a frame.
func aboutReading(code string) bool {
	switch code {
	case wire.ReasonQuarantined, wire.ReasonBadReading, wire.ReasonBadTime, wire.ReasonTimePast, wire.ReasonTimeFuture,
		wire.ReasonNoValues, wire.ReasonBadValue, wire.ReasonNumberRange, wire.ReasonStringTooLong, wire.ReasonBadFieldName,
		wire.ReasonReservedName, wire.ReasonTooManyFields, wire.ReasonTooDeep, wire.ReasonSeqUnknown, wire.ReasonStoreRejected:
		return true
	}
	return false
}

// refusedBy counts an error answer to a frame that was no request.
func (t *tally) refusedBy(fault *rpcError) {
	code := fault.Data.Reason
	if code == "" {
		code = fault.Message
	}
	t.notice(notice{Code: code, Message: fault.Message, RetryAfterMs: fault.Data.RetryAfterMs})
}

// texts lists counted texts for people, sorted.
func (t *tally) texts(of func(*tally) map[string]uint64) []countedText {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := of(t)
	list := make([]countedText, 0, len(counts))
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, countedText{text, counts[text]})
	}
	return list
}

type countedText struct {
	text  string
	count uint64
}

func (t *tally) lastCause() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(t.lastEnd, "\n", " ")
}
