package devices_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// device is a client that reads all that it is sent, at once. In a bubble its times are virtual.
type device struct {
	t       testing.TB
	id      string
	ws      *websocket.Conn
	frames  chan string
	pings   chan time.Time
	ended   chan struct{} // closed when reading has ended
	closed  *websocket.CloseError
	endedAt time.Time
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func basic(user, password string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}}
}

// upgrade asks for a WebSocket over conn.
func upgrade(conn net.Conn, path string, header http.Header) (*websocket.Conn, *http.Response, error) {
	dialer := websocket.Dialer{NetDialContext: dialTo(conn), ReadBufferSize: 1024, WriteBufferSize: 1024}
	return dialer.Dial("ws://hub"+path, header)
}

// link connects a device that does not read yet.
func (h *hub) link(id string) *device {
	h.t.Helper()
	conn := h.listener.dial()
	ws, _, err := upgrade(conn, "/connect", bearer(h.tokens[id]))
	if err != nil {
		h.t.Fatalf("connect %s: %v", id, err)
	}
	d := &device{t: h.t, id: id, ws: ws, frames: make(chan string, 10_000), pings: make(chan time.Time, 1000), ended: make(chan struct{})}
	h.t.Cleanup(func() { _ = ws.Close() })
	return d
}

// dial connects a device that reads and answers pings.
func (h *hub) dial(id string) *device {
	h.t.Helper()
	d := h.link(id)
	d.ws.SetPingHandler(func(data string) error {
		d.pings <- time.Now()
		return d.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
	})
	go d.read()
	return d
}

// dialMute connects a device that reads and answers no ping: to the hub it is a half-open connection.
func (h *hub) dialMute(id string) *device {
	h.t.Helper()
	d := h.link(id)
	d.ws.SetPingHandler(func(string) error { d.pings <- time.Now(); return nil })
	d.ws.SetCloseHandler(func(int, string) error { return nil })
	go d.read()
	return d
}

func (d *device) read() {
	defer close(d.ended)
	for {
		_, data, err := d.ws.ReadMessage()
		if err != nil {
			_ = errors.As(err, &d.closed)
			d.endedAt = time.Now()
			return
		}
		d.frames <- string(data)
	}
}

func (d *device) send(frames ...string) {
	d.t.Helper()
	for _, f := range frames {
		if err := d.ws.WriteMessage(websocket.TextMessage, []byte(f)); err != nil {
			d.t.Fatalf("%s sends %.100s: %v", d.id, f, err)
		}
	}
}

// next returns the next frame; "" when there is none within 20 s, which in a bubble are virtual.
func (d *device) next() string {
	select {
	case f := <-d.frames:
		return f
	case <-d.ended:
		select {
		case f := <-d.frames: // what came before the end
			return f
		default:
			return ""
		}
	case <-time.After(20 * time.Second):
		return ""
	}
}

// want expects exactly these frames next.
func (d *device) want(frames ...string) {
	d.t.Helper()
	for _, want := range frames {
		if got := d.next(); got != want {
			d.t.Fatalf("%s got %q\nwant %q", d.id, got, want)
		}
	}
}

// wantNone expects that no frame has come. Only in a bubble, after synctest.Wait.
func (d *device) wantNone() {
	d.t.Helper()
	select {
	case f := <-d.frames:
		d.t.Fatalf("%s got %s, want nothing yet", d.id, f)
	default:
	}
}

// wantError expects an error answer with that id (JSON text), code and reason, and returns its data.
func (d *device) wantError(id string, code int, reason string) map[string]any {
	d.t.Helper()
	got := d.next()
	var f struct {
		ID    json.RawMessage
		Error struct {
			Code    int
			Message string
			Data    map[string]any
		}
	}
	if err := json.Unmarshal([]byte(got), &f); err != nil || string(f.ID) != id || f.Error.Code != code || f.Error.Data["reason"] != reason || f.Error.Message == "" {
		d.t.Fatalf("%s got %q\nwant an error to %s with %d %s", d.id, got, id, code, reason)
	}
	return f.Error.Data
}

// wantNotice expects a notice with that code and returns its params.
func (d *device) wantNotice(code string) map[string]any {
	d.t.Helper()
	got := d.next()
	var f struct {
		Method string
		Params map[string]any
	}
	if err := json.Unmarshal([]byte(got), &f); err != nil || f.Method != "hub.notice" || f.Params["code"] != code {
		d.t.Fatalf("%s got %q\nwant a notice %s", d.id, got, code)
	}
	return f.Params
}

// wantClose expects the hub's close frame and returns its reason.
func (d *device) wantClose(code int) string {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(time.Hour): // in a bubble virtual; else the test's own timeout is shorter
	}
	if d.closed == nil || d.closed.Code != code {
		d.t.Fatalf("%s was closed with %v, want %d", d.id, d.closed, code)
	}
	return d.closed.Text
}

// hello is welcome in a bubble, and returns when commands can come: the hub sends none before it is done with the frame
// that it has answered.
func (d *device) hello(params string) map[string]any {
	d.t.Helper()
	result := d.welcome(params)
	synctest.Wait()
	return result
}

// welcome says hello with these params and returns the answer's result.
func (d *device) welcome(params string) map[string]any {
	d.t.Helper()
	d.send(`{"id":"h","method":"hello","params":` + params + `}`)
	got := d.next()
	var f struct {
		ID     string
		Result map[string]any
	}
	if err := json.Unmarshal([]byte(got), &f); err != nil || f.ID != "h" || f.Result == nil {
		d.t.Fatalf("%s said hello and got %q", d.id, got)
	}
	return f.Result
}

// ack is the frame hub.ack.
func ack(boot string, seq string) string {
	if boot != "" {
		boot = `"boot":"` + boot + `",`
	}
	return `{"jsonrpc":"2.0","method":"hub.ack","params":{` + boot + `"seq":` + seq + `}}`
}

// result is the answer {} to a request.
func result(id string) string { return `{"jsonrpc":"2.0","id":` + id + `,"result":{}}` }

// session returns the id of the device's session.
func (h *hub) session(id string) uint64 {
	h.t.Helper()
	s, ok := h.sessions.Online(id)
	if !ok {
		h.t.Fatalf("%s is not online", id)
	}
	return s
}

// wantLines compares lines and shows the first that differs.
func wantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
