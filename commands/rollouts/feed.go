package rollouts

import (
	"sync"
	"sync/atomic"
)

// Feed is one reader's stream of rollouts: a view after each change of state, and twice a second at most while outcomes
// come in. A reader that is too slow loses views and can see how many.
type Feed struct {
	c      chan Rollout
	missed atomic.Uint64
	feeds  *feeds
}

// Subscribe returns a feed of what happens from now on. It holds up to buffer views for its reader.
func (s *Service) Subscribe(buffer int) *Feed {
	return s.feeds.add(&Feed{c: make(chan Rollout, max(buffer, 1)), feeds: &s.feeds})
}

// C is where the views come. It is never closed.
func (f *Feed) C() <-chan Rollout { return f.c }

// Missed returns how many views did not fit since it was last asked.
func (f *Feed) Missed() uint64 { return f.missed.Swap(0) }

// Close ends the feed.
func (f *Feed) Close() { f.feeds.remove(f) }

// feeds are the open feeds.
type feeds struct {
	mu    sync.Mutex
	open  map[*Feed]bool
	lost  uint64
	ended bool
}

func (s *feeds) add(f *Feed) *Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*Feed]bool{}
	}
	if !s.ended {
		s.open[f] = true
	}
	return f
}

func (s *feeds) remove(f *Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, f)
}

// publish never waits.
func (s *feeds) publish(r Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.open {
		select {
		case f.c <- r:
		default:
			f.missed.Add(1)
			s.lost++
		}
	}
}

func (s *feeds) missed() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

func (s *feeds) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.open = true, nil
}
