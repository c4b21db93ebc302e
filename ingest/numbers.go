package ingest

import "slices"

// Bounds of what is remembered of a device's numbering.
const (
	maxBoots = 8  // boots of a device
	maxSpans = 64 // pieces of a boot's numbers above its floor
)

// verdict is what a number says of its reading.
type verdict uint8

const (
	isNew verdict = iota
	isDuplicate
	isUnknown // the number lies where gaps had to be forgotten: new or not, nobody knows
)

// span is a piece of numbers, both ends included.
type span [2]uint64

// numbers is which readings of one boot have come: all up to Floor, nobody knows up to Forgotten, and those in Spans,
// which are sorted, apart from each other, and above both.
type numbers struct {
	Boot      string `json:"boot"`
	Floor     uint64 `json:"floor"`
	Forgotten uint64 `json:"forgotten,omitempty"`
	Spans     []span `json:"spans,omitempty"`
}

// take says whether seq is new, and remembers it.
func (n *numbers) take(seq uint64) verdict {
	switch {
	case seq <= n.Floor:
		return isDuplicate
	case seq <= n.Forgotten:
		return isUnknown
	}
	i, found := slices.BinarySearchFunc(n.Spans, seq, func(s span, seq uint64) int {
		switch {
		case s[1] < seq:
			return -1
		case s[0] > seq:
			return 1
		}
		return 0
	})
	if found {
		return isDuplicate
	}
	n.insert(i, seq)
	n.settle()
	return isNew
}

// insert adds seq, which belongs before Spans[i].
func (n *numbers) insert(i int, seq uint64) {
	joinsLeft := i > 0 && n.Spans[i-1][1]+1 == seq
	joinsRight := i < len(n.Spans) && n.Spans[i][0] == seq+1
	switch {
	case joinsLeft && joinsRight:
		n.Spans[i-1][1] = n.Spans[i][1]
		n.Spans = slices.Delete(n.Spans, i, i+1)
	case joinsLeft:
		n.Spans[i-1][1] = seq
	case joinsRight:
		n.Spans[i][0] = seq
	default:
		n.Spans = slices.Insert(n.Spans, i, span{seq, seq})
	}
}

// settle raises the floor over what has become whole, and forgets the lowest gap when there are too many.
func (n *numbers) settle() {
	if len(n.Spans) > 0 && n.Spans[0][0] == n.Floor+1 {
		n.Floor = n.Spans[0][1]
		n.Spans = slices.Delete(n.Spans, 0, 1)
	}
	if len(n.Spans) > maxSpans {
		n.Forgotten = n.Spans[0][1]
		n.Spans = slices.Delete(n.Spans, 0, 1)
	}
}

// last returns the highest number that has come.
func (n *numbers) last() uint64 {
	if len(n.Spans) > 0 {
		return n.Spans[len(n.Spans)-1][1]
	}
	return max(n.Floor, n.Forgotten)
}
