package rollouts

import "telemetryhub/feed"

// Subscribe returns a feed of rollouts from now on: a view after each change of state, and twice a second at most while
// outcomes come in. It holds up to buffer views for its reader.
func (s *Service) Subscribe(buffer int) *feed.Feed[Rollout] { return s.feeds.Subscribe(buffer) }
