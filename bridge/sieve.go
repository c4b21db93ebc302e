package bridge

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"telemetryhub/wire"
)

// sieve keeps the engine from reading packets that are larger than the device may send. It follows the stream packet by
// packet (MQTT 5 section 2.1). A message that is too large is read past and handed on without its payload, which says in
// its place how long it was: so the device has its acknowledgement and the reason, and need not send it again after each
// reconnection, for ever. Anything else that is too large ends the connection.
type sieve struct {
	passing  int // bytes of the packet that are still to be handed on
	dropping int // bytes of a payload that are still to be read past
	spill    *spill
}

// spill is what a sieve needs now and then.
type spill struct {
	begun []byte // a packet whose header is not yet whole
	ready []byte // to be handed on before anything is read
}

// errPacketTooLarge ends a connection.
var errPacketTooLarge = errors.New("packet too large")

const (
	typePublish   = 0x30
	largestHeader = packetOverhead // bytes of a message's topic, packet id and properties
)

// read reads from a connection what the engine is to see. most is the bytes of the largest packet behind its header; v5
// is its version; mark is how a payload begins that was too large, nil where none is to be cut.
func (s *sieve) read(from io.Reader, p []byte, most int, v5 bool, mark []byte) (int, error) {
	for {
		if s.spill != nil && len(s.spill.ready) > 0 {
			n := copy(p, s.spill.ready)
			s.spill.ready = s.spill.ready[n:]
			s.tidy()
			return n, nil
		}
		n, err := from.Read(p)
		if n > 0 {
			kept, fault := s.pass(p[:n], most, v5, mark)
			if fault != nil {
				return 0, fault
			}
			n = copy(p, kept)
			s.keep(func(k *spill) *[]byte { return &k.ready }, kept[n:])
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// keep puts a copy of b aside.
func (s *sieve) keep(where func(*spill) *[]byte, b []byte) {
	if len(b) == 0 {
		return
	}
	if s.spill == nil {
		s.spill = &spill{}
	}
	*where(s.spill) = append([]byte(nil), b...)
}

// tidy gives back what is not needed any more: an idle connection holds nothing.
func (s *sieve) tidy() {
	if s.spill != nil && len(s.spill.begun)+len(s.spill.ready) == 0 {
		s.spill = nil
	}
}

// pass returns what of in is to be handed on. It is written over in where it fits.
func (s *sieve) pass(in []byte, most int, v5 bool, mark []byte) ([]byte, error) {
	if s.spill != nil && len(s.spill.begun) > 0 {
		in = append(s.spill.begun, in...)
		s.spill.begun = nil
		s.tidy()
	}
	out := in[:0]
	for len(in) > 0 {
		switch {
		case s.passing > 0:
			n := min(s.passing, len(in))
			out = append(out, in[:n]...)
			s.passing, in = s.passing-n, in[n:]
			continue
		case s.dropping > 0:
			n := min(s.dropping, len(in))
			s.dropping, in = s.dropping-n, in[n:]
			continue
		}
		head, size, whole := fixedHeader(in)
		if !whole {
			break
		}
		if size <= most {
			s.passing = head + size
			continue
		}
		if mark == nil || in[0]&0xf0 != typePublish || size > wire.HardMaxFrame+largestHeader {
			return nil, errPacketTooLarge
		}
		variable, whole := messageHeader(in[head:], in[0], v5)
		if variable > min(largestHeader, size) {
			return nil, errPacketTooLarge
		}
		if !whole {
			break
		}
		cut := appendCut(nil, in[:head+variable], head, size-variable, mark)
		out, in = append(slices.Clip(out), cut...), in[head+variable:] // in a place of its own: it may be longer than what was read
		s.dropping = size - variable
	}
	s.keep(func(k *spill) *[]byte { return &k.begun }, in)
	return out, nil
}

// fixedHeader returns the bytes of a packet's fixed header and of what follows it. One that is malformed is handed on:
// the engine says so.
func fixedHeader(in []byte) (head, size int, whole bool) {
	for i := 1; i < len(in) && i <= 4; i++ {
		size |= int(in[i]&0x7f) << (7 * (i - 1))
		if in[i] < 0x80 {
			return i + 1, size, true
		}
		if i == 4 {
			return len(in), 0, true
		}
	}
	return 0, 0, false
}

// messageHeader returns the bytes of a PUBLISH's topic, packet id and properties (MQTT 5 section 3.3.2); whole is false
// where in ends before they do, or before they say how long they are.
func messageHeader(in []byte, first byte, v5 bool) (size int, whole bool) {
	if len(in) < 2 {
		return 0, false
	}
	size = 2 + int(binary.BigEndian.Uint16(in))
	if first&0x06 != 0 { // QoS 1 or 2
		size += 2
	}
	if !v5 {
		return size, len(in) >= size
	}
	if len(in) <= size {
		return size, false
	}
	properties, n := binary.Uvarint(in[size:min(size+4, len(in))])
	if n <= 0 {
		return size, false
	}
	size += n + int(properties)
	return size, len(in) >= size
}

// appendCut appends the packet whose headers are given, with a payload that says how long the one was that it had.
func appendCut(dst, headers []byte, head, payload int, mark []byte) []byte {
	variable := headers[head:]
	dst = append(dst, headers[0])
	dst = binary.AppendUvarint(dst, uint64(len(variable)+len(mark)+8)) // MQTT's variable byte integer is the same
	dst = append(dst, variable...)
	dst = append(dst, mark...)
	return binary.BigEndian.AppendUint64(dst, uint64(payload))
}

// sizeBefore returns the size that a payload had; its own, unless a sieve has cut it.
func sizeBefore(payload, mark []byte) int64 {
	if len(payload) == len(mark)+8 && string(payload[:len(mark)]) == string(mark) {
		return int64(binary.BigEndian.Uint64(payload[len(mark):]))
	}
	return int64(len(payload))
}
