package mend

import (
	"encoding/binary"
	"math/bits"

	"github.com/minio/highwayhash"
)

// effort is how many bytes may still be hashed at this start, some seconds of each. To try the bits of a record of 64 KiB is
// 17 GB. A search needs next to none, unless a message holds what looks like thousands of records.
type effort struct{ bits, search int64 }

func effortOfStart() *effort { return &effort{bits: 40e9, search: 40e9} }

// perTry is what a checksum costs beside its bytes, in bytes.
const perTry = 300

// spend takes the cost of some checksums from what is left; false if that is too little.
func spend(left *int64, bytes int) bool {
	if int64(bytes) > *left {
		return false
	}
	*left -= int64(bytes)
	return true
}

// restore puts the record right whose bytes these are, if a length in it is wrong or one bit of the rest. It is proved by
// the checksum: 8 n tries against 64 bits. A record that it cannot put right is erased.
func (r record) restore(p proof, left *effort) bool {
	length := [4]byte(r[:4])
	for _, headers := range []bool{r.headers(), !r.headers()} {
		r.setLength(headers)
		if r.holds(p) {
			return true
		}
	}
	copy(r, length[:])
	if r.length() != len(r) {
		return false
	}
	return r.restoreWithin(p) || r.restoreBit(p.hash, left) && (r.holds(p) || r.restoreWithin(p))
}

// restoreWithin puts the length of the headers right, or that of the subject.
func (r record) restoreWithin(p proof) bool {
	return r.restoreHeadersLength(p) || r.restoreSubjectLength(p)
}

func (r record) restoreHeadersLength(p proof) bool {
	at, length, known := r.headersEnd()
	if !known {
		return false
	}
	was := [headersLengthSize]byte(r[at:])
	binary.LittleEndian.PutUint32(r[at:], uint32(length))
	if r.holds(p) {
		return true
	}
	copy(r[at:], was[:])
	return false
}

// restoreSubjectLength takes the length that shows. Where none does, it needs that only one bit of it gives a record that
// holds: without headers the checksum is right of any that fits.
func (r record) restoreSubjectLength(p proof) bool {
	was := r.subjectLength()
	right, found := p.subjects.end(r)
	switch {
	case r.erased() || r.removal():
		right, found = 0, true
	case r.headers() || !found:
		right, found = r.onlySubjectLength(p)
	}
	if found {
		r.setSubjectLength(right)
		if r.holds(p) {
			return true
		}
	}
	r.setSubjectLength(was)
	return false
}

// onlySubjectLength returns the one length, a bit away from what the record says, that gives a record that holds; false if
// there is none, or more than one. It leaves another length in the record.
func (r record) onlySubjectLength(p proof) (length int, only bool) {
	was, found := r.subjectLength(), 0
	for bit := range 16 {
		r.setSubjectLength(was ^ 1<<bit)
		if r.holds(p) {
			length = was ^ 1<<bit
			found++
		}
	}
	return length, found == 1
}

// restoreBit tries each bit that the checksum is over, and those of the checksum.
func (r record) restoreBit(h *highwayhash.Digest64, left *effort) bool {
	parts, ok := r.parts()
	if !ok {
		return false
	}
	want := binary.LittleEndian.Uint64(r.checksum())
	if got := binary.LittleEndian.Uint64(sum(h, parts[:]...)); bits.OnesCount64(got^want) == 1 {
		binary.LittleEndian.PutUint64(r.checksum(), got)
		return true
	}
	if !spend(&left.bits, 8*len(r)*(len(r)/2+perTry)) {
		return false
	}
	h.Reset()
	for i, part := range parts {
		if tryBits(*h, part, parts[i+1:], want) {
			return true
		}
		_, _ = h.Write(part) // never fails
	}
	return false
}

// tryBits flips each bit of part, of which before is the hash of all before it, and leaves the one flipped that gives
// want.
func tryBits(before highwayhash.Digest64, part []byte, behind [][]byte, want uint64) bool {
	const step = 512 // bytes whose hash is done again for each bit, to spare that of all before them
	for len(part) > 0 {
		here := min(step, len(part))
		for bit := range 8 * here {
			part[bit/8] ^= 1 << (bit % 8)
			h := before
			_, _ = h.Write(part) // never fails
			for _, p := range behind {
				_, _ = h.Write(p)
			}
			if h.Sum64() == want {
				return true
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
		_, _ = before.Write(part[:here])
		part = part[here:]
	}
	return false
}
