package devices_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// echo stands for the broker: it sends back what it gets. A line that begins with "end" ends the connection.
type echo struct {
	mu      sync.Mutex
	callers []devices.Caller
	errs    []error
	open    map[net.Conn]bool
}

func newEcho(h *hub) *echo {
	e := &echo{open: map[net.Conn]bool{}}
	h.connector.BindMQTT(e)
	h.t.Cleanup(func() { e.close(wire.CloseRestart) })
	return e
}

func (e *echo) ServeMQTT(nc net.Conn, from devices.Caller) error {
	e.mu.Lock()
	e.callers = append(e.callers, from)
	e.open[nc] = true
	e.mu.Unlock()
	lines := bufio.NewReader(nc)
	for {
		line, err := lines.ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "end") {
			_, err = io.WriteString(nc, line)
		} else if err == nil {
			nc.(interface{ SayWhy(int, string) }).SayWhy(wire.CloseRevoked, "credentials revoked")
			err = errors.New("the end")
		}
		if err != nil {
			e.end(nc, err)
			return err
		}
	}
}

func (e *echo) end(nc net.Conn, err error) {
	nc.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, nc)
	e.errs = append(e.errs, err)
}

// close ends all connections, as the broker does at a stop.
func (e *echo) close(code int) {
	e.mu.Lock()
	all := slices.Collect(maps.Keys(e.open))
	e.mu.Unlock()
	for _, nc := range all {
		nc.(interface{ SayWhy(int, string) }).SayWhy(code, "the hub stops")
		nc.Close()
	}
}

func (e *echo) ended() []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]error(nil), e.errs...)
}

// mqtt upgrades a connection for MQTT.
func (h *hub) mqtt(path string, header http.Header, offers ...string) (*websocket.Conn, *http.Response, error) {
	conn := h.listener.dial()
	d := websocket.Dialer{NetDialContext: dialTo(conn), Subprotocols: offers, ReadBufferSize: 1024, WriteBufferSize: 1024}
	ws, resp, err := d.Dial("ws://hub"+path, header)
	if err != nil {
		conn.Close()
	} else {
		h.t.Cleanup(func() { ws.Close() })
	}
	return ws, resp, err
}

