package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// dialFrom connects a device from an address of this machine.
func (h *hubProcess) dialFrom(address, token string) (*websocket.Conn, *http.Response, error) {
	h.t.Helper()
	dialer := websocket.Dialer{
		NetDialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext, TLSClientConfig: h.tls(), HandshakeTimeout: time.Minute,
	}
	return dialer.DialContext(h.t.Context(), strings.Replace(h.url, "https", "wss", 1)+"/connect", http.Header{"Authorization": {"Bearer " + token}})
}

// mqttFrom connects a device by MQTT 3.1.1 from an address of this machine, and returns CONNACK's return code.
func (h *hubProcess) mqttFrom(address, device, token string) (net.Conn, byte) {
	h.t.Helper()
	dialer := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}, Config: h.tls()}
	conn, err := dialer.DialContext(h.t.Context(), "tcp", strings.TrimPrefix(h.mqtt, "mqtts://"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	text := func(s string) []byte { return append([]byte{0, byte(len(s))}, s...) }
	body := append(text("MQTT"), 4, 0xC2, 0, 60) // version 3.1.1, user name, password, clean session, 60 s
	for _, s := range []string{"client", device, token} {
		body = append(body, text(s)...)
	}
	if _, err := conn.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		h.t.Fatal(err)
	}
	connack := make([]byte, 4)
	if _, err := io.ReadFull(conn, connack); err != nil {
		h.t.Fatal(err)
	}
	return conn, connack[3]
}

// untilBy waits until the device is connected by that transport.
func (h *hubProcess) untilBy(device, transport string) {
	h.t.Helper()
	until(h.t, device+" is connected by "+transport, func() bool {
		var d struct {
			Online    bool
			Transport string
		}
		return h.call(http.MethodGet, "/api/v1/devices/"+device, nil, &d) == http.StatusOK && d.Online && d.Transport == transport
	})
}

// Two devices with one token, one by WebSocket and one by MQTT, from two addresses: the identity is frozen on both, over a
// restart of the hub, until an operator ends it.
func TestClonesAreFrozenOnEachTransport(t *testing.T) {
	h := startHub(t, t.TempDir())
	token := h.newDevice("twin")
	var ws *websocket.Conn
	var mqtt net.Conn
	for i := range 5 {
		var err error
		if i%2 == 1 {
			var code byte
			if mqtt, code = h.mqttFrom("127.0.0.2", "twin", token); code != 0 {
				t.Fatalf("connection %d: return code %d", i, code)
			}
			h.untilBy("twin", "mqtt")
			continue
		}
		if ws, _, err = h.dialFrom("127.0.0.1", token); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		opened := ws
		t.Cleanup(func() { _ = opened.Close() })
		if i < 4 {
			h.untilBy("twin", "wss")
		}
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
	_, _, err := ws.ReadMessage()
	if closed, ok := errors.AsType[*websocket.CloseError](err); !ok || closed.Code != 4004 {
		t.Errorf("the newest was closed with %v", err)
	}
	_ = mqtt.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := mqtt.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the one before read %d bytes, %v", n, err)
	}
	refused := func() {
		t.Helper()
		_, resp, err := h.dialFrom("127.0.0.3", token)
		if err == nil || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
			t.Errorf("let in: %v, %v", resp, err)
		}
		if _, code := h.mqttFrom("127.0.0.3", "twin", token); code != 5 {
			t.Errorf("return code %d", code)
		}
	}
	refused()
	out, _, _ := h.ctl("why", "twin")
	for _, want := range []string{"Frozen as a clone", "127.0.0.1:", "127.0.0.2:", "by mqtt", "hubctl devices unfreeze twin"} {
		if !strings.Contains(out, want) {
			t.Errorf("why does not say %q:\n%s", want, out)
		}
	}
	if m := h.metrics(); !strings.Contains(m, "hub_devices_frozen 1") {
		t.Error("no metric says so")
	}
	if err := h.terminate(); err != nil {
		t.Fatal(err)
	}
	h.again()
	if out, _, _ := h.ctl("devices", "ls"); !strings.Contains(out, "frozen") {
		t.Errorf("after a restart:\n%s", out)
	}
	refused()
	if out, errs, status := h.ctl("devices", "unfreeze", "twin"); status != 0 {
		t.Fatalf("status %d, %q, %q", status, out, errs)
	}
	if ws, _, err = h.dialFrom("127.0.0.3", token); err != nil {
		t.Fatal(err)
	}
	ws.Close()
	if out, _, _ := h.ctl("acts"); !strings.Contains(out, "device.unfreeze") {
		t.Errorf("the audit log does not say who did it:\n%s", out)
	}
}
