package mend

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Without headers the checksum does not see where the subject ends and the message begins. In a stream whose messages all
// begin with what no subject of the hub's has (a JSON object, array or text), the end of the subject shows all the same;
// a record of which only that is wrong, by one bit, is put right.

// mendSubjects looks at the subjects of a block that has been mended otherwise.
func (b *block) mendSubjects() {
	plain, odd := 0, -1
	for at := 0; at < len(b.data)-b.torn; {
		r := b.whole(at)
		if r == nil {
			return
		}
		if !r.headers() && !r.erased() && !r.removal() {
			end, shows := r.subjectEnd()
			switch {
			case !shows || end != r.subjectLength() && odd >= 0:
				return // messages of this stream are of another kind
			case end != r.subjectLength():
				odd = at
			default:
				plain++
			}
		}
		at += len(r)
	}
	if odd < 0 || plain == 0 {
		return
	}
	r := b.whole(odd)
	end, _ := r.subjectEnd()
	if bits.OnesCount(uint(end^r.subjectLength())) != 1 {
		return
	}
	binary.LittleEndian.PutUint16(r[subjectLengthAt:], uint16(end))
	b.changes = append(b.changes, change{at: odd, length: len(r), sequence: r.sequence(), restored: true})
}

// subjectEnd returns how long the subject is by what is in it; false if the message does not show where it begins.
func (r record) subjectEnd() (length int, shows bool) {
	body := r[subjectAt : len(r)-checksumSize]
	for length < len(body) && isOfSubject(body[length]) {
		length++
	}
	return length, length > 0 && length < len(body) && bytes.IndexByte([]byte(`{["`), body[length]) >= 0
}

// isOfSubject reports whether the hub's subjects have this byte: those of buckets have the keys' in them.
func isOfSubject(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || bytes.IndexByte([]byte("$._-/="), c) >= 0
}
