package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// maxIncoming bounds a frame from the hub; a device's memory is small.
const maxIncoming = 1 << 20

// wssDialer holds what the WebSocket connections share.
type wssDialer struct {
	writeBuffers *sync.Pool
	writeSize    int
}

func newWSSDialer(batch int) *wssDialer {
	// A frame that fits into the buffer goes out as one WebSocket frame.
	return &wssDialer{writeBuffers: &sync.Pool{}, writeSize: min(64<<10, 512+160*batch)}
}

// wssLink is a device's WebSocket connection.
type wssLink struct {
	device *device
	conn   *websocket.Conn
	raw    *rawConn

	writing sync.Mutex // gorilla allows one writer

	// Of frames that bear no number, in the order of sending: acks count them.
	mu      sync.Mutex
	counted uint64 // how many the hub has acknowledged
	unacked []counted

	cause  atomic.Pointer[error] // why this side ended it
	silent time.Time             // owned by the reader: when the read deadline was last moved
}

// counted is a frame that an ack counts; boot is empty where it is nothing of the outbox.
type counted struct {
	boot string
	seq  uint64
}

// refusedError is an upgrade, or MQTT's CONNECT, that the hub refused.
type refusedError struct {
	status int
	detail string
	after  time.Duration // of Retry-After
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the hub refused the connection: %d %s %s", e.status, http.StatusText(e.status), e.detail)
}

// later says whether the hub would let the device in, but not now.
func (e *refusedError) later() bool {
	return e.status == http.StatusServiceUnavailable || e.status == http.StatusTooManyRequests
}

func (d *dialer) connectWSS(ctx context.Context, dev *device) (link, error) {
	conn, raw, err := d.openWebSocket(ctx, dev, "/connect/"+dev.id, dev.encoding().subprotocol())
	if err != nil {
		return nil, err
	}
	l := &wssLink{device: dev, conn: conn, raw: raw}
	conn.SetReadLimit(maxIncoming)
	ping := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		l.alive()
		return ping(data)
	})
	return l, nil
}

// openWebSocket makes a WebSocket with this subprotocol to a path of the hub. An error of type *refusedError is the hub's
// answer.
func (d *dialer) openWebSocket(ctx context.Context, dev *device, path, subprotocol string) (*websocket.Conn, *rawConn, error) {
	var raw *rawConn
	address := d.hub.Host
	if d.hub.Port() == "" {
		address = net.JoinHostPort(d.hub.Hostname(), map[string]string{"https": "443", "http": "80"}[d.hub.Scheme])
	}
	plain := d.hub.Scheme == "http"
	open := func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		conn, raw, err = d.dial(ctx, address, plain, dev)
		return conn, err
	}
	dialer := websocket.Dialer{
		NetDialContext: open, NetDialTLSContext: open,
		HandshakeTimeout: dialTimeout, Subprotocols: []string{subprotocol},
		ReadBufferSize: 1024, WriteBufferSize: d.wss.writeSize, WriteBufferPool: d.wss.writeBuffers,
	}
	target := url.URL{Scheme: "wss", Host: d.hub.Host, Path: d.hub.Path + path}
	if plain {
		target.Scheme = "ws"
	}
	credentials := http.Header{}
	if dev.certificate == nil && (subprotocol != "mqtt" || !dev.enrolment.isOpen()) { // a key says not whose it is: CONNECT does
		credentials.Set("Authorization", "Bearer "+dev.credentials.current())
	}
	conn, resp, err := dialer.DialContext(ctx, target.String(), credentials) //nolint:bodyclose // gorilla gives a copy in memory, or none
	if err != nil {
		if resp != nil && errors.Is(err, websocket.ErrBadHandshake) {
			return nil, nil, readRefusal(resp)
		}
		return nil, nil, err
	}
	if got := conn.Subprotocol(); got != subprotocol {
		_ = conn.Close() // nothing was said on it
		return nil, nil, fmt.Errorf("the hub chose subprotocol %q, offered was %s", got, subprotocol)
	}
	return conn, raw, nil
}

