package bridge

import (
	"context"
	"slices"
	"sync"
	"time"

	"telemetryhub/devices"
)

// ackWindow is how many of a connection's QoS 1 and 2 messages may wait for their commit; its socket is not read while
// there are so many. It is below receiveMaximum, so that nobody who keeps to that is cut off.
const ackWindow = 256

// acks sends the acknowledgements of one connection's messages: each once its message is durable, and in the order of
// the messages [MQTT-4.6.0-2, 4.6.0-3]. The messages share commits, so that a device with a window of some waits for one
// fsync and not for one each. A message of QoS 0 has no acknowledgement, but its commit is awaited too: when that fails,
// the connection ends as it would for any other.
//
// The journal calls Join and Committed; neither waits for the device. Acknowledgements are written by a goroutine that
// lives only while there are any.
type acks struct {
	client *client
	work   sync.WaitGroup // the writer

	mu       sync.Mutex
	current  *claim    // given to the journal just now; owned by the goroutine that serves the connection until it joins
	joined   uint64    // the last commit that one of ours joined
	brought  []brought // what commits have of ours that are not durable
	waiting  []*claim
	ready    []acknowledgement
	held     int           // waiting, ready or being written
	room     chan struct{} // closed when held has come down, nil while nobody waits for that
	writing  bool
	closing  bool // no other message is looked at
	finished bool // the connection has ended, or is to end without another acknowledgement
}

// brought is how many readings a commit has of one connection.
type brought struct {
	commit   uint64
	readings int
}

// claim is the acknowledgement that a message is to have.
type claim struct {
	acknowledgement
	commit   uint64 // that it waits for; 0: none
	readings int    // that it brings to the journal
	since    time.Time
	settled  bool
	unsent   bool    // it will have none, and the connection goes on
	taking   *taking // of a message of QoS 2 that came for the first time
	before   *taking // of one that came again: the first's
}

// acknowledgement is a PUBACK or PUBREC.
type acknowledgement struct {
	packetID uint16
	qos      byte
	code     reasonCode
	reason   string
}

// open returns the claim of a message that has come. It waits while there are too many. nil: the message is not to be
// looked at, for the connection is ending, or it is one of QoS 2 that waits already [MQTT-4.3.3-10].
func (a *acks) open(m message) *claim {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.held >= ackWindow && !a.finished && !a.closing {
		room := a.awaitRoom()
		a.mu.Unlock()
		<-room
		a.mu.Lock()
	}
	if a.finished || a.closing {
		return nil
	}
	if m.qos == 2 {
		for _, w := range a.waiting {
			if w.qos == 2 && w.packetID == m.packetID {
				return nil
			}
		}
	}
	r := &claim{acknowledgement: acknowledgement{packetID: m.packetID, qos: m.qos}, since: time.Now()}
	if m.qos > 0 {
		a.waiting = append(a.waiting, r)
		a.held++
	}
	if m.qos == 2 {
		if one, again := a.client.mailbox.takings.begin(m); again {
			r.before = one
		} else {
			r.taking = one
		}
	}
	a.current = r
	return r
}

// awaitRoom returns what is closed when held has come down, or nothing comes any more. It needs mu.
func (a *acks) awaitRoom() <-chan struct{} {
	if a.room == nil {
		a.room = make(chan struct{})
	}
	return a.room
}

// makeRoom needs mu.
func (a *acks) makeRoom() {
	if a.room != nil {
		close(a.room)
		a.room = nil
	}
}

// settle says that r's message is done with: taken, or refused.
func (a *acks) settle(r *claim, refused *refusal) {
	a.mu.Lock()
	if refused != nil {
		r.code, r.reason = refused.code, refused.message
		r.unsent = refused.unacked && !a.client.v5
	}
	r.settled = true
	a.advance()
	a.mu.Unlock()
	a.note(r)
}

// note tells a message's taking what it became. It comes without mu, for another connection of the session may wait.
func (a *acks) note(r *claim) {
	if r.taking != nil {
		over := r.unsent || a.client.v5 && r.code >= codeUnspecified // no PUBREL follows [MQTT-4.3.3-9]
		r.taking.settle(r, !over)
	}
}

