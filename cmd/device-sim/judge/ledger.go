package judge

import "encoding/binary"

// Ledger holds the times of a device's readings 1, 2, ... in ms since the epoch, as differences of one to three bytes.
// The zero value is empty. It is not safe for concurrent use.
type Ledger struct {
	steps          []byte
	count          uint64
	last           int64
	oldest, newest int64
}

// Append notes the time of the next reading; 0 where it has none.
func (l *Ledger) Append(ts int64) {
	l.steps = binary.AppendVarint(l.steps, ts-l.last)
	l.last = ts
	if l.count == 0 {
		l.oldest, l.newest = ts, ts
	}
	l.oldest, l.newest = min(l.oldest, ts), max(l.newest, ts)
	l.count++
}

// Len is the number of readings.
func (l *Ledger) Len() uint64 { return l.count }

// Span is the oldest and the newest time; 0, 0 of an empty ledger.
func (l *Ledger) Span() (oldest, newest int64) { return l.oldest, l.newest }

// Times are all times; reading n is at index n-1.
func (l *Ledger) Times() []int64 {
	times := make([]int64, 0, l.count)
	var ts int64
	for rest := l.steps; len(rest) > 0; {
		step, n := binary.Varint(rest)
		ts += step
		rest = rest[n:]
		times = append(times, ts)
	}
	return times
}
