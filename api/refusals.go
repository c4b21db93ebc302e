package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Refusals that go into the audit log, by act and actor (or address, where nobody knows who it was): a script in a loop,
// or somebody who tries tokens, must not push everything else out of it.
const (
	refusalsAtOnce   = 10
	refusalRefill    = 10 * time.Second
	refusalsOfAll    = 200 // at once
	refusalRefillAll = 200 * time.Millisecond
	refusalSources   = 4096 // remembered
)

// refusalLimits says which refusals are written, and counts the others.
type refusalLimits struct {
	mu      sync.Mutex
	all     *rate.Limiter
	sources map[string]*refusalLimit
	further uint64 // suppressed, of sources that were forgotten since
}

type refusalLimit struct {
	limit      *rate.Limiter
	suppressed uint64 // since one was written
}

func newRefusalLimits() *refusalLimits {
	return &refusalLimits{all: rate.NewLimiter(rate.Every(refusalRefillAll), refusalsOfAll), sources: map[string]*refusalLimit{}}
}

// take reports whether a refusal of this source is written, and how many before it were not.
func (l *refusalLimits) take(source string, now time.Time) (suppressed uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.sources[source]
	if own == nil {
		if len(l.sources) >= refusalSources {
			l.forget(now)
		}
		own = &refusalLimit{limit: rate.NewLimiter(rate.Every(refusalRefill), refusalsAtOnce)}
		l.sources[source] = own
	}
	if own.limit.TokensAt(now) < 1 || !l.all.AllowN(now, 1) {
		own.suppressed++
		return 0, false
	}
	own.limit.AllowN(now, 1)
	suppressed = own.suppressed + l.further
	own.suppressed, l.further = 0, 0
	return suppressed, true
}

// forget drops the sources that have been quiet, or, when there are none, any one.
func (l *refusalLimits) forget(now time.Time) {
	drop := func(source string) {
		l.further += l.sources[source].suppressed
		delete(l.sources, source)
	}
	for source, own := range l.sources {
		if own.limit.TokensAt(now) >= refusalsAtOnce {
			drop(source)
		}
	}
	for source := range l.sources {
		if len(l.sources) < refusalSources {
			return
		}
		drop(source)
	}
}