func readRefusal(resp *http.Response) error {
	refused := &refusedError{status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // gorilla keeps the first KB; a cut one tells less, no more
	var problem struct {
		Detail       string `json:"detail"`
		RetryAfterMs int64  `json:"retry_after_ms"`
	}
	if json.Unmarshal(body, &problem) == nil {
		refused.detail = problem.Detail
		refused.after = time.Duration(problem.RetryAfterMs) * time.Millisecond
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && refused.after == 0 {
		refused.after = time.Duration(seconds) * time.Second
	}
	return refused
}

func (l *wssLink) form() frameForm {
	form := formWSS
	form.encoding, form.device = l.device.encoding(), l.device.id
	return form
}

func (l *wssLink) telemetry(frames []outgoing) error {
	kind := websocket.TextMessage
	if l.device.encoding().binary() {
		kind = websocket.BinaryMessage
	}
	return l.write(kind, frames, l.device.encoding().senML())
}

// write writes frames; counts says that they are acknowledged by their number.
func (l *wssLink) write(kind int, frames []outgoing, counts bool) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if counts {
		l.expect(frames)
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if len(frames) > 1 {
		l.raw.cork()
	}
	for _, frame := range frames {
		if err := l.conn.WriteMessage(kind, frame.payload); err != nil {
			return err
		}
	}
	if len(frames) > 1 {
		return l.raw.uncork()
	}
	return nil
}

// expect notes frames before they are written, so that no ack comes before.
func (l *wssLink) expect(frames []outgoing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, frame := range frames {
		l.unacked = append(l.unacked, counted{boot: frame.boot, seq: frame.seq})
	}
}

// acknowledged takes the hub's count of durable frames without a number.
func (l *wssLink) acknowledged(count uint64) {
	l.mu.Lock()
	fresh := count - l.counted
	if count < l.counted || fresh > uint64(len(l.unacked)) {
		l.mu.Unlock()
		l.device.fleet.tally.note("the hub acknowledged more frames than were sent", errors.New(l.device.id))
		return
	}
	done := append([]counted(nil), l.unacked[:fresh]...)
	l.unacked = append(l.unacked[:0], l.unacked[fresh:]...)
	l.counted = count
	l.mu.Unlock()
	for _, frame := range done {
		if frame.boot != "" {
			l.device.acked(frame.boot, frame.seq)
		}
	}
}

func (l *wssLink) state(reported []byte) error {
	return l.answer(append(append([]byte(`{"method":"state","params":{"reported":`), reported...), "}}"...))
}

func (l *wssLink) answer(payload []byte) error {
	frame, err := l.device.encoding().encode(payload)
	if err != nil {
		return err
	}
	kind := websocket.TextMessage
	if l.device.encoding().binary() {
		kind = websocket.BinaryMessage
	}
	return l.write(kind, []outgoing{{payload: frame}}, false)
}

// inject writes text, which the hub takes whatever was negotiated.
func (l *wssLink) inject(telemetry []byte, quiet bool) error {
	counts := l.device.encoding().senML() && !quiet
	if telemetry[0] != '[' { // no pack
		form := l.form()
		telemetry = append(append([]byte(form.before), telemetry...), form.after...)
	}
	return l.write(websocket.TextMessage, []outgoing{{payload: telemetry}}, counts)
}

// run says hello, and then reads until the connection ends.
func (l *wssLink) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	defer func() { _ = l.conn.Close() }() // read or write told the reason already
	if err := l.conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return l.why(err)
	}
	if err := l.answer(l.device.helloFrame()); err != nil {
		return l.why(fmt.Errorf("say hello: %w", err))
	}
	buf := make([]byte, 0, 512)
	for {
		_, reader, err := l.conn.NextReader()
		if err != nil {
			return l.why(err)
		}
		if buf, err = readInto(buf[:0], reader); err != nil {
			return l.why(err)
		}
		if !l.silent.IsZero() {
			l.alive()
		}
		l.frame(buf)
	}
}

// alive moves the read deadline, at most every few seconds, as that costs more than a frame.
func (l *wssLink) alive() {
	if now := time.Now(); now.Sub(l.silent) > silenceLimit/20 {
		l.silent = now
		_ = l.conn.SetReadDeadline(now.Add(silenceLimit)) // fails on a closed connection only, and the reader finds out
	}
}

func readInto(buf []byte, reader io.Reader) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := reader.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

func (l *wssLink) frame(data []byte) {
	data, err := l.device.encoding().decode(data)
	if err != nil {
		l.device.fleet.tally.note("the hub sent a frame that is not CBOR", err)
		return
	}
	if boot, seq, ok := parseAck(data); ok {
		l.device.acked(string(boot), seq)
		return
	}
	var in incoming
	if err := json.Unmarshal(data, &in); err != nil {
		l.device.fleet.tally.note("the hub sent a frame that is not JSON-RPC", err)
		return
	}
	if string(in.ID) == helloID && in.Method == "" {
		l.silent = time.Now().Add(-silenceLimit)
		l.alive()
		l.device.welcomed(l, in)
		return
	}
	if count, is := countOf(in); is {
		l.acknowledged(count)
		return
	}
	l.device.frame(l, in)
}

// countOf returns the count of hub.ack{count}.
func countOf(in incoming) (count uint64, is bool) {
	var ack struct {
		Count uint64 `json:"count"`
	}
	if in.Method != "hub.ack" || json.Unmarshal(in.Params, &ack) != nil {
		return 0, false
	}
	return ack.Count, ack.Count > 0
}

// why gives the reason for the end: this side's if it was its will, else the close frame's or the error.
func (l *wssLink) why(err error) error {
	if own := l.cause.Load(); own != nil {
		return *own
	}
	return err
}

func (l *wssLink) end(cause error) { l.cause.CompareAndSwap(nil, &cause) }

func (l *wssLink) close() { l.goodbye(errFinished) }

func (l *wssLink) restart() { l.goodbye(errRebooted) }

func (l *wssLink) goodbye(cause error) {
	l.end(cause)
	_ = l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	l.raw.cut() // the goodbye was said or could not be
}

func (l *wssLink) cut(cause error) {
	l.end(cause)
	l.raw.cut()
}

func (l *wssLink) abandon() {
	l.end(errAbandoned)
	l.raw.abandon()
}

// retryAfter is what the hub asked for when it ended or refused the connection; 0 if nothing.
func retryAfter(err error) time.Duration {
	if refused, is := errors.AsType[*refusedError](err); is {
		return refused.after
	}
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != wire.CloseRestart && closed.Code != wire.CloseOverloaded {
		return 0
	}
	var reason struct {
		RetryAfterMs int64 `json:"retry_after_ms"`
	}
	if json.Unmarshal([]byte(closed.Text), &reason) != nil || reason.RetryAfterMs < 0 {
		return 0
	}
	return time.Duration(reason.RetryAfterMs) * time.Millisecond
}
