package devices

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// Bounds of an outbox in bytes. Above outboxFull the reader waits, which bounds answers and acks, since each follows a
// frame. A command that would bring it over outboxMost is refused.
const (
	outboxFull = 64 << 10
	outboxMost = 1 << 20
)

// readyAfter is when a device that has said nothing is sent its commands all the same.
const readyAfter = 2 * time.Second

var (
	errSessionOver = errors.New("the device's connection has ended")
	errNotReady    = errors.New("the device is not yet ready for commands")
	errUnread      = errors.New("the device does not read what it is sent")
)

// outbox gathers what is to be written to one device. It has a goroutine only while there is something to write.
type outbox struct {
	conn *conn

	mu       sync.Mutex
	changed  sync.Cond // drained, or the writer ended
	frames   []byte    // frames, one after the other
	ends     []int     // where each frame ends in frames
	open     bool      // commands may be sent
	largest  int       // bytes of the largest frame that the device takes, 0 if it did not say
	told     told
	born     time.Time
	pongData []byte // not nil: a pong is due
	ping     bool
	writing  bool

	closing     bool // nothing more is taken
	closeCode   int
	closeReason string
	broken      error // why writing failed
}

func (o *outbox) init(n *conn) {
	o.conn, o.born = n, time.Now()
	o.changed.L = &o.mu
}

// frame adds one frame by append.
func (o *outbox) frame(add func(dst []byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(add)
}

func (o *outbox) add(add func(dst []byte) []byte) {
	if o.closing {
		return
	}
	from := len(o.frames)
	o.frames = o.encode(add(o.frames), from)
	o.ends = append(o.ends, len(o.frames))
	o.kick()
}

// addEncoded adds a frame that was encoded before, as its size had to be known. It needs mu.
func (o *outbox) addEncoded(frame []byte) {
	o.frames = append(o.frames, frame...)
	o.ends = append(o.ends, len(o.frames))
	o.kick()
}

// encode rewrites the JSON text after from in the negotiated encoding. All that the hub says is made as JSON, and
// becomes CBOR here and nowhere else.
func (o *outbox) encode(frames []byte, from int) []byte {
	if !o.conn.dialect.CBOR {
		return frames
	}
	to := len(frames)
	frames = wire.AppendCBOR(frames, frames[from:to])
	return append(frames[:from], frames[to:]...)
}

// command adds a command. An error of type *wire.Error says that the device never takes it.
func (o *outbox) command(cmd wire.Command) error {
	frame := o.encode(wire.AppendCommand(nil, cmd), 0)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.tooLarge(frame); err != nil {
		return err
	}
	return o.request(frame)
}

// cancel adds hub.cancel.
func (o *outbox) cancel(id string) error {
	frame := o.encode(wire.AppendCancel(nil, id), 0)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.request(frame)
}

// request adds what a device that does not read is not sent. It needs mu.
func (o *outbox) request(frame []byte) error {
	switch {
	case o.closing || o.broken != nil:
		return errSessionOver
	case !o.open:
		return errNotReady
	case len(o.frames)+len(frame) > outboxMost:
		return errUnread
	}
	o.addEncoded(frame)
	return nil
}

// tooLarge compares a command with what the device said that it takes. It needs mu.
func (o *outbox) tooLarge(frame []byte) *wire.Error {
	if o.largest == 0 || len(frame) <= o.largest {
		return nil
	}
	return &wire.Error{
		Code: wire.CodeTooLarge, Reason: wire.ReasonTooLarge, Limit: int64(o.largest), Value: int64(len(frame)),
		Message: fmt.Sprintf("the command is a frame of %d bytes; the device takes at most %d", len(frame), o.largest),
	}
}

// ready lets commands come: the device has said something, or long enough nothing.
func (o *outbox) ready() {
	if o.conn.unconfirmed.Load() != nil || o.conn.session.Renews() {
		return // neither commands nor state
	}
	o.mu.Lock()
	first := !o.open && !o.closing
	o.open = o.open || first
	greeted := o.told.version > 0
	if first && o.told.next != nil {
		o.kick()
	}
	o.mu.Unlock()
	if first && !greeted {
		o.conn.tellState()
	}
	if first {
		o.conn.session.Ready()
	}
}

// limit notes the largest frame that the device takes, 0 if it did not say.
func (o *outbox) limit(largest int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.largest = largest
}

// over reports whether the connection's end has begun.
func (o *outbox) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closing
}

func (o *outbox) pong(data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pongData = data
	o.kick()
}

func (o *outbox) pingNow() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ping = true
	o.kick()
}

// close ends the connection once what was added before is written. The first call counts.
func (o *outbox) close(code int, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return
	}
	o.closing, o.closeCode, o.closeReason = true, code, reason
	o.kick()
}

// kick needs mu.
func (o *outbox) kick() {
	if !o.writing && o.broken == nil {
		o.writing = true
		go o.drain()
	}
}

func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.frames) > outboxFull
}

// wait returns when the outbox is no longer full, or the connection is over.
func (o *outbox) wait() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.frames) > outboxFull && o.broken == nil {
		o.changed.Wait()
	}
}

