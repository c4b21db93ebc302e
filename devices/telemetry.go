package devices

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"telemetryhub/wire"
)

// numbering is how far a boot's numbers came.
type numbering struct {
	boot string
	last uint64 // the highest that the journal took
}

// number makes boot the numbering of what follows.
func (n *conn) number(boot string) {
	switch boot {
	case n.numbers.boot:
	case n.before.boot: // its last readings may not be durable yet
		n.numbers, n.before = n.before, n.numbers
	default:
		n.recall(boot)
	}
}

// recall makes boot the numbering of what follows, and returns its last durable number. The gaps below that are told
// first: they may have been told only to a connection that broke before the device could read it.
func (n *conn) recall(boot string) (durable uint64) {
	durable, gaps := n.hub.sink.Durable(n.device, boot)
	for _, gap := range gaps {
		n.notice(wire.Notice{
			Code: wire.ReasonSeqGap, From: gap[0], To: gap[1],
			Message: fmt.Sprintf("not all of the readings %d to %d of boot %s have reached the hub", gap[0], gap[1], boot),
		})
	}
	if n.numbers.boot == "" {
		n.session.NoteBoot(boot)
	}
	if boot != n.numbers.boot {
		n.numbers, n.before = n.before, n.numbers
	}
	if boot != n.numbers.boot {
		n.numbers = numbering{boot: boot}
	}
	n.numbers.last = max(n.numbers.last, durable)
	return durable
}

// take gives decoded readings to the sink; id is that of the request, nil if it was none. It returns when they are in
// a commit to come, not when they are durable: that is told later, by acks.
func (n *conn) take(s *scratch, id []byte) {
	t := &s.telemetry
	if t.Boot == nil {
		t.Boot = []byte(n.numbers.boot)
	} else {
		n.number(string(t.Boot))
	}
	now := time.Now().UnixMilli()
	p := pending{id: append([]byte(nil), id...), boot: n.numbers.boot, held: true, came: now}
	last := t.Seq + uint64(len(t.Readings)) - 1
	if t.Seq > 0 {
		p.seq = last
		if p.boot != "" {
			p.seq = max(last, n.numbers.last) // what came before is durable with it or earlier: the ack never goes back
		}
	} else if n.acksFor && id == nil {
		p.counts = true
	}
	n.acks.expect(p)
	n.paused.Store(true)
	_, err := n.hub.sink.Append(n.device, t, now, &n.acks)
	n.paused.Store(false)
	if err != nil {
		n.acks.release()
		n.notTaken(id, err)
		return
	}
	// What is missing or set aside is told before the ack that passes it.
	if t.Seq > 0 && p.boot != "" {
		n.tellGap(t.Seq)
		n.numbers.last = p.seq
	}
	n.tellFlaws(t)
	n.acks.release()
}

// notTaken answers a frame that the sink did not take: one that it cannot take, or because the hub stops.
func (n *conn) notTaken(id []byte, err error) {
	var unusable *wire.Error
	switch {
	case errors.As(err, &unusable):
		n.refuse(id, unusable)
	case id != nil:
		n.out.frame(func(dst []byte) []byte {
			return wire.AppendError(dst, id, &wire.Error{Code: wire.CodeUnavailable, Reason: wire.ReasonStopping, Message: err.Error(), RetryAfter: firstReturn})
		})
	}
}

// tellGap names the numbers between what came and first.
func (n *conn) tellGap(first uint64) {
	if from := n.numbers.last + 1; from < first {
		n.notice(wire.Notice{
			Code: wire.ReasonSeqGap, From: from, To: first - 1,
			Message: fmt.Sprintf("readings %d to %d of boot %s never reached the hub", from, first-1, n.numbers.boot),
		})
	}
}

func (n *conn) notice(notice wire.Notice) {
	if e, ok := eventOfNotice(notice); ok {
		n.hub.sessions.Note(n.device, e)
	}
	n.out.frame(func(dst []byte) []byte { return wire.AppendNotice(dst, notice) })
}

// tellFlaws names the readings that go to the quarantine.
func (n *conn) tellFlaws(t *wire.Telemetry) {
	for i := range t.Readings {
		flaw := t.Readings[i].Flaw
		if flaw == "" {
			continue
		}
		notice := wire.Notice{Code: wire.ReasonQuarantined, Message: flaw}
		if t.Seq > 0 {
			notice.Seq = t.Seq + uint64(i)
		}
		n.notice(notice)
	}
}

// acks waits for commits and tells the device what is durable: one answer for each request, and at most one hub.ack
// for each commit and boot. It is the connection's wire.Waiter.
type acks struct {
	conn *conn

	mu        sync.Mutex
	expected  pending // what the reader is about to append
	waiting   []pending
	joined    uint64 // the last commit joined
	committed uint64 // the last commit that is durable
	count     uint64 // durable frames without seq
}

// pending is one frame that waits for its commit.
type pending struct {
	gen    uint64
	id     []byte
	boot   string
	seq    uint64 // to be acked
	counts bool   // in hub.ack{count}
	held   bool   // the reader has not yet told what comes before the ack
	came   int64  // Unix ms
}

func (a *acks) expect(p pending) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expected = p
}

// Join implements wire.Waiter.
func (a *acks) Join(gen uint64) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expected.gen = gen
	a.waiting = append(a.waiting, a.expected)
	first = a.joined != gen
	a.joined = gen
	return first
}

// Committed implements wire.Waiter.
func (a *acks) Committed(gen uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.waiting = nil // never acked: the device sends them again, after the hub's goodbye
		return
	}
	a.committed = gen
	if len(a.waiting) > 0 {
		a.noteSlow(time.Now().UnixMilli() - a.waiting[0].came)
	}
	a.tell()
}

// noteSlow tells the flight recorder of a commit that took ms. It needs mu.
func (a *acks) noteSlow(ms int64) {
	if e, ok := SlowCommit(time.Duration(ms) * time.Millisecond); ok {
		a.conn.hub.sessions.Note(a.conn.device, e)
	}
}

// release says that the reader has told all that must be told before the ack.
func (a *acks) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.waiting {
		a.waiting[i].held = false
	}
	a.tell()
}

// tell needs mu.
func (a *acks) tell() {
	done := 0
	for done < len(a.waiting) && a.waiting[done].gen <= a.committed && !a.waiting[done].held {
		done++
	}
	if done == 0 {
		return
	}
	o := &a.conn.out
	o.mu.Lock()
	counted := false
	for i, p := range a.waiting[:done] {
		if len(p.id) > 0 {
			o.add(func(dst []byte) []byte { return wire.AppendResult(dst, p.id, []byte("{}")) })
		}
		if p.counts {
			a.count++
			counted = true
		}
		last := i+1 == done || a.waiting[i+1].boot != p.boot || a.waiting[i+1].seq == 0
		if p.seq > 0 && last {
			o.add(func(dst []byte) []byte { return wire.AppendAck(dst, p.boot, p.seq) })
		}
	}
	if counted {
		o.add(func(dst []byte) []byte { return wire.AppendAckCount(dst, a.count) })
	}
	o.mu.Unlock()
	a.waiting = append(a.waiting[:0], a.waiting[done:]...)
}
