package devices

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// stream is a WebSocket that bears MQTT, as the connection that a broker expects: bytes in binary messages, whose bounds
// mean nothing (MQTT 5 section 6). What it writes at once is one message.
type stream struct {
	ws *websocket.Conn

	message io.Reader // owned by the reader: of the message that is being read, nil between two

	writing  sync.Mutex   // gorilla allows one writer
	deadline atomic.Int64 // of writing, Unix ns; 0: none

	mu     sync.Mutex
	closed bool
	code   int // with which the hub closes; 0: nobody has said
	reason string
}

var errText = errors.New("a text message: MQTT goes in binary ones")

func newStream(ws *websocket.Conn) *stream {
	s := &stream{ws: ws}
	ws.SetReadLimit(wire.HardMaxFrame)
	ws.SetCloseHandler(func(int, string) error { return nil }) // finish answers it, once
	return s
}

// Read implements net.Conn. Its errors say in words what the device did wrong.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			kind, r, err := s.ws.NextReader()
			if err != nil {
				return 0, s.failed(err)
			}
			if kind != websocket.BinaryMessage {
				s.SayWhy(wire.CloseUnsupported, errText.Error()) // [MQTT-6.0.0-1]
				return 0, errText
			}
			s.message = r
		}
		n, err := s.message.Read(p)
		switch {
		case errors.Is(err, io.EOF):
			s.message = nil
		case err != nil:
			return n, s.failed(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// failed translates an error of gorilla. A WebSocket that was closed or lost is the end of the stream, for only MQTT's
// DISCONNECT is a goodbye; that a deadline has passed stays to be seen.
func (s *stream) failed(err error) error {
	var closed *websocket.CloseError
	var broken net.Error
	switch {
	case errors.As(err, &broken), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case errors.As(err, &closed):
		switch closed.Code {
		case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure:
			s.SayWhy(websocket.CloseNormalClosure, "")
			return io.EOF
		}
		s.SayWhy(closed.Code, "")
	default: // the device broke WebSocket's rules
		s.SayWhy(closeCodeOf(err), "")
	}
	return errors.New(causeOf(err))
}

// Write implements net.Conn.
func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	deadline := time.Time{}
	if ns := s.deadline.Load(); ns != 0 {
		deadline = time.Unix(0, ns)
	}
	if err := s.ws.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	if err := s.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SayWhy notes the close code and reason with which Close will end the WebSocket. The first call counts.
func (s *stream) SayWhy(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code == 0 {
		s.code, s.reason = code, reason
	}
}

// owe tells the listener that the device has still to say who it is.
func (s *stream) owe() {
	if told, ok := layerOf[interface{ Owes() }](s.ws.NetConn()); ok {
		told.Owes()
	}
}

// Proved tells the listener that CONNECT has said so.
func (s *stream) Proved() {
	if told, ok := layerOf[interface{ Proved() }](s.ws.NetConn()); ok {
		told.Proved()
	}
}

// Close implements net.Conn: it says goodbye and lets a reader go, without waiting for the device. The socket is closed
// by finish.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	code, reason := s.code, s.reason
	s.mu.Unlock()
	if code == 0 {
		code = websocket.CloseNormalClosure
	}
	const most = 123 // bytes of a reason (RFC 6455 section 5.5)
	message := websocket.FormatCloseMessage(code, reason[:min(len(reason), most)])
	// If it cannot be written, or was (gorilla tells of broken rules itself), the socket's end says enough.
	_ = s.ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(goodbyeWait))
	return s.ws.SetReadDeadline(time.Now())
}

// goodbyeWait is how long our close frame may wait for the socket: who closes may hold up a newer connection.
const goodbyeWait = 100 * time.Millisecond

// finish waits a little for the device's own close frame and closes the socket. It is called when the stream is closed
// and nobody reads.
func (s *stream) finish() {
	linger(s.ws)
	s.ws.Close()
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.ws.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.ws.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn. Once the stream is closed it does nothing: a reader was let go.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.ws.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn, also for a write that is under way.
func (s *stream) SetWriteDeadline(t time.Time) error {
	ns := int64(0)
	if !t.IsZero() {
		ns = t.UnixNano()
	}
	s.deadline.Store(ns)
	return s.ws.NetConn().SetWriteDeadline(t)
}
