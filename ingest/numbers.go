package ingest

import (
	"slices"
	"sort"
)

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

// add remembers that first to last have come. Where they follow what came before it costs nothing.
func (n *numbers) add(first, last uint64) {
	first = max(first, n.Floor+1, n.Forgotten+1)
	if first > last {
		return
	}
	top := len(n.Spans) - 1
	switch {
	case top < 0 && first == n.Floor+1:
		n.Floor = last
		return
	case top >= 0 && n.Spans[top][1]+1 == first:
		n.Spans[top][1] = last
		return
	}
	// Spans[from:to] touch first to last, and become one with them.
	from := sort.Search(len(n.Spans), func(i int) bool { return n.Spans[i][1]+1 >= first })
	to := sort.Search(len(n.Spans), func(i int) bool { return n.Spans[i][0] > last+1 })
	joined := span{first, last}
	if from < to {
		joined = span{min(first, n.Spans[from][0]), max(last, n.Spans[to-1][1])}
	}
	n.Spans = slices.Replace(n.Spans, from, to, joined)
	n.settle()
}

// gaps returns what is missing below the highest number that has come, and first that of which some is, nobody knows
// which; at most maxSpans+1.
func (n *numbers) gaps() (open [][2]uint64) {
	below := n.Floor
	if n.Forgotten > below {
		open = append(open, [2]uint64{below + 1, n.Forgotten})
		below = n.Forgotten
	}
	for _, s := range n.Spans {
		if s[0] > below+1 {
			open = append(open, [2]uint64{below + 1, s[0] - 1})
		}
		below = s[1]
	}
	return open
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
