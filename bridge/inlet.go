package bridge

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// inlet is the connection to an external broker as paho sees it: whole packets, none that paho would stumble over (it
// allocates what a length says, and trusts SUBACK to be as long as SUBSCRIBE), and messages that are too large without
// their payloads. It tells of a broken connection at once, while paho tells only when its handlers have returned; and it
// knows when the broker was heard last, and whether the hub listens at all: while the window is full nobody reads, and
// the broker's silence says nothing. Writes have a deadline, which paho's acknowledgements and pings have not.
type inlet struct {
	net.Conn
	line *line
	in   *bufio.Reader

	// Of the goroutine that reads.
	packet  []byte // what paho has not read yet, of buffer
	buffer  []byte
	greeted bool // CONNACK has come

	opened  time.Time
	heard   atomic.Int64 // when bytes came last; like the others ns since opened
	listens atomic.Int64 // since when a read waits for the broker; 0: none does
	wrote   atomic.Int64
	asked   atomic.Int64 // filters in the SUBSCRIBE that is under way

	writing sync.Mutex
}

func newInlet(nc net.Conn, l *line) *inlet {
	i := &inlet{Conn: nc, line: l, opened: time.Now()}
	i.in = bufio.NewReader(&pulse{nc, i})
	return i
}

// pulse notes when bytes come.
type pulse struct {
	net.Conn
	inlet *inlet
}

func (p *pulse) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n > 0 {
		p.inlet.heard.Store(p.inlet.clock())
	}
	return n, err
}

// clock is the time since opened, never 0.
func (i *inlet) clock() int64 { return int64(time.Since(i.opened)) + 1 }

// silence returns for how long the hub has listened to the broker in vain.
func (i *inlet) silence() time.Duration {
	since := i.listens.Load()
	if since == 0 {
		return 0
	}
	return time.Duration(i.clock() - max(since, i.heard.Load()))
}

// unsent returns for how long nothing was written.
func (i *inlet) unsent() time.Duration { return time.Duration(i.clock() - i.wrote.Load()) }

