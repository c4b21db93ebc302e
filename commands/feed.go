package commands

import "telemetryhub/feed"

// Subscribe returns a feed of every change of state that is durable from now on, and of progress. It holds up to
// buffer changes for its reader.
func (s *Service) Subscribe(buffer int) *feed.Feed[Command] { return s.feeds.Subscribe(buffer) }
