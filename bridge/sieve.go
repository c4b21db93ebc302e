package bridge

import (
	"encoding/binary"
	"io"
	"slices"

	"telemetryhub/wire"
)

// sieve keeps from the engine what is not as the protocol has it, and packets that are larger than the device may send.
// It follows the stream packet by packet (MQTT 5 section 2.1). A message that is too large is read past and handed on without its payload, which says in
// its place how long it was: so the device has its acknowledgement and the reason, and need not send it again after each
// reconnection, for ever. Anything else that is too large ends the connection.
type sieve struct {
	passing  int  // bytes of the packet that are still to be handed on
	dropping int  // bytes of a payload that are still to be read past
	version  byte // of the protocol, by the CONNECT that has passed; 0: none has
	spill    *spill
}

// spill is what a sieve needs now and then.
type spill struct {
	begun []byte // a packet of which not all has come that is looked at
	ready []byte // to be handed on before anything is read
	fault *fault // what comes after that
}

// errPacketTooLarge ends a connection.
var errPacketTooLarge = &fault{code: codePacketTooLarge, text: "packet too large"}

const (
	largestHeader  = packetOverhead // bytes of the topic, packet id and properties of a message that is cut
	largestControl = 256 << 10      // bytes of a packet that carries no message, and of those of any other
)

// read reads from a connection what the engine is to see. most is the bytes of the largest packet behind its header;
// mark is how a payload begins that was too large, nil where none is to be cut. What is at fault ends it by a *fault.
func (s *sieve) read(from io.Reader, p []byte, most int, mark []byte) (int, error) {
	for {
		if s.spill != nil && len(s.spill.ready) > 0 {
			n := copy(p, s.spill.ready)
			s.spill.ready = s.spill.ready[n:]
			s.tidy()
			return n, nil
		}
		if s.spill != nil && s.spill.fault != nil {
			return 0, s.spill.fault
		}
		n, err := from.Read(p)
		if n > 0 {
			kept, fault := s.pass(p[:n], most, mark)
			n = copy(p, kept)
			s.keep(func(k *spill) *[]byte { return &k.ready }, kept[n:])
			if fault != nil {
				if s.spill == nil {
					s.spill = &spill{}
				}
				s.spill.fault = fault
				err = nil // the next call says so
			}
			if fault != nil && n == 0 {
				continue
			}
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
	if s.spill != nil && len(s.spill.begun)+len(s.spill.ready) == 0 && s.spill.fault == nil {
		s.spill = nil
	}
}

// pass returns what of in is to be handed on, and what is wrong behind that. It is written over in where it fits.
func (s *sieve) pass(in []byte, most int, mark []byte) ([]byte, *fault) {
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
		looked, whole, wrong := s.look(in, head, size, most, mark)
		if wrong != nil {
			return out, wrong
		}
		if !whole {
			break
		}
		if size <= most {
			s.passing = head + size
			continue
		}
		cut := appendCut(nil, in[:looked], head, head+size-looked, mark)
		out, in = append(slices.Clip(out), cut...), in[looked:] // in a place of its own: it may be longer than what was read
		s.dropping = head + size - looked
	}
	s.keep(func(k *spill) *[]byte { return &k.begun }, in)
	return out, nil
}

// look looks at the packet at the beginning of in, a message without its payload, and returns how many bytes that is;
// whole is false where they have not all come.
func (s *sieve) look(in []byte, head, size, most int, mark []byte) (looked int, whole bool, wrong *fault) {
	if wrong := s.inspectHeader(in[0], head, size); wrong != nil {
		return 0, false, wrong
	}
	rest := in[head:min(len(in), head+size)]
	message := in[0]>>4 == packetPublish
	large := size > most
	if large && (mark == nil || !message || size > wire.HardMaxFrame+largestHeader) || !message && size > largestControl {
		return 0, false, errPacketTooLarge
	}
	part := size
	if message {
		if part, whole = messageHeader(rest, in[0], s.version == 5); part > size {
			return 0, false, &fault{code: codeMalformed, text: "PUBLISH is shorter than what it is said to hold"}
		}
		if part > largestControl || large && part > largestHeader {
			return 0, false, errPacketTooLarge
		}
		if !whole && len(rest) == size {
			return 0, false, &fault{code: codeMalformed, text: "PUBLISH is shorter than what it is said to hold"}
		}
	} else {
		whole = len(rest) == size
	}
	if !whole {
		return 0, false, nil
	}
	return head + part, true, s.inspect(in[0], rest[:part])
}

// fixedHeader returns the bytes of a packet's fixed header and of what follows it; head is 0 where that length is
// malformed.
func fixedHeader(in []byte) (head, size int, whole bool) {
	for i := 1; i < len(in) && i <= 4; i++ {
		size |= int(in[i]&0x7f) << (7 * (i - 1))
		if in[i] < 0x80 {
			return i + 1, size, true
		}
		if i == 4 {
			return 0, 0, true
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
