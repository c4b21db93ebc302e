package mend

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/minio/highwayhash"
)

// A block is one record after the other, integers little-endian (nats-server 2.15, server/filestore.go,
// writeMsgRecordLocked):
//
//	length(4) sequence(8) time(8) subject-length(2) subject [headers-length(4) headers] message checksum(8)
//
// length counts all of it; its highest bit says that there are headers. The highest bit of sequence says that the record
// was erased, the next one that it removes that sequence from an earlier block (a tombstone). The checksum is a
// HighwayHash-64 over sequence, time, subject, headers and message: no length is in it.
const (
	lengthAt, sequenceAt, timeAt, subjectLengthAt, subjectAt = 0, 4, 12, 20, 22

	headersLengthSize = 4
	checksumSize      = 8
	recordLeast       = subjectAt + checksumSize
	recordMost        = 32 << 20 // a larger one is none for the server (rlBadThresh)

	hasHeaders = 1 << 31
	isErased   = 1 << 63
	isRemoval  = 1 << 62

	// Sequences above this are none: a million envelopes a second take nine years to come here.
	sequenceMost = 1 << 48
	subjectMost  = 1 << 10
)

// proof is what the records of one block are held against.
type proof struct {
	hash     *highwayhash.Digest64
	subjects Subjects
}

// newHash returns the hash of the records of a stream's block.
func newHash(stream string, block int) *highwayhash.Digest64 {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, block))
	h, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		panic(err) // a key of 32 bytes is what it takes
	}
	return h
}

// record is the bytes of one, at least recordLeast of them; what it says of itself may be wrong.
type record []byte

func (r record) length() int {
	return int(binary.LittleEndian.Uint32(r[lengthAt:]) &^ hasHeaders)
}

func (r record) setLength(headers bool) {
	length := uint32(len(r))
	if headers {
		length |= hasHeaders
	}
	binary.LittleEndian.PutUint32(r[lengthAt:], length)
}

func (r record) headers() bool {
	return binary.LittleEndian.Uint32(r[lengthAt:])&hasHeaders != 0
}

// sequence is without its marks.
func (r record) sequence() uint64 {
	return binary.LittleEndian.Uint64(r[sequenceAt:]) &^ (isErased | isRemoval)
}

func (r record) erased() bool {
	return binary.LittleEndian.Uint64(r[sequenceAt:])&isErased != 0
}

func (r record) removal() bool {
	return binary.LittleEndian.Uint64(r[sequenceAt:])&isRemoval != 0
}

func (r record) subjectLength() int {
	return int(binary.LittleEndian.Uint16(r[subjectLengthAt:]))
}

func (r record) setSubjectLength(length int) {
	binary.LittleEndian.PutUint16(r[subjectLengthAt:], uint16(length))
}

// body is the subject and all behind it.
func (r record) body() []byte { return r[subjectAt : len(r)-checksumSize] }

func (r record) checksum() []byte { return r[len(r)-checksumSize:] }

// parts are what the checksum is over, one behind the other; false if the lengths within do not fit.
func (r record) parts() (parts [3][]byte, ok bool) {
	body := r.body()
	subject, rest := r.subjectLength(), 0
	if r.headers() {
		rest = headersLengthSize
	}
	if subject+rest > len(body) {
		return parts, false
	}
	return [3][]byte{r[sequenceAt:subjectLengthAt], body[:subject], body[subject+rest:]}, true
}

// headersEnd returns how long the headers are by what is in them, and where their length stands; false for a record
// without headers, or with some of another kind.
func (r record) headersEnd() (at, length int, ok bool) {
	const version, end = "NATS/1.0", "\r\n\r\n"
	parts, fit := r.parts()
	if !fit || !r.headers() || !bytes.HasPrefix(parts[2], []byte(version)) {
		return 0, 0, false
	}
	i := bytes.Index(parts[2], []byte(end))
	return subjectAt + len(parts[1]), i + len(end), i >= 0
}

// headersLength is what it says of the headers' length, which stands at at.
func (r record) headersLength(at int) int { return int(binary.LittleEndian.Uint32(r[at:])) }

// holds reports whether the record is what was written: its checksum is right, and its lengths fit.
func (r record) holds(p proof) bool {
	if len(r) < recordLeast || r.length() != len(r) {
		return false
	}
	parts, ok := r.parts()
	return ok && bytes.Equal(sum(p.hash, parts[:]...), r.checksum()) && p.subjects.fits(r)
}

// likely reports whether a record may begin here, behind the sequence after: it spares most checksums of a search.
func (r record) likely(after uint64) bool {
	subject := r.subjectLength()
	if subject > subjectMost || subject > r.length()-recordLeast {
		return false
	}
	switch sequence := r.sequence(); {
	case sequence >= sequenceMost:
		return false
	case r.removal():
		return r.length() == recordLeast
	case sequence <= after, (subject == 0) != r.erased():
		return false
	}
	return !slices.ContainsFunc(r[subjectAt:subjectAt+min(subject, len(r)-subjectAt)], func(c byte) bool { return c <= ' ' })
}

// erase makes the record one that the server passes over: with no content, and under the sequence given.
func (r record) erase(h *highwayhash.Digest64, sequence uint64) {
	clear(r)
	r.setLength(false)
	binary.LittleEndian.PutUint64(r[sequenceAt:], sequence|isErased)
	copy(r.checksum(), sum(h, r[sequenceAt:subjectLengthAt], r[subjectAt:len(r)-checksumSize]))
}

func sum(h *highwayhash.Digest64, parts ...[]byte) []byte {
	h.Reset()
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	return h.Sum(nil)
}
