package bridge

import (
	"hash/maphash"
	"sync"
)

// takings are the QoS 2 messages of a session that were taken and that its device has not released (PUBREL): one that
// comes again, over this connection or the next, is not taken again [MQTT-4.3.3-10]. The engine knows of a message only
// once its PUBREC was written; these know of it from when it came, so also of one whose connection was lost before that.
// They live as long as the session, in memory.
type takings struct {
	seed maphash.Seed

	mu    sync.Mutex
	byID  map[uint16]*taking
	count uint64 // messages that came
}

// taking is one message, and what becomes of it.
type taking struct {
	of      *takings
	id      uint16
	number  uint64 // in the order in which they came
	content uint64 // a hash: a device that lost its memory and uses an id anew without releasing it loses nothing

	// Guarded by of.mu.
	done    bool
	settled *claim // with its acknowledgement; it does not change any more
	err     error  // it was not made durable
	waiting []func(settled *claim, err error)
}

func newTakings() *takings {
	return &takings{seed: maphash.MakeSeed(), byID: map[uint16]*taking{}}
}

// begin returns the taking of a QoS 2 message that has come; again means that it came before. There are at most as many
// as may be in flight: beyond that the oldest is forgotten, which no device that keeps to Receive Maximum notices.
func (t *takings) begin(m message) (one *taking, again bool) {
	var h maphash.Hash
	h.SetSeed(t.seed)
	_, _ = h.WriteString(m.topic) // a hash takes all
	_ = h.WriteByte(0)
	_, _ = h.Write(m.payload)
	content := h.Sum64()
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.byID[m.packetID]; known != nil && known.content == content {
		return known, true
	}
	t.count++
	one = &taking{of: t, id: m.packetID, number: t.count, content: content}
	t.byID[m.packetID] = one
	if len(t.byID) > receiveMaximum {
		oldest := one
		for _, o := range t.byID {
			if o.number < oldest.number {
				oldest = o
			}
		}
		delete(t.byID, oldest.id)
	}
	return one, false
}

// released forgets a message that its device will not send again.
func (t *takings) released(id uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

// settle says how the message is acknowledged, also where its connection has ended. kept is false where that ends its
// exchange, so that its id is free.
func (k *taking) settle(r *claim, kept bool) { k.end(r, nil, kept) }

// lose says that the message was not made durable: it is new when it comes again.
func (k *taking) lose(err error) { k.end(nil, err, false) }

func (k *taking) end(settled *claim, err error, kept bool) {
	k.of.mu.Lock()
	k.done, k.settled, k.err = true, settled, err
	if !kept && k.of.byID[k.id] == k {
		delete(k.of.byID, k.id)
	}
	waiting := k.waiting
	k.waiting = nil
	k.of.mu.Unlock()
	for _, then := range waiting {
		then(settled, err)
	}
}

// whenDone calls then once it is known what becomes of the message, at once if it is.
func (k *taking) whenDone(then func(settled *claim, err error)) {
	k.of.mu.Lock()
	done := k.done
	if !done {
		k.waiting = append(k.waiting, then)
	}
	k.of.mu.Unlock()
	if done {
		then(k.settled, k.err) // they do not change any more
	}
}
