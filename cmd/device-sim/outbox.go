package main

import (
	"time"

	"telemetryhub/cmd/device-sim/judge"
	"telemetryhub/cmd/device-sim/readings"
)

// maxBacklog bounds the readings a device keeps that were not acknowledged: 8 bytes each. A replay is bounded by its
// file instead.
const maxBacklog = 1 << 20

// maxRound bounds what is encoded at once, so that the device's lock is held shortly.
const (
	maxRoundFrames = 32
	maxRoundBytes  = 32 << 10
)

// numbering is one boot: reading first has seq 1, and so on up to the next numbering's first.
type numbering struct {
	boot  string
	first uint64
}

// frameSent is a frame that waits for its acknowledgement, from its first sending.
type frameSent struct {
	last uint64
	at   time.Time
}

// outgoing is an encoded frame, and what its acknowledgement would say.
type outgoing struct {
	payload []byte
	boot    string
	seq     uint64 // of its last reading
}

// outbox holds what a device has measured and the hub has not yet acknowledged, and decides what goes out next.
// Readings are numbered n = 1, 2, ... over all boots: acked <= cursor <= sent <= measured. It is guarded by its
// device's lock.
type outbox struct {
	source    readings.Source
	ledger    *judge.Ledger // nil without --verify
	batch     uint64
	window    uint64 // readings
	clockless bool

	boots    []numbering // oldest first; the last is the present one
	times    timeQueue   // of readings acked+1 to measured
	measured uint64
	sent     uint64 // went out at least once
	cursor   uint64 // went out on this connection, or acked
	acked    uint64
	waiting  []frameSent
	flush    bool // nothing more comes: incomplete batches go out
	last     int64
}

func newOutbox(source readings.Source, boot string, o *options) outbox {
	out := outbox{
		source: source, batch: uint64(o.Batch), window: uint64(o.Window * o.Batch), clockless: o.Clockless,
		boots: []numbering{{boot: boot, first: 1}},
	}
	if o.Verify {
		out.ledger = &judge.Ledger{}
	}
	return out
}

// measure takes the next reading. Times of one device never repeat: ts is moved on by the ms it takes, unless exact
// is set, where the caller has seen to it.
func (b *outbox) measure(ts int64, exact bool) {
	if !exact && ts <= b.last {
		ts = b.last + 1
	}
	b.last = max(b.last, ts)
	if b.clockless {
		ts = 0
	}
	b.measured++
	b.times.push(ts)
	if b.ledger != nil {
		b.ledger.Append(ts)
	}
}

func (b *outbox) backlog() uint64 { return b.measured - b.acked }

// boot is the present one.
func (b *outbox) boot() string { return b.boots[len(b.boots)-1].boot }

// ackedSeq is the last acknowledged seq of the present boot.
func (b *outbox) ackedSeq() uint64 {
	first := b.boots[len(b.boots)-1].first
	if b.acked < first {
		return 0
	}
	return b.acked - first + 1
}

// reboot begins a new numbering. What is not acknowledged keeps its boot and number, as a queue in flash would.
func (b *outbox) reboot(boot string) {
	if b.boots[len(b.boots)-1].first == b.measured+1 {
		b.boots = b.boots[:len(b.boots)-1] // it numbered nothing
	}
	b.boots = append(b.boots, numbering{boot: boot, first: b.measured + 1})
}

// connected rewinds to what the hub has: everything not acknowledged goes out again.
func (b *outbox) connected() { b.cursor = b.acked }

// next says how many readings the next frame holds; 0 if nothing may go out now.
func (b *outbox) next() uint64 {
	end := b.measured
	for _, later := range b.boots[1:] {
		if later.first > b.cursor+1 {
			end = later.first - 1 // the numberings go out one after the other, each acknowledged before the next
			break
		}
		if b.acked < later.first-1 {
			return 0
		}
	}
	count := min(b.batch, end-b.cursor)
	if b.cursor+count > b.acked+b.window {
		return 0
	}
	if count < b.batch && end == b.measured && !b.flush && b.cursor >= b.sent {
		return 0 // the batch will fill up
	}
	return count
}

// take encodes frames for the hub as far as the window lets them out, and counts readings that go out for the first
// time. The frames lie in buf.
func (b *outbox) take(frames []outgoing, buf []byte, form frameForm, now time.Time) (out []outgoing, scratch []byte, fresh uint64) {
	for len(frames) < maxRoundFrames && len(buf) < maxRoundBytes {
		count := b.next()
		if count == 0 {
			break
		}
		first, start := b.cursor+1, len(buf)
		last := b.cursor + count
		epoch := b.numberingOf(first)
		buf = b.appendFrame(buf, form, epoch, first, count)
		frames = append(frames, outgoing{payload: buf[start:], boot: epoch.boot, seq: last - epoch.first + 1})
		b.cursor = last
		if last > b.sent {
			fresh += last - b.sent
			b.sent = last
			b.waiting = append(b.waiting, frameSent{last: last, at: now})
		}
	}
	return frames, buf, fresh
}

func (b *outbox) numberingOf(n uint64) numbering {
	for i := len(b.boots) - 1; i > 0; i-- {
		if b.boots[i].first <= n {
			return b.boots[i]
		}
	}
	return b.boots[0]
}

// ack takes the hub's word that every reading of boot up to seq is durable. It returns how many are so anew, calls
// late for each frame that waited, and says whether the hub claims what was never sent.
func (b *outbox) ack(boot string, seq uint64, now time.Time, late func(wait time.Duration, readings uint64)) (fresh uint64, honest bool) {
	for i, epoch := range b.boots {
		if epoch.boot != boot {
			continue
		}
		end := b.sent
		if i+1 < len(b.boots) {
			end = min(end, b.boots[i+1].first-1)
		}
		n := epoch.first + seq - 1
		if seq > wireMaxSeq || n > end {
			return 0, false
		}
		return b.ackTo(n, now, late), true
	}
	return 0, true // a boot that is done with
}

func (b *outbox) ackTo(n uint64, now time.Time, late func(time.Duration, uint64)) uint64 {
	if n <= b.acked {
		return 0
	}
	fresh := n - b.acked
	from := b.acked
	done := 0
	for ; done < len(b.waiting) && b.waiting[done].last <= n; done++ {
		late(now.Sub(b.waiting[done].at), b.waiting[done].last-from)
		from = b.waiting[done].last
	}
	b.waiting = append(b.waiting[:0], b.waiting[done:]...)
	b.times.drop(fresh)
	b.acked = n
	b.cursor = max(b.cursor, n)
	for len(b.boots) > 1 && b.acked >= b.boots[1].first-1 {
		b.boots = append(b.boots[:0], b.boots[1:]...)
	}
	return fresh
}

// timeQueue is a queue of times; taking from its head is a matter of moving it.
type timeQueue struct {
	times []int64
	head  uint64
}

func (q *timeQueue) push(ts int64) { q.times = append(q.times, ts) }

func (q *timeQueue) at(i uint64) int64 { return q.times[q.head+i] }

func (q *timeQueue) drop(count uint64) {
	q.head += count
	if rest := uint64(len(q.times)) - q.head; q.head > 64 && q.head >= rest {
		copy(q.times, q.times[q.head:])
		q.times = q.times[:rest]
		q.head = 0
	}
}
