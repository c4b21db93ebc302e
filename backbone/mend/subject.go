package mend

import (
	"bytes"
	"math/bits"
	"slices"
	"strings"
)

// Subjects says what subjects a stream's records have. Where a record has no headers no checksum sees where its subject ends
// and its message begins, and this is what tells. Of the zero value it is not known.
type Subjects struct {
	Prefix string   // of all of them; behind it stands what a key of a bucket may have
	Whole  []string // those of records without headers, none the beginning of another; without any, such messages begin as JSON does
}

// fits reports whether the record's subject length is what was written, as far as that can be told.
//
// A record that was erased, or removes another, has no subject. Behind the subject of one with headers these begin. Without
// headers the subject's end shows by itself (Subjects.end). A length that is one bit away from that is wrong; any other is
// wrong only if the stream can have no such subject: else the message may be of another kind.
func (s *Subjects) fits(r record) bool {
	length := r.subjectLength()
	if r.erased() || r.removal() {
		return length == 0
	}
	if r.headers() {
		begin, end, framed := r.headersEnd()
		return framed && r.headersLength(begin) == end || !framed && s.Prefix == ""
	}
	if s.Prefix == "" {
		return true
	}
	end, shows := s.end(r)
	if shows && bits.OnesCount(uint(end^length)) <= 1 {
		return end == length
	}
	return s.allow(r.body()[:length])
}

// end returns how long the subject of a record without headers is by what is in it; false if that does not show.
func (s *Subjects) end(r record) (length int, shows bool) {
	body := r.body()
	if s.Prefix == "" || !bytes.HasPrefix(body, []byte(s.Prefix)) {
		return 0, false
	}
	if len(s.Whole) > 0 {
		i := slices.IndexFunc(s.Whole, func(whole string) bool { return bytes.HasPrefix(body, []byte(whole)) })
		if i < 0 {
			return 0, false
		}
		return len(s.Whole[i]), true
	}
	length = len(s.Prefix)
	for length < len(body) && isOfKey(body[length]) {
		length++
	}
	return length, length > len(s.Prefix) && length < len(body) && strings.IndexByte(`{["`, body[length]) >= 0
}

// allow reports whether the stream can have such a subject.
func (s *Subjects) allow(subject []byte) bool {
	key, found := bytes.CutPrefix(subject, []byte(s.Prefix))
	return found && len(key) > 0 && !slices.ContainsFunc(key, func(c byte) bool { return !isOfKey(c) })
}

// isOfKey reports whether a key of a bucket may have this byte (NATS ADR-8).
func isOfKey(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-/=", c) >= 0
}
