package mend

import "slices"

// block is one block file, in memory.
type block struct {
	proof  proof
	data   []byte
	left   *effort
	sealed uint64 // the stream's last sequence, when it is known that data ends with that record; else 0

	last    uint64 // the highest sequence that has been met, in earlier blocks too
	good    int    // records that hold
	changes []change
	torn    int // bytes at the end that are left to the server

	next     int // where the next record begins that holds, or the end, once a search has been there; else 0
	believed int // up to here the lengths of damaged records lead to next
}

// change is a piece of the block that was damaged.
type change struct {
	at, length int
	sequence   uint64 // 0: not known
	restored   bool   // or erased
}

// mend changes data so that the server can read it to its end, or to where it is torn.
func (b *block) mend() {
	for at := 0; at < len(b.data); {
		if r := b.whole(at); r != nil {
			b.pass(r)
			at += len(r)
			continue
		}
		r := b.restored(at)
		c := change{at: at, length: len(r), restored: true}
		if r != nil {
			b.pass(r)
			c.sequence = r.sequence()
		} else {
			end := b.end(at)
			if end < 0 {
				b.torn = len(b.data) - at
				return
			}
			r = b.data[at:end]
			c = change{at: at, length: len(r), sequence: b.sequenceOf(r, end)}
			r.erase(b.proof.hash, c.sequence)
			b.last = max(b.last, c.sequence)
		}
		b.changes = append(b.changes, c)
		at += c.length
	}
}

func (b *block) pass(r record) {
	b.good++
	if !r.removal() {
		b.last = max(b.last, r.sequence())
	}
}

// claimed is the record that begins here by what its length says; nil if that cannot be.
func (b *block) claimed(at int) record {
	rest := record(b.data[at:])
	if len(rest) < recordLeast {
		return nil
	}
	if n := rest.length(); n >= recordLeast && n <= recordMost && n <= len(rest) {
		return rest[:n]
	}
	return nil
}

// whole is the record that begins here if it holds, else nil.
func (b *block) whole(at int) record {
	if r := b.claimed(at); r != nil && r.holds(b.proof) {
		return r
	}
	return nil
}

// restored puts the record right that begins here: of the length that it says, or up to the next, or up to the end.
// It returns nil if none of them can be.
func (b *block) restored(at int) record {
	if r := b.claimed(at); r != nil && r.restore(b.proof, b.left) {
		return r
	}
	if at < b.believed {
		return nil
	}
	if r := record(b.data[at:b.search(at)]); len(r) >= recordLeast && len(r) <= recordMost && r.restore(b.proof, b.left) {
		return r
	}
	return nil
}

// end says how far the damaged piece goes that begins at at; below 0 if it is no damage but torn.
//
// It goes to the next record that holds. Where the lengths in between lead there exactly they are believed, and each
// record is a piece of its own. Behind the last one that holds it is not so clear: what is there may have been damaged,
// or never have been written to its end when the power was cut. To erase a record that was never acked costs a sequence
// number and no reading, the other mistake costs acked ones; so it is torn only where it looks like that: its beginning is
// that of a record which does not fit into the file, or too short for one, or all is zero, as some file systems leave it.
// That can be an acked record only if several bits of its length are wrong. And nothing is torn where it is known that the
// block was written to its end, because the server was stopped in order.
func (b *block) end(at int) int {
	goal, first := b.search(at), b.claimed(at)
	for i, r := at, first; r != nil && i < goal && b.believed <= at; r = b.claimed(i) {
		if i += len(r); i == goal {
			b.believed = goal
		}
	}
	switch {
	case b.believed > at:
		return at + len(first)
	case goal-at < recordLeast: // too short for a record: only at the end
		return -1
	case goal < len(b.data), b.sealed > 0:
		return goal
	case first != nil:
		return at + len(first)
	case b.tornAt(at):
		return -1
	}
	return goal
}

// tornAt reports whether the rest of the block looks like a record that was not written to its end.
func (b *block) tornAt(at int) bool {
	r := record(b.data[at:])
	near := b.last == 0 || r.sequence() <= b.last+sequenceSlack
	if n := r.length(); n > len(r) && n <= recordMost && near && r.likely(b.last) {
		return true
	}
	return !slices.ContainsFunc(r, func(c byte) bool { return c != 0 })
}

// search returns where the first record begins behind at that holds; the end if there is none. When there is no effort left
// it looks only at those that lead to another.
func (b *block) search(at int) int {
	if b.next > at {
		return b.next
	}
	for i := at + recordLeast; i <= len(b.data)-recordLeast; i++ {
		r := b.claimed(i)
		if r == nil || !r.likely(b.last) {
			continue
		}
		if !spend(&b.left.search, len(r)+perTry) && !b.leads(i+len(r)) {
			continue
		}
		if r.holds(b.proof) {
			b.next = i
			return i
		}
	}
	b.next = len(b.data)
	return b.next
}

// leads reports whether a record may begin here, or the block ends.
func (b *block) leads(at int) bool {
	r := b.claimed(at)
	return at == len(b.data) || r != nil && r.likely(b.last)
}

// sequenceSlack bounds by how much the sequence of a damaged record at the end may be ahead and still be believed.
const sequenceSlack = 1 << 16

// sequenceOf returns under which sequence the damaged r, which goes to end, is erased. It must not be one that a record
// behind has, which the server would then pass over; 0 is one that no record has.
func (b *block) sequenceOf(r record, end int) uint64 {
	const none = 0
	before, said := b.behind(), r.sequence()
	guess := b.last + 1
	switch {
	case before == 0 && end == len(b.data) && b.sealed > b.last:
		return b.sealed
	case len(r) == recordLeast:
		return none // it held no message
	case before == 0:
		return b.highest(r)
	case said > b.last && said < before:
		return said
	case b.last == 0: // the first that is known of this stream
		guess = before - 1
	}
	if guess < before {
		return guess
	}
	return none
}

// crowdMost bounds how many records a damaged piece is taken for when nothing tells their number.
const crowdMost = 1 << 10

// highest returns the highest sequence that the damaged r may have held, so that it is not given out again. A sequence
// that is never used costs nothing; one that is used twice passes for what has been dealt with.
func (b *block) highest(r record) uint64 {
	highest := b.last + 1
	believe := func(sequence uint64) {
		if sequence > b.last && sequence < sequenceMost && (b.last == 0 || sequence <= b.last+sequenceSlack) {
			highest = max(highest, sequence)
		}
	}
	believe(r.sequence())
	if r.length() == len(r) {
		return highest // one record
	}
	highest = max(highest, b.last+min(uint64(len(r)/recordLeast), crowdMost))
	for i := recordLeast; i <= len(r)-recordLeast; i++ {
		if inner := r[i:]; inner.length() <= recordMost && inner.likely(b.last) && !inner.removal() {
			believe(inner.sequence())
		}
	}
	return highest
}

// behind returns the first sequence behind the damage of which there is a record that holds; 0 if there is none.
func (b *block) behind() uint64 {
	for at := b.next; at < len(b.data); {
		r := b.whole(at)
		if r == nil {
			return 0
		}
		if !r.removal() && r.sequence() > b.last {
			return r.sequence()
		}
		at += len(r)
	}
	return 0
}
