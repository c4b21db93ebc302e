package devices

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// conn is one device's WebSocket connection.
type conn struct {
	// Fixed once it runs.
	hub     *Connector
	device  string
	dialect wire.Dialect // as negotiated
	ws      *websocket.Conn
	session *Session

	// Owned by the reader.
	kept     KeptProfile
	numbers  numbering // of readings that name none
	before   numbering // the one before: a device may send its old queue between new readings
	acksFor  bool      // the device wants hub.ack{count} for frames without seq
	bad      int       // unusable frames within the minute since badSince
	badSince time.Time
	greeted  bool          // a frame came: commands may be sent
	reports  chan struct{} // holds an element for each report of its state that is under way; nil: there was none

	// Owned by the sweeper.
	pingedAt  int64   // the session's last sign of life when it was pinged, Unix ms
	pingAfter float64 // share of the keepalive after which silence is met with a ping

	keepalive atomic.Int64 // ns, as agreed
	speaks    atomic.Bool  // it has said hello, or answered something
	pinged    atomic.Int32 // after how many seconds of silence it was pinged last; 0: never
	paused    atomic.Bool  // the reader waits for us, not for the device

	unconfirmed atomic.Pointer[unconfirmed] // nil but for a device that has just enrolled

	out  outbox
	acks acks
}

