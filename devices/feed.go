package devices

import "telemetryhub/feed"

// PresenceChange is one device that came or went. Versions grow by one with each change of any device.
type PresenceChange struct {
	Device  string
	Version uint64
	Presence
}

// Subscribe returns a feed that holds up to buffer changes that were not yet looked at.
func (s *Sessions) Subscribe(buffer int) *feed.Feed[PresenceChange] { return s.feeds.Subscribe(buffer) }