// drain writes until there is nothing left. While it runs nobody else writes.
func (o *outbox) drain() {
	var frames []byte
	var ends []int
	o.mu.Lock()
	for o.broken == nil {
		o.addState()
		frames, o.frames = o.frames, frames[:0]
		ends, o.ends = o.ends, ends[:0]
		ping, pong := o.ping, o.pongData
		o.ping, o.pongData = false, nil
		last := o.closing
		if len(ends) == 0 && !ping && pong == nil && !last {
			break
		}
		o.changed.Broadcast()
		o.mu.Unlock()
		err := o.write(frames, ends, ping, pong)
		if last && err == nil {
			err = o.goodbye()
		}
		o.mu.Lock()
		o.broken = err
	}
	if cap(o.frames) > outboxFull {
		o.frames = nil
	}
	o.writing = false
	o.changed.Broadcast()
	broken := o.broken
	o.mu.Unlock()
	if broken != nil && !errors.Is(broken, errGoodbye) {
		o.conn.ws.Close() // the reader sees it and ends the connection
	}
}

func (o *outbox) write(frames []byte, ends []int, ping bool, pong []byte) error {
	ws := o.conn.ws
	deadline := time.Now().Add(o.conn.hub.cfg.WriteTimeout)
	if pong != nil {
		if err := ws.WriteControl(websocket.PongMessage, pong, deadline); err != nil {
			return err
		}
	}
	if ping {
		if err := ws.WriteControl(websocket.PingMessage, nil, deadline); err != nil {
			return err
		}
	}
	kind := websocket.TextMessage
	if o.conn.dialect.CBOR {
		kind = websocket.BinaryMessage
	}
	from := 0
	for _, end := range ends {
		// Of each frame: a device on a slow line reads, if slowly.
		if err := ws.SetWriteDeadline(time.Now().Add(o.conn.hub.cfg.WriteTimeout)); err != nil {
			return err
		}
		if err := ws.WriteMessage(kind, frames[from:end]); err != nil {
			return err
		}
		from = end
	}
	return nil
}

// closeWait is how long a device may take to answer our close frame.
const closeWait = 2 * time.Second

// errGoodbye ends writing when the close frame is out: the reader waits for the device's, or closeWait.
var errGoodbye = errors.New("the hub closed the connection")

func (o *outbox) goodbye() error {
	ws := o.conn.ws
	message := websocket.FormatCloseMessage(o.closeCode, o.closeReason)
	if err := ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(closeWait)); err != nil {
		return err
	}
	if err := ws.SetReadDeadline(time.Now().Add(closeWait)); err != nil {
		return err
	}
	return errGoodbye
}

// dismiss ends a connection that nobody reads, once its goodbye is written.
func (o *outbox) dismiss() {
	o.mu.Lock()
	for o.writing {
		o.changed.Wait()
	}
	o.mu.Unlock()
	linger(o.conn.ws)
	o.conn.ws.Close()
}

// linger reads past what the device still sends, until it closes or closeWait is over: closing a socket that holds
// unread bytes resets it, and the device would lose our close frame (RFC 1122 section 4.2.2.13).
func linger(ws *websocket.Conn) {
	below := ws.NetConn()
	if f, ok := below.(*frames); ok {
		below = f.Conn // whatever the frames are
	}
	if ws.SetReadDeadline(time.Now().Add(closeWait)) == nil {
		_, _ = io.CopyN(io.Discard, below, 4*wire.HardMaxFrame) // any end is as good
	}
}

// lost reports whether the connection that ended with err was lost without a word of the device's or of ours.
func (o *outbox) lost(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return o.closeCode == wire.CloseNoPong
	}
	var closed *websocket.CloseError
	var broken net.Error
	return errors.As(err, &closed) && closed.Code == websocket.CloseAbnormalClosure || errors.As(err, &broken)
}

// end is called when reading has ended with err. It closes the socket, returns when the writer has ended too, and says
// the cause in words.
func (o *outbox) end(err error) (cause string) {
	var closed *websocket.CloseError
	o.mu.Lock()
	ours := o.closing
	o.closing = true
	if ours {
		cause = closeCause(o.closeCode, o.closeReason)
	} else if cause = causeOf(err); isTimeout(o.broken) {
		cause = fmt.Sprintf("did not read what it was sent for %s", o.conn.hub.cfg.WriteTimeout)
	}
	o.mu.Unlock()
	var broken net.Error
	switch {
	case ours:
	case errors.As(err, &closed):
		if closed.Code != websocket.CloseAbnormalClosure {
			o.answerClose(closed.Code)
		}
	case errors.As(err, &broken):
	default: // The device broke WebSocket's rules.
		o.answerClose(closeCodeOf(err))
		linger(o.conn.ws)
	}
	o.conn.ws.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.writing {
		o.changed.Wait()
	}
	return cause
}

// answerClose writes a close frame unless one was written; if the device has gone already, nobody misses it.
func (o *outbox) answerClose(code int) {
	_ = o.conn.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(closeWait))
}

// closeCause is the end of a session that the hub closed.
func closeCause(code int, reason string) string {
	switch code {
	case wire.CloseRestart:
		return "the hub stopped"
	case wire.CloseOverloaded:
		return "the hub takes no more connections"
	}
	return reason
}
