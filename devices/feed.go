package devices

import (
	"time"

	"telemetryhub/feed"
)

// PresenceChange is one device that came or went, was frozen or let in again. Versions grow by one with each change of any device.
type PresenceChange struct {
	Device  string
	Version uint64
	At      time.Time // of the change
	Presence
}

// Subscribe returns a feed that holds up to buffer changes that were not yet looked at.
func (s *Sessions) Subscribe(buffer int) *feed.Feed[PresenceChange] { return s.feeds.Subscribe(buffer) }
