package state

import (
	"sync"
	"sync/atomic"
)

// Update is a document that was changed.
type Update struct {
	Document
	DesiredChanged, ReportedChanged bool
}

// Feed is one reader's stream of updates. A reader that is too slow loses some and can see how many.
type Feed struct {
	c      chan Update
	missed atomic.Uint64
	feeds  *feeds
}

// Subscribe returns a feed of every change that is durable from now on, with room for buffer of them.
func (s *Documents) Subscribe(buffer int) *Feed {
	f := &Feed{c: make(chan Update, max(buffer, 1)), feeds: &s.feeds}
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	if s.feeds.open == nil {
		s.feeds.open = map[*Feed]bool{}
	}
	s.feeds.open[f] = true
	return f
}

// C is where the updates come. It is never closed.
func (f *Feed) C() <-chan Update { return f.c }

// Missed returns how many updates did not fit since it was last asked.
func (f *Feed) Missed() uint64 { return f.missed.Swap(0) }

// Close ends the feed.
func (f *Feed) Close() {
	f.feeds.mu.Lock()
	defer f.feeds.mu.Unlock()
	delete(f.feeds.open, f)
}

// feeds are the open feeds.
type feeds struct {
	mu   sync.Mutex
	open map[*Feed]bool
}

// publish never waits.
func (s *feeds) publish(u Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.open {
		select {
		case f.c <- u:
		default:
			f.missed.Add(1)
		}
	}
}
