package devices_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/devices"
)

// refused reads a refusal: its reason, after checking that it is problem+json that says its own status.
func refused(t *testing.T, resp *http.Response, status int) string {
	t.Helper()
	if resp == nil {
		t.Fatal("no answer")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var problem struct {
		Type, Title, Reason, Detail string
		Status                      int
	}
	if err := json.Unmarshal(body, &problem); err != nil {
		t.Fatalf("status %d, body %q: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode != status || problem.Status != status || problem.Title != http.StatusText(status) || problem.Detail == "" || problem.Type == "" {
		t.Errorf("status %d, body %s, want %d", resp.StatusCode, body, status)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	return problem.Reason
}

// credentials is every credential, right and wrong, with and without a device in the path.
func (h *hub) credentials() []credential {
	const none, wrong, disabled, mismatch = "no_credentials", "bad_credentials", "device_disabled", "wrong_device"
	one, two, off, gone, old := h.tokens["d1"], h.tokens["d2"], h.tokens["off"], h.tokens["gone"], h.tokens["old"]
	return []credential{
		{"bearer", "/connect", bearer(one), 101, ""},
		{"bearer in small letters", "/connect", http.Header{"Authorization": {"bearer  " + one}}, 101, ""},
		{"basic", "/connect", basic("d1", one), 101, ""},
		{"query", "/connect?token=" + one, nil, 101, ""},
		{"bearer, path", "/connect/d1", bearer(one), 101, ""},
		{"basic, path", "/connect/d1", basic("d1", one), 101, ""},
		{"query, path", "/connect/d1?token=" + one, nil, 101, ""},
		{"bearer before query", "/connect?token=wrong", bearer(one), 101, ""},
		{"wrong bearer is not saved by query", "/connect?token=" + one, bearer("wrong"), 401, wrong},

		{"nothing", "/connect", nil, 401, none},
		{"nothing, path", "/connect/d1", nil, 401, none},
		{"empty query", "/connect?token=", nil, 401, none},
		{"unknown scheme", "/connect", http.Header{"Authorization": {"Digest " + one}}, 401, none},
		{"basic that is not base64", "/connect", http.Header{"Authorization": {"Basic %%%"}}, 401, none},
		{"empty bearer", "/connect", bearer(""), 401, none},
		{"wrong bearer", "/connect", bearer("dev_wrong"), 401, wrong},
		{"wrong bearer, path", "/connect/d1", bearer("dev_wrong"), 401, wrong},
		{"half a token", "/connect", bearer(one[:len(one)-1]), 401, wrong},
		{"wrong basic", "/connect", basic("d1", "dev_wrong"), 401, wrong},
		{"basic without token", "/connect", basic("d1", ""), 401, wrong},
		{"basic of nobody", "/connect", basic("nobody", one), 401, wrong},
		{"another's token by basic", "/connect", basic("d1", two), 401, wrong},
		{"wrong query", "/connect?token=dev_wrong", nil, 401, wrong},

		{"bearer, another's path", "/connect/d1", bearer(two), 403, mismatch},
		{"basic, another's path", "/connect/d1", basic("d2", two), 403, mismatch},
		{"query, another's path", "/connect/d1?token=" + two, nil, 403, mismatch},
		{"path of nobody", "/connect/nobody", bearer(one), 403, mismatch},

		{"disabled", "/connect", bearer(off), 403, disabled},
		{"disabled, wrong token", "/connect", basic("off", one), 401, wrong},
		{"deleted", "/connect", bearer(gone), 401, wrong},
		{"deleted, basic", "/connect", basic("gone", gone), 401, wrong},
		{"the token before the last", "/connect", bearer(old), 401, wrong},
		{"the token before the last, basic", "/connect", basic("old", old), 401, wrong},
	}
}

type credential struct {
	name   string
	path   string
	header http.Header
	status int
	reason string
}

func TestCredentials(t *testing.T) {
	h := newHub(t)
	ctx := context.Background()
	for _, id := range []string{"off", "gone", "old"} {
		h.create(id)
	}
	if _, err := h.registry.Update(ctx, "off", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := h.registry.Delete(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.registry.NewToken(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	for _, c := range h.credentials() {
		t.Run(c.name, func(t *testing.T) {
			conn := h.listener.dial()
			defer conn.Close()
			ws, resp, err := upgrade(conn, c.path, c.header)
			if c.status == http.StatusSwitchingProtocols {
				if err != nil {
					t.Fatal(err)
				}
				d := &device{t: t, id: "d1", ws: ws, frames: make(chan string, 10), ended: make(chan struct{})}
				go d.read()
				if got := d.welcome(`{}`)["device"]; got != "d1" {
					t.Errorf("welcomed as %v", got)
				}
				ws.Close()
				<-d.ended
				return
			}
			if got := refused(t, resp, c.status); got != c.reason {
				t.Errorf("reason %q, want %q", got, c.reason)
			}
			if got := resp.Header.Get("WWW-Authenticate"); (got != "") != (c.status == http.StatusUnauthorized) {
				t.Errorf("status %d with WWW-Authenticate %q", c.status, got)
			}
		})
	}
	for id, token := range h.tokens {
		if strings.Contains(h.log.String(), token) {
			t.Errorf("the log has the token of %s", id)
		}
	}
	if !strings.Contains(h.log.String(), "reason=bad_credentials") {
		t.Error("the log does not say why connections were refused")
	}
}

// A token that could authenticate only in the URL must not be in the log either when the upgrade itself fails.
func TestTokenInTheURLIsNotLogged(t *testing.T) {
	h := newHub(t)
	for _, version := range []string{"13", "8"} {
		req, _ := http.NewRequest("GET", "http://hub/connect/d1?token="+h.tokens["d1"], nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {version}} // no key
		refused(t, h.ask(t, req), map[string]int{"13": 400, "8": 426}[version])
	}
	if text := h.log.String(); strings.Contains(text, h.tokens["d1"]) || !strings.Contains(text, "d1") {
		t.Errorf("the log is %s", text)
	}
}

// ask sends a request that is no WebSocket handshake of a library.
func (h *hub) ask(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	conn := h.listener.dial()
	t.Cleanup(func() { conn.Close() })
	transport := &http.Transport{DialContext: dialTo(conn), DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestSubprotocol(t *testing.T) {
	h := newHub(t)
	for _, c := range []struct {
		name    string
		offered []string // header lines
		want    string   // "-": refused
	}{
		{"none", nil, ""},
		{"ours", []string{"hub.v1+json"}, "hub.v1+json"},
		{"first that is ours", []string{"chat, hub.v1+json, senml+json"}, "hub.v1+json"},
		{"in the client's order", []string{"senml+cbor, hub.v1+json, hub.v1+cbor"}, "senml+cbor"},
		{"cbor", []string{"hub.v1+cbor"}, "hub.v1+cbor"},
		{"senml", []string{"hub.v2+json", "senml+json"}, "senml+json"},
		{"in several lines", []string{"chat", "hub.v1+json"}, "hub.v1+json"},
		{"only unknown", []string{"chat, senml"}, "-"},
		{"another case", []string{"HUB.V1+JSON"}, "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := bearer(h.tokens["d1"])
			if c.offered != nil {
				header["Sec-WebSocket-Protocol"] = c.offered
			}
			conn := h.listener.dial()
			defer conn.Close()
			ws, resp, err := upgrade(conn, "/connect", header)
			if c.want != "-" {
				if err != nil {
					t.Fatal(err)
				}
				if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != c.want || ws.Subprotocol() != c.want {
					t.Errorf("chosen %q, want %q", got, c.want)
				}
				return
			}
			if reason := refused(t, resp, http.StatusBadRequest); reason != "subprotocol" {
				t.Errorf("reason %s", reason)
			}
		})
	}
	if text := h.log.String(); !strings.Contains(text, "reason=subprotocol") {
		t.Error("the log does not say why")
	}
}

func TestOnlyUnknownSubprotocolsNamesOurs(t *testing.T) {
	h := newHub(t)
	header := bearer(h.tokens["d1"])
	header.Set("Sec-WebSocket-Protocol", "chat")
	conn := h.listener.dial()
	defer conn.Close()
	_, resp, _ := upgrade(conn, "/connect", header)
	body, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(body), "hub.v1+json, hub.v1+cbor, senml+json, senml+cbor") || !strings.Contains(string(body), "chat") {
		t.Errorf("body %s names not both what was offered and what is spoken", body)
	}
}

func TestNotAHandshake(t *testing.T) {
	h := newHub(t)
	handshake := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	for _, c := range []struct {
		name, method string
		change       func(http.Header)
		status       int
		reason       string
		header, want string
	}{
		{"plain GET", "GET", func(h http.Header) { h.Del("Upgrade"); h.Del("Connection") }, 426, "not_websocket", "Upgrade", "websocket"},
		{"another upgrade", "GET", func(h http.Header) { h.Set("Upgrade", "h2c") }, 426, "not_websocket", "Upgrade", "websocket"},
		{"version 8", "GET", func(h http.Header) { h.Set("Sec-WebSocket-Version", "8") }, 426, "websocket_version", "Sec-WebSocket-Version", "13"},
		{"no version", "GET", func(h http.Header) { h.Del("Sec-WebSocket-Version") }, 426, "websocket_version", "Sec-WebSocket-Version", "13"},
		{"no key", "GET", func(h http.Header) { h.Del("Sec-WebSocket-Key") }, 400, "bad_handshake", "", ""},
		{"short key", "GET", func(h http.Header) { h.Set("Sec-WebSocket-Key", "c2hvcnQ=") }, 400, "bad_handshake", "", ""},
		{"POST", "POST", func(http.Header) {}, 405, "method", "Allow", "GET"},
		{"PUT of nothing", "PUT", func(h http.Header) { clear(h) }, 405, "method", "Allow", "GET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest(c.method, "http://hub/connect", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = handshake.Clone()
			c.change(req.Header)
			req.Header.Set("Authorization", "Bearer "+h.tokens["d1"])
			resp := h.ask(t, req)
			if got := refused(t, resp, c.status); got != c.reason {
				t.Errorf("reason %q, want %q", got, c.reason)
			}
			if got := resp.Header.Get(c.header); c.header != "" && got != c.want {
				t.Errorf("%s: %q, want %q", c.header, got, c.want)
			}
		})
	}
	if n := h.sessions.Count(); len(n) != 0 {
		t.Errorf("sessions %v, want none", n)
	}
}

// What a device is told while the hub stops: before the upgrade, when to come back.
func TestConnectWhileTheHubStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		if err := h.stopOnce(); err != nil {
			t.Fatal(err)
		}
		conn := h.listener.dial()
		defer conn.Close()
		_, resp, err := upgrade(conn, "/connect", bearer(h.tokens["d1"]))
		if err == nil {
			t.Fatal("a stopped hub took a device")
		}
		if reason := refused(t, resp, http.StatusServiceUnavailable); reason != "hub_stopping" {
			t.Errorf("reason %s", reason)
		}
		if after := resp.Header.Get("Retry-After"); after < "1" || after > "5" || len(after) != 1 {
			t.Errorf("Retry-After %q, want 1 to 5 s", after)
		}
	})
}

// The device was revoked between the question who it is and the session.
func TestRevokedWhileConnecting(t *testing.T) {
	h := newHub(t)
	conn := h.listener.dial()
	defer conn.Close()
	// The server's answer to the upgrade waits for us to read it: until then there is no session.
	upgraded := make(chan *websocket.Conn)
	gate := &gatedConn{Conn: conn, asked: make(chan struct{}), open: make(chan struct{})}
	go func() {
		ws, _, err := upgrade(gate, "/connect", bearer(h.tokens["d1"]))
		if err != nil {
			t.Error(err)
		}
		upgraded <- ws
	}()
	<-gate.asked
	if _, err := h.registry.NewToken(context.Background(), "d1"); err != nil {
		t.Fatal(err)
	}
	close(gate.open)
	d := &device{t: t, id: "d1", ws: <-upgraded, frames: make(chan string, 10), ended: make(chan struct{})}
	go d.read()
	d.wantClose(4003)
}

// The hub began to stop between the upgrade and the session: nobody reads the socket, and yet it is closed.
func TestStopWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		gate := &gatedConn{Conn: h.listener.dial(), asked: make(chan struct{}), open: make(chan struct{})}
		upgraded := make(chan *websocket.Conn)
		go func() {
			ws, _, err := upgrade(gate, "/connect", bearer(h.tokens["d1"]))
			if err != nil {
				t.Error(err)
			}
			upgraded <- ws
		}()
		<-gate.asked
		if err := h.stopOnce(); err != nil {
			t.Fatal(err)
		}
		close(gate.open)
		d := &device{t: t, id: "d1", ws: <-upgraded, frames: make(chan string, 10), ended: make(chan struct{})}
		go d.read()
		if params := d.wantNotice("hub_stopping"); params["retry_after_ms"] == nil {
			t.Errorf("notice %v says not when to come back", params)
		}
		d.wantClose(1012)
		time.Sleep(2 * time.Second) // which the device has for its own goodbye
		synctest.Wait()
		_ = gate.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := gate.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("writing to a socket that the hub should have closed: %v", err)
		}
		if got := h.answers.lines(); len(got) != 0 {
			t.Errorf("the ledger was told %v", got)
		}
	})
}
