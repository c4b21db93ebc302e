package bridge

import (
	"fmt"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// settle lets a message that the journal has nothing to do with be acknowledged after those before it.
func (l *line) settle(in paho.Message) {
	l.mu.Lock()
	l.waiting = append(l.waiting, uncommitted{message: in, gen: l.lastGen(), receipt: l.receipt})
	l.settled(l.advance())
}

// lastGen returns the commit of the message before, which one that joins none follows. It needs mu.
func (l *line) lastGen() uint64 {
	if len(l.waiting) == 0 {
		return 0
	}
	return l.waiting[len(l.waiting)-1].gen
}

// advance moves what may be acknowledged to ready and returns the receipts of what did. It needs mu.
func (l *line) advance() (done []*receipt) {
	n := 0
	for n < len(l.waiting) && l.waiting[n].gen <= l.durable && (l.waiting[n].held == nil || !*l.waiting[n].held) {
		l.ready = append(l.ready, l.waiting[n].message)
		if l.waiting[n].receipt != nil {
			done = append(done, l.waiting[n].receipt)
		}
		n++
	}
	l.waiting = l.waiting[n:]
	return done
}

// settled gives mu back after advance, and tells of what has become ready.
func (l *line) settled(done []*receipt) {
	l.mu.Unlock()
	l.signal()
	for _, r := range done {
		l.external.receipts.settled(r)
	}
}

// Join implements wire.Waiter: the message that take is about joins commit gen.
func (l *line) Join(gen uint64) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, uncommitted{message: l.current, gen: gen, receipt: l.receipt})
	first = l.joined != gen
	l.joined = gen
	return first
}

// Committed implements wire.Waiter.
func (l *line) Committed(gen uint64, err error) {
	if err != nil {
		l.failJournal(err)
		return
	}
	l.mu.Lock()
	l.durable = max(l.durable, gen)
	l.settled(l.advance())
}

// failJournal ends the connection without acknowledging what the journal has not: the broker sends it again.
func (l *line) failJournal(err error) {
	l.external.receipts.forget()
	l.fail(&ending{endJournal, fmt.Errorf("journal: %w", err)})
}

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// acknowledge sends the acknowledgements of what is ready.
func (l *line) acknowledge() {
	for {
		select {
		case <-l.wake:
		case <-l.alive.Done():
			return
		}
		l.mu.Lock()
		ready := l.ready
		l.ready = nil
		l.mu.Unlock()
		for _, m := range ready {
			m.Ack() // waits for the socket, at most until the write's deadline
			l.external.metrics.acked.Inc()
			l.external.traffic.acknowledged(readingsOf(m), time.Now())
			l.window.leave(weight(m))
		}
	}
}
