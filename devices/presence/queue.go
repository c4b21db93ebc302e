package presence

import (
	"sync"
	"time"
)

// queue holds the changes that wait to be told. It is filled by one goroutine and emptied by another; neither waits.
type queue struct {
	most int
	wake chan struct{} // has an element when there is something new

	mu      sync.Mutex
	changes []Change
	skip    uint64 // changes up to this version were told otherwise
	lost    uint64 // the oldest version that is lost; 0: none
	dropped uint64 // in all
}

func newQueue(most int) *queue { return &queue{most: most, wake: make(chan struct{}, 1)} }

// put adds a change; in a full queue in place of the oldest.
func (q *queue) put(c Change) {
	q.mu.Lock()
	if c.Version > q.skip {
		if len(q.changes) >= q.most {
			q.lose(q.changes[0].Version, 1)
			q.changes = q.changes[1:]
		}
		q.changes = append(q.changes, c)
	}
	q.mu.Unlock()
	q.signal()
}

// miss notes changes, the oldest of at least this version, that never came here.
func (q *queue) miss(from, count uint64) {
	q.mu.Lock()
	q.lose(from, count)
	q.mu.Unlock()
	q.signal()
}

// lose needs mu.
func (q *queue) lose(version, count uint64) {
	if q.lost == 0 || version < q.lost {
		q.lost = version
	}
	q.dropped += count
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// ready is which changes may be told: those up to a version that were made at a time or before.
type ready struct {
	version uint64
	made    time.Time
}

func (r ready) holds(c Change) bool { return c.Version <= r.version && !c.at.After(r.made) }

// peek returns how many changes at the head may be told, when the first of all was made, and how many there are.
func (q *queue) peek(r ready, most int) (n int, first time.Time, all int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if all = len(q.changes); all == 0 {
		return 0, time.Time{}, 0
	}
	for n < min(all, most) && r.holds(q.changes[n]) {
		n++
	}
	return n, q.changes[0].at, all
}

// take removes n changes from the head. With merge, those of devices that have a later one in the queue are left out. The
// version is that of the last that was removed.
func (q *queue) take(n int, merge bool) (taken []Change, version uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	head := q.changes[:n]
	q.changes = q.changes[n:]
	if n > 0 {
		version = head[n-1].Version
	}
	if !merge {
		return append(taken, head...), version
	}
	newest := map[string]uint64{}
	for _, rest := range [][]Change{head, q.changes} {
		for _, c := range rest {
			newest[c.Device] = c.Version
		}
	}
	for _, c := range head {
		if newest[c.Device] == c.Version {
			taken = append(taken, c)
		}
	}
	return taken, version
}

// settleLoss returns the oldest version that is lost, and forgets it, once nothing else waits; 0: none.
func (q *queue) settleLoss() (lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.changes) > 0 {
		return 0
	}
	lost, q.lost = q.lost, 0
	return lost
}

// skipTo drops the changes up to a version, which are told otherwise.
func (q *queue) skipTo(version uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.skip = version
	for len(q.changes) > 0 && q.changes[0].Version <= version {
		q.changes = q.changes[1:]
	}
}

// state returns how many changes wait, how many were dropped in all, and the oldest version that is lost (0: none).
func (q *queue) state() (waiting int, dropped, lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.changes), q.dropped, q.lost
}
