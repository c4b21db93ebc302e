package devices

import (
	"time"

	"telemetryhub/feed"
)

// PresenceChange is one device that came or went, was frozen or let in again. Versions grow by one with each change of any device.
type PresenceChange struct {
	Device  string
	What    string // one of the words below
	Version uint64
	At      time.Time // of the change
	Presence
}

// What a PresenceChange may be.
const (
	ChangeConnected    = "connected" // also in the place of an older connection
	ChangeDisconnected = "disconnected"
	ChangeFrozen       = "frozen" // and disconnected
	ChangeUnfrozen     = "unfrozen"
	ChangeUnresponsive = "unresponsive"
	ChangeResponsive   = "responsive" // again
)

// Subscribe returns a feed that holds up to buffer changes that were not yet looked at.
func (s *Sessions) Subscribe(buffer int) *feed.Feed[PresenceChange] { return s.feeds.Subscribe(buffer) }