// Read hands on the next bytes of a packet.
func (i *inlet) Read(p []byte) (int, error) {
	if len(i.packet) == 0 {
		i.listens.Store(i.clock())
		err := i.next()
		i.listens.Store(0)
		if err != nil {
			i.line.fail(i.ending(err))
			if errors.Is(err, net.ErrClosed) {
				// paho takes the closing of the socket for its own doing, and would keep its goroutines for ever.
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	n := copy(p, i.packet)
	i.packet = i.packet[n:]
	return n, nil
}

// ending says what the end of the connection means.
func (i *inlet) ending(err error) error {
	var fault *protocolFault
	var timeout net.Error
	switch {
	case errors.As(err, &fault):
		return &ending{endProtocol, fmt.Errorf("the broker breaks the protocol: %w", fault)}
	case !i.greeted && errors.As(err, &timeout) && timeout.Timeout():
		return &ending{endSilent, fmt.Errorf("the broker has accepted the connection and not answered CONNECT within %s", i.line.external.cfg.Timing.Connect)}
	case !i.greeted:
		return &ending{endConnect, fmt.Errorf("the broker has ended the connection without an answer to CONNECT: %w", err)}
	}
	return &ending{endLost, fmt.Errorf("connection lost: %w", err)}
}

// protocolFault is what no broker may send.
type protocolFault struct{ message string }

func (f *protocolFault) Error() string { return f.message }

func breach(format string, args ...any) error { return &protocolFault{fmt.Sprintf(format, args...)} }

const (
	largestAnswer = 64 << 10 // bytes of any packet but PUBLISH; a SUBACK has one for each filter
	keptBuffer    = 64 << 10 // bytes that a connection keeps for the next packet
)

// next reads a packet and looks at it.
func (i *inlet) next() error {
	first, err := i.in.ReadByte()
	if err != nil {
		return err
	}
	size, err := i.length()
	if err != nil {
		return err
	}
	kind := first >> 4
	if !i.greeted && kind != packetConnack {
		return breach("its first packet is no CONNACK; perhaps the port does not speak MQTT")
	}
	if kind == packetPublish {
		return i.publish(first, size)
	}
	if size > largestAnswer {
		return breach("a packet of type %d has %d bytes", kind, size)
	}
	body, err := i.read(first, size, size)
	if err != nil {
		return err
	}
	return i.answer(kind, body)
}

// length reads a packet's remaining length (section 2.2.3).
func (i *inlet) length() (int, error) {
	size := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := i.in.ReadByte()
		if err != nil {
			return 0, cutOff(err)
		}
		size |= int(b&0x7f) << shift
		if b < 0x80 {
			return size, nil
		}
	}
	return 0, breach("the length of a packet has more than 4 bytes")
}

// read fills packet with a fixed header that says size and the next bytes of the body, which it returns.
func (i *inlet) read(first byte, size, bytes int) ([]byte, error) {
	if cap(i.buffer) > keptBuffer {
		i.buffer = nil
	}
	i.buffer = binary.AppendUvarint(append(i.buffer[:0], first), uint64(size)) // MQTT's variable byte integer is the same
	return i.more(bytes)
}

// more reads further bytes of the body into packet and returns them.
func (i *inlet) more(bytes int) ([]byte, error) {
	from := len(i.buffer)
	if need := from + bytes; need > cap(i.buffer) {
		i.buffer = append(make([]byte, 0, need), i.buffer...)
	}
	i.buffer = i.buffer[:from+bytes]
	i.packet = i.buffer
	_, err := io.ReadFull(i.in, i.buffer[from:])
	return i.buffer[from:], cutOff(err)
}

// cutOff is the error of a packet that has no end.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// publish reads a message. What is too large for the bridge is read past and handed on with a payload that says how
// long it was; so it can be acknowledged, and the broker need not send it again after each reconnection, for ever.
func (i *inlet) publish(first byte, size int) error {
	head := 2
	qos := first >> 1 & 3
	if qos > 0 {
		head += 2
	}
	if qos == 3 || size < head {
		return breach("a PUBLISH of QoS %d and %d bytes", qos, size)
	}
	start, err := i.in.Peek(2)
	if err != nil {
		return cutOff(err)
	}
	head += int(binary.BigEndian.Uint16(start))
	if size < head {
		return breach("the topic of a PUBLISH is longer than the packet")
	}
	payload, most, mark := size-head, i.line.external.cfg.Window.MaxPayload, i.line.external.mark
	keep := size
	if payload > most {
		size, keep = head+len(mark)+8, head
	}
	body, err := i.read(first, size, keep)
	if err != nil {
		return err
	}
	if qos > 0 && binary.BigEndian.Uint16(body[head-2:]) == 0 {
		return breach("a PUBLISH of QoS %d has no packet id", qos)
	}
	if keep == size {
		return nil
	}
	i.buffer = binary.BigEndian.AppendUint64(append(i.buffer, mark...), uint64(payload))
	i.packet = i.buffer
	_, err = io.CopyN(io.Discard, i.in, int64(payload))
	return cutOff(err)
}

// answer looks at a packet that is no message.
func (i *inlet) answer(kind byte, body []byte) error {
	switch kind {
	case packetConnack:
		if len(body) != 2 || i.greeted {
			return breach("a CONNACK of %d bytes, the first: %v", len(body), !i.greeted)
		}
		i.greeted = true
		switch code := body[1]; {
		case code == 0:
			i.line.resumes(body[0]&1 != 0)
		case code > 5: // paho would take it for none
			return breach("CONNACK has the unknown code %#x", code)
		default:
			i.line.refused.Store(true)
		}
	case packetSuback:
		if asked := int(i.asked.Load()); len(body) != 2+asked {
			return breach("SUBACK has %d bytes for %d filters", len(body), asked)
		}
	case packetPuback, packetPubrec, packetPubrel, packetPubcomp, packetUnsuback:
		if len(body) != 2 {
			return breach("a packet of type %d has %d bytes", kind, len(body))
		}
		if kind == packetPubrel {
			i.line.external.receipts.released(binary.BigEndian.Uint16(body))
		}
	case packetPingresp:
	default:
		return breach("a broker sends no packet of type %d", kind)
	}
	return nil
}

// Write implements net.Conn. paho's goroutine for pings writes beside the one for all else, and so does ping.
func (i *inlet) Write(p []byte) (int, error) {
	i.writing.Lock()
	defer i.writing.Unlock()
	if err := i.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := i.Conn.Write(p)
	if err != nil {
		i.line.fail(&ending{endLost, fmt.Errorf("connection lost: %w", err)})
		return n, err
	}
	i.wrote.Store(i.clock())
	// TLS writes on its own account too (key updates), long after: a deadline left over would end the connection.
	return n, i.SetWriteDeadline(time.Time{})
}

// ping shows the broker that the hub lives. paho sends no second ping before the first is answered, and while the window
// is full nobody reads the answer.
func (i *inlet) ping() {
	_, _ = i.Write([]byte{0xc0, 0}) // PINGREQ; an error has ended the connection
}
