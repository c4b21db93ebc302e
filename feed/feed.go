// Package feed gives what happens to those who look, and waits for none of them: what a reader has no room for is
// counted, and the reader is told. It owns nothing else; it keeps no history, and what a feed carries is its owner's.
package feed

import (
	"sync"
	"sync/atomic"
)

// Feed is one reader's part of [Feeds].
type Feed[T any] struct {
	c      chan T
	missed atomic.Uint64
	feeds  *Feeds[T]
}

// C is where it comes. It is never closed.
func (f *Feed[T]) C() <-chan T { return f.c }

// Missed returns how many did not fit since it was last asked.
func (f *Feed[T]) Missed() uint64 { return f.missed.Swap(0) }

// Close ends the feed.
func (f *Feed[T]) Close() {
	f.feeds.mu.Lock()
	defer f.feeds.mu.Unlock()
	delete(f.feeds.open, f)
}

// Feeds are the open feeds of one owner. The zero value is ready.
type Feeds[T any] struct {
	mu    sync.Mutex
	open  map[*Feed[T]]bool
	lost  uint64
	ended bool
}

// Subscribe returns a feed of what is published from now on. It holds up to buffer elements, at least one, for its reader.
func (s *Feeds[T]) Subscribe(buffer int) *Feed[T] {
	f := &Feed[T]{c: make(chan T, max(buffer, 1)), feeds: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*Feed[T]]bool{}
	}
	if !s.ended {
		s.open[f] = true
	}
	return f
}

// Publish gives v to all that are open, in the order of its calls. It never waits.
func (s *Feeds[T]) Publish(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.open {
		select {
		case f.c <- v:
		default:
			f.missed.Add(1)
			s.lost++
		}
	}
}

// Lost returns how many elements readers have missed in all.
func (s *Feeds[T]) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Close lets go of all feeds; those that are opened later get nothing.
func (s *Feeds[T]) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.open = true, nil
}
