package bridge

import (
	"hash/maphash"
	"sync"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// receipts are the QoS 2 messages of an external broker's session that were taken and that the broker has not released
// (PUBREL): should it send one again, over this connection or the next, it makes no second reading (MQTT 3.1.1 section
// 4.3.3). They outlive connections, not the process: after a crash such a message is new, and only boot and seq, or its
// time, tell that it is not. There are at most as many as packet ids.
type receipts struct {
	seed maphash.Seed

	mu     sync.Mutex
	byID   map[uint16]*receipt
	repeat uint64 // messages that were not taken again
}

// receipt is one message. Whoever gets it again waits until the first is durable.
type receipt struct {
	content uint64 // a hash: a broker that uses an id anew without releasing it loses nothing
	durable bool
	waiting []func()
}

func newReceipts() *receipts {
	return &receipts{seed: maphash.MakeSeed(), byID: map[uint16]*receipt{}}
}

// begin returns the receipt of a message that is about to be taken; again means that it was taken before.
func (r *receipts) begin(m paho.Message) (of *receipt, again bool) {
	if m.Qos() != 2 {
		return nil, false
	}
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(m.Topic()) // a hash takes all
	_ = h.WriteByte(0)
	_, _ = h.Write(m.Payload())
	content := h.Sum64()
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.byID[m.MessageID()]; known != nil && known.content == content {
		r.repeat++
		return known, true
	}
	of = &receipt{content: content}
	r.byID[m.MessageID()] = of
	return of, false
}

// settled notes that a message is durable, or refused for good.
func (r *receipts) settled(of *receipt) {
	r.mu.Lock()
	of.durable = true
	waiting := of.waiting
	of.waiting = nil
	r.mu.Unlock()
	for _, then := range waiting {
		then()
	}
}

// whenSettled calls then once the message is durable, at once if it is.
func (r *receipts) whenSettled(of *receipt, then func()) {
	r.mu.Lock()
	durable := of.durable
	if !durable {
		of.waiting = append(of.waiting, then)
	}
	r.mu.Unlock()
	if durable {
		then()
	}
}

// released forgets a message that the broker will not send again.
func (r *receipts) released(id uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

// forget forgets all: the broker has begun a new session.
func (r *receipts) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.byID)
}

// repeated returns how many messages were not taken again.
func (r *receipts) repeated() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.repeat
}
