package commands

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"time"
)

const (
	idLength   = 26
	idAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford's base 32, as ULIDs have it
)

// ids makes command ids: 48 bits of milliseconds and 80 random bits, written so that their order is the order of
// making. Within one millisecond, or when the clock steps back, the last id is counted up.
type ids struct {
	mu   sync.Mutex
	ms   uint64
	high uint16 // of the 80 bits
	low  uint64
}

func (g *ids) next(now time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if ms := uint64(now.UnixMilli()); ms > g.ms {
		var tail [10]byte
		_, _ = rand.Read(tail[:]) // never fails: crypto/rand ends the process instead
		g.ms = ms
		g.high = binary.BigEndian.Uint16(tail[:2]) >> 1 // half of the range is left for counting
		g.low = binary.BigEndian.Uint64(tail[2:])
	} else if g.low++; g.low == 0 {
		g.high++
	}
	return formatID(g.ms, g.high, g.low)
}

// follow makes the next ids come after that of a command that an earlier process made, also when the clock was set back
// since.
func (g *ids) follow(id string) {
	var top, low uint64
	for i := range len(id) {
		digit := strings.IndexByte(idAlphabet, id[i])
		if digit < 0 {
			return // none of ours
		}
		top, low = top<<5|low>>59, low<<5|uint64(digit)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if ms, high := top>>16, uint16(top&math.MaxUint16); ms > g.ms || ms == g.ms && (high > g.high || high == g.high && low > g.low) {
		g.ms, g.high, g.low = ms, high, low
	}
}

// formatID writes the 128 bits as 26 characters of 5 bits, the first of 3.
func formatID(ms uint64, high uint16, low uint64) string {
	top := ms<<16 | uint64(high)
	var text [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		text[i] = idAlphabet[low&31]
		low = low>>5 | top<<59
		top >>= 5
	}
	return string(text[:])
}

// firstID is not after any id made at or after t.
func firstID(t time.Time) string { return formatID(uint64(max(t.UnixMilli(), 0)), 0, 0) }

// isID reports whether text has the form of an id, so that a stray text never becomes a key of the bucket.
func isID(text string) bool {
	if len(text) != idLength {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
