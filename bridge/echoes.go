package bridge

import (
	"hash/maphash"
	"sync"
	"time"
)

// echoes are what the hub has published lately, over all its connections to one broker: what comes back of it, because a
// map covers the topic of a command or because brokers are bridged in a circle, is no word of a device.
type echoes struct {
	seed maphash.Seed

	mu   sync.Mutex
	sent map[uint64]time.Time // by topic and payload
	ring [echoCount]uint64    // in the order of sending
	next int
}

const (
	echoCount = 1024
	echoTime  = time.Minute
)

func newEchoes() *echoes {
	return &echoes{seed: maphash.MakeSeed(), sent: map[uint64]time.Time{}}
}

func (e *echoes) hash(topic string, payload []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(e.seed)
	_, _ = h.WriteString(topic) // a hash takes all
	_ = h.WriteByte(0)
	_, _ = h.Write(payload)
	return h.Sum64()
}

// note remembers what is about to be published.
func (e *echoes) note(topic string, payload []byte) {
	h := e.hash(topic, payload)
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.sent[h]; !known {
		delete(e.sent, e.ring[e.next])
		e.ring[e.next] = h
		e.next = (e.next + 1) % echoCount
	}
	e.sent[h] = time.Now()
}

// heard reports whether the hub has published this itself, within the last minute.
func (e *echoes) heard(topic string, payload []byte) bool {
	e.mu.Lock()
	none := len(e.sent) == 0
	e.mu.Unlock()
	if none {
		return false
	}
	h := e.hash(topic, payload)
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.sent[h]
	return ok && time.Since(at) < echoTime
}
