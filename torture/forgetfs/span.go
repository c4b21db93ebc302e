package forgetfs

import "math"

// span is a range of bytes of a file: from inclusive, to exclusive.
type span struct{ from, to int64 }

// toEnd is beyond the end of any file.
const toEnd = math.MaxInt64

// maxSpans bounds the spans of a file; more are joined to one that covers all.
const maxSpans = 64

// spans are ranges that may overlap.
type spans []span

func (s spans) with(from, to int64) spans {
	if n := len(s); n > 0 && from >= s[n-1].from && from <= s[n-1].to {
		s[n-1].to = max(s[n-1].to, to) // appending is the rule
		return s
	}
	if len(s) < maxSpans {
		return append(s, span{from, to})
	}
	all := span{from, to}
	for _, one := range s {
		all.from, all.to = min(all.from, one.from), max(all.to, one.to)
	}
	return append(s[:0], all)
}

// size counts the bytes that lie within a file of that length; those of overlaps more than once.
func (s spans) size(length int64) (bytes int64) {
	for _, one := range s {
		bytes += max(0, min(one.to, length)-one.from)
	}
	return bytes
}
