package store

import (
	"sync"
	"time"

	"github.com/influxdata/influxdb/models"
)

const (
	// knownSpan divides every shard's span, so that a series known for an hour is known to the hour's shard.
	knownSpan = time.Hour
	// maxKnown bounds knownSeries to about 40 MB; above it all is forgotten, which costs a few exclusive writes.
	maxKnown = 1_000_000
)

// seriesGate keeps queries out while a write adds series to an index: the engine reads a measurement's mark "deleted"
// without a lock then (tsi1.logMeasurement), which is a data race. Writes of series that are known, which is nearly all
// of them, pass beside queries.
type seriesGate struct {
	// queries is held for reading by each query, for writing by a write that may add series.
	queries sync.RWMutex

	mu    sync.Mutex
	known map[knownSeries]struct{} // guarded by mu
}

// knownSeries is a series in a part of its shard's time. Two series of equal hash would only lose the exclusion.
type knownSeries struct {
	hash uint64
	hour int64
}

func seriesOf(p models.Point) knownSeries {
	return knownSeries{p.HashID(), p.UnixNano() / int64(knownSpan)}
}

// enter waits until the points may be written. The caller calls leave with the outcome.
func (g *seriesGate) enter(points []models.Point) (leave func(written bool)) {
	if g.knowsAll(points) {
		return func(bool) {}
	}
	added := make(map[knownSeries]struct{}) // taken now: the engine reorders the points
	for _, p := range points {
		added[seriesOf(p)] = struct{}{}
	}
	g.queries.Lock()
	return func(written bool) {
		g.queries.Unlock()
		if !written {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.known == nil || len(g.known)+len(added) > maxKnown {
			g.known = make(map[knownSeries]struct{}, len(added))
		}
		for series := range added {
			g.known[series] = struct{}{}
		}
	}
}

func (g *seriesGate) knowsAll(points []models.Point) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range points {
		if _, ok := g.known[seriesOf(p)]; !ok {
			return false
		}
	}
	return true
}

// forget is called after shards were deleted: their series are new again.
func (g *seriesGate) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = nil
}