// MQTT is chosen by its subprotocol; without credentials in the request, CONNECT will have them. What is wrong before
// that is told before the upgrade.
func TestWhoMaySpeakMQTT(t *testing.T) {
	h := newHub(t)
	e := newEcho(h)
	one := h.tokens["d1"]
	for _, c := range []struct {
		name   string
		path   string
		header http.Header
		offers []string
		status int
		want   string // reason, or the device shown and the path's
	}{
		{"bearer", "/connect", bearer(one), []string{"mqtt"}, 101, "d1 "},
		{"basic", "/connect", basic("d1", one), []string{"mqtt"}, 101, "d1 "},
		{"query, path", "/connect/d1?token=" + one, nil, []string{"mqtt"}, 101, "d1 d1"},
		{"left to CONNECT", "/connect", nil, []string{"mqtt"}, 101, " "},
		{"left to CONNECT, path", "/connect/d1", nil, []string{"mqtt"}, 101, " d1"},
		{"custom path", "/mqtt", nil, []string{"mqtt"}, 101, " "},
		{"custom path, bearer", "/mqtt", bearer(one), []string{"mqtt"}, 101, "d1 "},
		{"custom path, MQTT is not the first", "/mqtt", nil, []string{"hub.v1+json", "mqtt"}, 101, " "},
		{"MQTT first", "/connect", nil, []string{"mqtt", "hub.v1+json"}, 101, " "},
		{"MQTT not first", "/connect", nil, []string{"hub.v1+json", "mqtt"}, 401, "no_credentials"},
		{"wrong token", "/connect", bearer("dev_wrong"), []string{"mqtt"}, 401, "bad_credentials"},
		{"another's path", "/connect/d2", bearer(one), []string{"mqtt"}, 403, "wrong_device"},
		{"custom path, nothing offered", "/mqtt", bearer(one), nil, 400, "subprotocol"},
		{"custom path, another", "/mqtt", bearer(one), []string{"hub.v1+json"}, 400, "subprotocol"},
		{"unknown", "/connect", bearer(one), []string{"mqttv3.1"}, 400, "subprotocol"},
	} {
		ws, resp, err := h.mqtt(c.path, c.header, c.offers...)
		if c.status != 101 {
			if err == nil {
				t.Fatalf("%s: let in", c.name)
			}
			if reason := refused(t, resp, c.status); reason != c.want {
				t.Errorf("%s: %s, want %s", c.name, reason, c.want)
			}
			continue
		}
		if err != nil || ws.Subprotocol() != "mqtt" {
			t.Errorf("%s: subprotocol of %v, %v", c.name, ws, err)
			continue
		}
		if err := ws.WriteMessage(websocket.BinaryMessage, []byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != "hello\n" {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		e.mu.Lock()
		if from := e.callers[len(e.callers)-1]; from.Device+" "+from.Path != c.want || from.Remote == "" || (from.Device != "") != (from.Proof.Kind == devices.ProofToken) {
			t.Errorf("%s: called by %+v, want %q", c.name, from, c.want)
		}
		e.mu.Unlock()
	}
}

func TestMQTTIsNotOfferedWithoutABroker(t *testing.T) {
	h := newHub(t)
	for _, path := range []string{"/connect", "/mqtt"} {
		_, resp, err := h.mqtt(path, bearer(h.tokens["d1"]), "mqtt")
		if err == nil || refused(t, resp, 400) != "subprotocol" {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Messages have no meaning of their own: a packet may span several, one may hold several (MQTT 5 section 6), and they
// may be empty or come in fragments.
func TestMQTTIsAStreamInBinaryMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		newEcho(h)
		ws, _, err := h.mqtt("/mqtt", nil, "mqtt")
		if err != nil {
			t.Fatal(err)
		}
		conn := ws.NetConn()
		r := bufio.NewReader(conn)
		go func() {
			for _, frame := range [][]byte{
				raw(0x82, "on"), raw(0x82, ""), raw(0x02, "e\ntw"), raw(0x89, "alive"), raw(0x00, ""), raw(0x80, "o\nthree\n"), raw(0x82, "four\n"),
			} {
				if _, err := conn.Write(frame); err != nil {
					return
				}
			}
		}()
		var got []string
		for range 5 {
			first, payload, err := readRaw(r)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(first)+string(payload))
		}
		want := []string{"\u0082one\n", "\u008aalive", "\u0082two\n", "\u0082three\n", "\u0082four\n"}
		if strings.Join(got, "") != strings.Join(want, "") {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Each end of the connection has its close code; the close frame comes last, and the connection's goroutines end.
func TestHowMQTTOverWebSocketEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		send []byte
		code uint16
		err  string
	}{
		{"[MQTT-6.0.0-1] a text message", raw(0x81, "hello\n"), 1003, "text message"},
		{"a reserved bit", raw(0xc2, "hello\n"), 1002, "RSV1"},
		{"a message over 16 MiB", append([]byte{0x82}, lengthOf(16<<20 + 1)[1:]...), 1009, "a frame over"},
		{"the device closes", raw(0x88, "\x03\xe8bye"), 1000, "EOF"},
		{"the device closes with a code of its own", raw(0x88, "\x0f\xa0bye"), 4000, "the device closed: 4000 bye"},
		{"the broker ends it", raw(0x82, "end\n"), 4003, "the end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				e := newEcho(h)
				ws, _, err := h.mqtt("/mqtt", nil, "mqtt")
				if err != nil {
					t.Fatal(err)
				}
				conn := ws.NetConn()
				go func() { _, _ = conn.Write(c.send) }()
				r := bufio.NewReader(conn)
				first, payload, err := readRaw(r)
				if err != nil || first != 0x88 || len(payload) < 2 || binary.BigEndian.Uint16(payload) != c.code {
					t.Errorf("got %x %q, %v, want a close frame with %d", first, payload, err, c.code)
				}
				if _, _, err := readRaw(r); err == nil {
					t.Error("the close frame was not the last")
				}
				synctest.Wait()
				if errs := e.ended(); len(errs) != 1 || !strings.Contains(errs[0].Error(), c.err) {
					t.Errorf("the broker saw %v, want %q", errs, c.err)
				}
			})
		})
	}
}

// At a stop the broker ends its connections first; the Connector then waits for their goodbyes, which say when to come
// back.
func TestStopWaitsForMQTTsGoodbyes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		e := newEcho(h)
		reading, _, err := h.mqtt("/mqtt", nil, "mqtt")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = h.mqtt("/mqtt", nil, "mqtt"); err != nil { // one that never answers
			t.Fatal(err)
		}
		synctest.Wait()
		closed := make(chan error, 1)
		go func() {
			_, _, err := reading.ReadMessage()
			closed <- err
		}()
		e.close(wire.CloseRestart)
		began := time.Now()
		if err := h.stopOnce(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("stopped after %v", took)
		}
		var end *websocket.CloseError
		if err := <-closed; !errors.As(err, &end) || end.Code != 1012 || end.Text != "the hub stops" {
			t.Errorf("closed with %v, want 1012", err)
		}
		if _, resp, err := h.mqtt("/mqtt", bearer(h.tokens["d1"]), "mqtt"); err == nil || refused(t, resp, 503) != "hub_stopping" {
			t.Errorf("after the stop: %v", err)
		}
		late, _, err := h.mqtt("/mqtt", nil, "mqtt") // who has not said who it is
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := late.ReadMessage(); !errors.As(err, &end) || end.Code != 1012 || !strings.HasPrefix(end.Text, `{"retry_after_ms":`) {
			t.Errorf("after the stop: closed with %v, want 1012 and when to come back", err)
		}
	})
}

// A device that does not read holds a writer up no longer than its deadline, also one that is shortened meanwhile.
func TestMQTTsWriteDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		e := newEcho(h)
		if _, _, err := h.mqtt("/mqtt", nil, "mqtt"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var nc net.Conn
		for nc = range e.open {
		}
		if err := nc.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		wrote := make(chan error, 1)
		go func() {
			_, err := nc.Write([]byte("nobody reads this"))
			wrote <- err
		}()
		synctest.Wait()
		if err := nc.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err == nil || time.Since(began) != time.Second {
			t.Errorf("written after %v with %v, want a timeout after 1s", time.Since(began), err)
		}
	})
}