// scratch is what a reader needs while it handles a frame, and only then: an idle connection holds none.
type scratch struct {
	frame     []byte
	dialect   wire.Dialect // of the frame
	decoder   wire.Decoder
	telemetry wire.Telemetry
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// keptFrame bounds the frame buffer that a scratch keeps, in bytes.
const keptFrame = 128 << 10

func newConn(hub *Connector, device string, dialect wire.Dialect, ws *websocket.Conn) *conn {
	n := &conn{hub: hub, device: device, dialect: dialect, ws: ws, pingAfter: pingJitter()}
	n.keepalive.Store(int64(n.profile().Keepalive.Interval))
	n.out.init(n)
	n.acks.conn = n
	ws.SetReadLimit(wire.HardMaxFrame)
	ws.SetPongHandler(func(string) error {
		n.session.Touch()
		return nil
	})
	ws.SetPingHandler(func(data string) error {
		n.session.Touch()
		n.out.pong([]byte(data))
		return nil
	})
	ws.SetCloseHandler(func(int, string) error { return nil }) // run answers it, once
	return n
}

// profile is what holds for the device at present.
func (n *conn) profile() *Profile { return n.kept.Of(n.hub.profiles, n.device) }

// run reads until the connection ends, and returns when all of it has ended.
func (n *conn) run() {
	err := n.read()
	if n.out.lost(err) {
		n.session.Lost(n.noticed())
	}
	cause := n.out.end(err)
	n.session.Detach(cause)
	n.hub.remove(n)
}

func (n *conn) read() error {
	for {
		kind, r, err := n.ws.NextReader()
		if err != nil {
			return err
		}
		size, err := n.readFrame(kind, r)
		if err != nil {
			return err
		}
		n.slowDown(size)
	}
}

// readFrame reads one frame to its end, handles it and returns its size.
func (n *conn) readFrame(kind int, r io.Reader) (size int64, err error) {
	s := scratches.Get().(*scratch)
	defer func() {
		if cap(s.frame) <= keptFrame {
			scratches.Put(s)
		}
	}()
	most := n.profile().Limits.MaxFrame
	if size, err = n.fill(s, r, most); err != nil {
		return 0, err
	}
	n.session.Heard()
	if n.out.over() {
		return size, nil // after our close frame nothing counts (RFC 6455 section 5.5.1): it would not be acked
	}
	if !n.greeted {
		n.greeted = true
		defer n.out.ready()
	}
	switch {
	case size > most:
		n.hub.throttle.Passed(LimitMaxFrame, n.profile(), 1)
		n.refuse(nil, &wire.Error{
			Code: wire.CodeTooLarge, Reason: wire.ReasonTooLarge, Limit: most, Value: size,
			Message: fmt.Sprintf("a frame of %d bytes is larger than max_frame, %d; it was read past", size, most),
		})
	default:
		// Whatever was negotiated: that says what the hub writes, and whether lists are SenML packs.
		s.dialect = wire.Dialect{CBOR: kind == websocket.BinaryMessage, SenML: n.dialect.SenML}
		n.handle(s)
	}
	n.waitOutbox()
	n.flood()
	return size, nil
}

// fill reads the frame into s and returns its size; of one that is larger than most it keeps nothing.
func (n *conn) fill(s *scratch, r io.Reader, most int64) (size int64, err error) {
	s.frame = s.frame[:0]
	for {
		if len(s.frame) == cap(s.frame) {
			s.frame = append(s.frame, 0)[:len(s.frame)]
		}
		m, err := r.Read(s.frame[len(s.frame):cap(s.frame)])
		size += int64(m)
		if errors.Is(err, io.EOF) {
			s.frame = s.frame[:len(s.frame)+m]
			return size, nil
		}
		if err != nil {
			return 0, err
		}
		if size <= most {
			s.frame = s.frame[:len(s.frame)+m]
		} else {
			s.frame = s.frame[:0]
		}
		n.session.Touch() // on a slow line a frame takes minutes
	}
}

// waitOutbox holds the reader while the device does not read what it is sent.
func (n *conn) waitOutbox() {
	if !n.out.full() {
		return
	}
	n.paused.Store(true)
	n.out.wait()
	n.session.Hold()
	n.paused.Store(false)
}

// A frame that cannot be used costs that frame; a flood of them the connection.
const (
	floodFrames = 200
	floodWindow = time.Minute
)

func (n *conn) flood() {
	if n.bad >= floodFrames {
		n.Close(wire.ClosePolicy, fmt.Sprintf("%s: %d unusable frames within %s", wire.ReasonTelemetryFlood, n.bad, floodWindow))
	}
}

// refuse answers a frame that cannot be used and counts it.
func (n *conn) refuse(id []byte, e *wire.Error) {
	n.hub.sink.Refuse(n.device, e.Reason)
	n.hub.sessions.Note(n.device, eventOfError(e))
	now := time.Now()
	if now.Sub(n.badSince) > floodWindow {
		n.bad, n.badSince = 0, now
	}
	n.bad++
	n.out.frame(func(dst []byte) []byte {
		if id == nil && e.Reason == wire.ReasonTooLarge {
			return wire.AppendNotice(dst, wire.Notice{Code: e.Reason, Message: e.Message, Limit: uint64(e.Limit), Value: uint64(e.Value)})
		}
		return wire.AppendError(dst, id, e)
	})
	if e.Reason == wire.ReasonBadUTF8 {
		n.Close(wire.CloseBadUTF8, "text is not UTF-8")
	}
}

// Send implements Link.
func (n *conn) Send(cmd wire.Command) error { return n.out.command(cmd) }

// Cancel implements Link.
func (n *conn) Cancel(id string) error { return n.out.cancel(id) }

// Close implements Link. The close frame goes out after what is already in the outbox.
func (n *conn) Close(code int, reason string) { n.out.close(code, reason) }

// sayRestart ends the connection because the hub stops, and says when to come back: each device has a slot of its own,
// so that they do not all come at once.
func (n *conn) sayRestart() {
	later := n.hub.admits.Leave()
	n.notice(later.notice())
	n.Close(wire.CloseRestart, later.CloseReason())
}

// isTimeout also takes gorilla's errors, which hide os.ErrDeadlineExceeded.
func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// causeOf says in words why reading ended.
func causeOf(err error) string {
	var closed *websocket.CloseError
	switch {
	case err == nil:
		return "closed"
	case errors.As(err, &closed):
		if closed.Code == websocket.CloseAbnormalClosure {
			return "connection lost"
		}
		return fmt.Sprintf("the device closed: %d %s", closed.Code, closed.Text)
	case errors.Is(err, websocket.ErrReadLimit):
		return fmt.Sprintf("a frame over %d bytes", wire.HardMaxFrame)
	case isTimeout(err):
		return "timed out"
	case errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection lost"
	}
	return "broke WebSocket's rules: " + strings.TrimPrefix(err.Error(), "websocket: ")
}