// repeated settles r, of a message that came before, as that one is.
func (a *acks) repeated(r *claim) {
	r.before.whenDone(func(first *claim, err error) {
		if err != nil {
			a.fail(err, nil)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		r.code, r.reason, r.unsent, r.settled = first.code, first.reason, first.unsent, true
		a.advance()
	})
}

// Join implements wire.Waiter.
func (a *acks) Join(gen uint64) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current.commit = gen
	if first = a.joined != gen; first {
		a.brought = append(a.brought, brought{commit: gen})
	}
	a.brought[len(a.brought)-1].readings += a.current.readings
	a.joined = gen
	return first
}

// Committed implements wire.Waiter.
func (a *acks) Committed(gen uint64, err error) {
	if err != nil {
		a.fail(err, func(r *claim) bool { return r.commit == gen })
		return
	}
	var settled []*claim
	a.mu.Lock()
	for len(a.brought) > 0 && a.brought[0].commit <= gen { // commits become durable in their order
		a.client.broker.metrics.traffic.readings.Add(uint64(a.brought[0].readings))
		a.brought = a.brought[1:]
	}
	for _, r := range a.waiting {
		if r.commit == gen {
			r.settled = true
			settled = append(settled, r)
			if e, slow := devices.SlowCommit(time.Since(r.since)); slow {
				a.client.broker.hub.Sessions.Note(a.client.device, e)
			}
		}
	}
	a.advance()
	a.mu.Unlock()
	for _, r := range settled {
		a.note(r)
	}
}

// advance moves what may be sent to ready. It needs mu.
func (a *acks) advance() {
	n := 0
	for ; n < len(a.waiting) && a.waiting[n].settled; n++ {
		if r := a.waiting[n]; r.unsent {
			a.held--
			a.makeRoom()
		} else if !a.finished {
			a.client.broker.metrics.traffic.answered(time.Since(r.since))
			a.ready = append(a.ready, r.acknowledgement)
		}
	}
	if n == len(a.waiting) {
		a.waiting = nil // an idle connection holds nothing
	} else {
		a.waiting = a.waiting[n:]
	}
	if len(a.ready) > 0 && !a.writing && !a.finished {
		a.writing = true
		a.work.Go(a.write)
	}
}

// write sends what is ready, all that is so at once.
func (a *acks) write() {
	for {
		a.mu.Lock()
		batch := a.ready
		a.ready = nil
		if a.finished || len(batch) == 0 {
			a.writing = false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		a.client.link.acknowledge(batch)
		a.mu.Lock()
		a.held -= len(batch)
		a.makeRoom()
		a.mu.Unlock()
	}
}

// fail ends the connection without another acknowledgement: the messages of those claims could not be made durable.
// of is nil where they are none of this connection's.
func (a *acks) fail(err error, of func(r *claim) bool) {
	var takings []*taking
	a.mu.Lock()
	lost := max(1, len(a.waiting))
	first := !a.finished
	for _, r := range a.waiting {
		if r.taking != nil && of != nil && of(r) {
			takings = append(takings, r.taking)
			r.taking = nil
		}
	}
	a.finish()
	a.mu.Unlock()
	for _, t := range takings {
		t.lose(err)
	}
	if !first {
		return
	}
	c := a.client
	c.broker.metrics.unacked.Add(uint64(lost))
	c.broker.log.Debug("mqtt message not committed; the connection ends without an acknowledgement", "device", c.device, "err", err)
	c.link.fail(err)
}

// close takes no other message. The goroutine that serves the connection may wait for a place in the window, for as long
// as the journal stalls, and would not see that the connection has ended.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closing = true
	a.makeRoom()
}

// drain takes no other message, and waits until those before are acknowledged or ctx ends.
func (a *acks) drain(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closing = true
	a.makeRoom()
	for a.held > 0 && !a.finished {
		room := a.awaitRoom()
		a.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		a.mu.Lock()
		if ctx.Err() != nil {
			return
		}
	}
}

// flight returns how many messages wait to be acknowledged, and since when the oldest does.
func (a *acks) flight() (messages int, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) > 0 {
		since = a.waiting[0].since
	}
	return len(a.waiting), since
}

// end is called when the connection has ended.
func (a *acks) end() {
	a.mu.Lock()
	a.finish()
	a.mu.Unlock()
	a.work.Wait()
}

// finish leaves those claims whose messages may come again on the session's next connection, for what becomes of them
// counts there. It needs mu.
func (a *acks) finish() {
	a.finished = true
	a.waiting = slices.DeleteFunc(a.waiting, func(r *claim) bool { return r.settled || r.taking == nil })
	a.ready = nil
	a.makeRoom()
}
