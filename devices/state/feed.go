package state

import "telemetryhub/feed"

// Update is a document that was changed.
type Update struct {
	Document
	DesiredChanged, ReportedChanged bool
}

// Subscribe returns a feed of every change that is durable from now on, with room for buffer of them.
func (s *Documents) Subscribe(buffer int) *feed.Feed[Update] { return s.feeds.Subscribe(buffer) }
