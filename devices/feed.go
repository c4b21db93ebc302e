package devices

import "sync/atomic"

// PresenceChange is one device that came or went. Versions grow by one with each change of any device.
type PresenceChange struct {
	Device  string
	Version uint64
	Presence
}

// PresenceFeed gives changes of presence to one looker. It never waits for it: what does not fit is counted.
type PresenceFeed struct {
	c        chan PresenceChange
	missed   atomic.Uint64
	sessions *Sessions
}

// Subscribe returns a feed that holds up to buffer changes that were not yet looked at.
func (s *Sessions) Subscribe(buffer int) *PresenceFeed {
	f := &PresenceFeed{c: make(chan PresenceChange, buffer), sessions: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds[f] = true
	return f
}

// C is where the changes come.
func (f *PresenceFeed) C() <-chan PresenceChange { return f.c }

// Missed returns how many changes did not fit since it was last asked.
func (f *PresenceFeed) Missed() uint64 { return f.missed.Swap(0) }

// Close ends the feed. C is not closed.
func (f *PresenceFeed) Close() {
	f.sessions.mu.Lock()
	defer f.sessions.mu.Unlock()
	delete(f.sessions.feeds, f)
}
