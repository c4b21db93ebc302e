package devices

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"unicode/utf8"

	"telemetryhub/wire"
)

// violation is a rule of RFC 6455 that a device broke and that gorilla does not hold.
type violation struct {
	code   int // with which the hub closes
	reason string
}

func (v *violation) Error() string { return "websocket: " + v.reason }

// closeCodeOf is the code of a violation, as reading ended with. gorilla has told the device of those that it finds by
// itself, but for fragments that together are too long.
func closeCodeOf(err error) int {
	if v, ok := err.(*violation); ok { //nolint:errorlint // gorilla returns a reader's error as it is
		return v.code
	}
	return wire.CloseTooLarge
}

// frames is the connection below a WebSocket. It looks at the heads of frames before gorilla does, for the rules that
// gorilla does not hold: lengths are written in the shortest form and have 63 bits (section 5.2), a close frame's body is
// empty or has a code, and its reason is UTF-8 (sections 5.5.1, 8.1). What comes before the frame that breaks one is passed on.
type frames struct {
	net.Conn
	rest    uint64        // bytes of the payload that are still to come
	closing *closePayload // not nil: it is a close frame's
	broken  error
	head    [14]byte // of the frame that begins
	have    byte     // bytes of it
}

// closePayload is what has come of a close frame's payload.
type closePayload struct {
	text []byte
	mask [4]byte
}

// Read implements net.Conn.
func (f *frames) Read(p []byte) (int, error) {
	if f.broken != nil {
		return 0, f.broken
	}
	n, err := f.Conn.Read(p)
	whole := 0 // bytes before the frame that is looked at
	for i := 0; i < n; {
		if f.have == 0 && f.rest == 0 {
			whole = i
		}
		i += f.take(p[i:n])
		if f.broken != nil {
			if whole > 0 {
				return whole, nil
			}
			return 0, f.broken
		}
	}
	return n, err
}

// take looks at some bytes and returns how many.
func (f *frames) take(p []byte) int {
	if f.rest > 0 {
		n := int(min(f.rest, uint64(len(p))))
		if f.closing != nil {
			f.closing.text = append(f.closing.text, p[:n]...)
		}
		if f.rest -= uint64(n); f.rest == 0 {
			f.endPayload()
		}
		return n
	}
	f.head[f.have] = p[0]
	f.have++
	if int(f.have) == f.headSize() {
		f.endHead()
	}
	return 1
}

const (
	maskedBit  = 0x80
	lengthBits = 0x7f
	length16   = 126 // two bytes of length follow
	length64   = 127 // eight
	opcodeBits = 0x0f
	closeFrame = 0x08
)

func (f *frames) headSize() int {
	size := 2
	if f.have < 2 {
		return size
	}
	switch f.head[1] & lengthBits {
	case length16:
		size += 2
	case length64:
		size += 8
	}
	if f.head[1]&maskedBit != 0 {
		size += 4
	}
	return size
}

func (f *frames) endHead() {
	short := f.head[1] & lengthBits
	f.rest = uint64(short)
	switch short {
	case length16:
		f.rest = uint64(binary.BigEndian.Uint16(f.head[2:]))
		if f.rest < length16 {
			f.broken = &violation{wire.CloseProtocol, "a length that is not in its shortest form"}
		}
	case length64:
		f.rest = binary.BigEndian.Uint64(f.head[2:])
		if f.rest>>63 != 0 {
			f.broken = &violation{wire.CloseProtocol, "a length of 64 bits"}
		} else if f.rest>>16 == 0 {
			f.broken = &violation{wire.CloseProtocol, "a length that is not in its shortest form"}
		}
	}
	if f.head[0]&opcodeBits == closeFrame && short < length16 && f.head[1]&maskedBit != 0 { // else gorilla refuses it
		if short == 1 {
			f.broken = &violation{wire.CloseProtocol, "a close frame with half a code"}
		}
		f.closing = &closePayload{}
		copy(f.closing.mask[:], f.head[f.have-4:f.have])
	}
	f.have = 0
	if f.rest == 0 {
		f.closing = nil
	}
}

func (f *frames) endPayload() {
	if f.closing == nil {
		return
	}
	for i := range f.closing.text {
		f.closing.text[i] ^= f.closing.mask[i%4]
	}
	if len(f.closing.text) > 2 && !utf8.Valid(f.closing.text[2:]) {
		f.broken = &violation{wire.CloseBadUTF8, "the reason of a close frame is not UTF-8"}
	}
	f.closing = nil
}

// NetConn is the connection below, as it is for crypto/tls.
func (f *frames) NetConn() net.Conn { return f.Conn }

// checkedWriter gives gorilla a connection whose frames are looked at.
type checkedWriter struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (w checkedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &frames{Conn: conn}, rw, nil
}

// layerOf finds the layer of a connection that is a T: those above it say what they are on by NetConn.
func layerOf[T any](conn net.Conn) (layer T, ok bool) {
	for {
		if layer, ok = conn.(T); ok {
			return layer, true
		}
		below, more := conn.(interface{ NetConn() net.Conn })
		if !more {
			return layer, false
		}
		conn = below.NetConn()
	}
}
