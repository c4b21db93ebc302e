package ingest

import (
	"math"

	"telemetryhub/wire"
)

// A store has one point for each series and time, and devices tell times in ms. So that two readings of one ms are both
// kept, each is stored at its ms and a number of ns below one, its place. A numbered reading that is later than all that
// came from its device before needs none: its place is 0, and as its envelope says how late those were, that follows from
// the envelope alone. The place of the others follows from nothing but the reading: from its boot and seq, or without them
// from its values. Therefore a reading that is taken from the journal again finds its own point, whatever came between; so
// does one that is sent again without a number. One with a number is known by that.
//
// Readings of one boot have different places as long as their numbers differ by no multiple of places; a prime, so that
// a clock that is set back by an hour meets no multiple of a round rate. Others of one ms share a place by chance, one
// pair in a million; then the later one is kept.
//
// What it costs in the embedded engine, whose blocks keep differences of times by their common power of ten: nothing where
// readings come in order, each with a ms of its own. One among a thousand that has a place makes its block keep 4 or 8 B
// a value instead of 1.3 to 2.7.
const (
	places     = 999_983 // the largest prime below the ns of a ms
	nanosPerMs = 1_000_000
)

// stamp returns the time in ns at which reading r of the entry, with the number seq or 0, is stored.
func (e *entry) stamp(seq uint64, r *wire.Reading) int64 {
	place := uint64(0)
	switch {
	case seq > 0 && len(e.boot) > 0 && e.isLatest:
	case seq > 0 && len(e.boot) > 0:
		place = (fold(fnvBasis, e.boot)%places + seq) % places
		if place == 0 && e.isTopped {
			place = places // that is the place of the latest
		}
	default:
		for i := range r.Fields { // a sum: the order of the fields says nothing
			place += spread(hashField(&r.Fields[i]))
		}
		place %= places
	}
	return r.Time*nanosPerMs + int64(place)
}

func hashField(f *wire.Field) uint64 {
	h := fold(fnvBasis, f.Name)
	h = (h ^ uint64(f.Kind)) * fnvPrime
	if f.Kind == wire.Float {
		return h ^ spread(math.Float64bits(f.Number))
	}
	return fold(h, f.Text)
}

// FNV-1a, 64 bits.
const (
	fnvBasis = 14695981039346656037
	fnvPrime = 1099511628211
)

func fold(h uint64, text []byte) uint64 {
	for _, c := range text {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}

// spread makes each bit of h count for all of the result: the finalizer of SplitMix64.
func spread(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
