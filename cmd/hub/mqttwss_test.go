package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
)

// paho connects a device by MQTT, over whatever the URL says, and tells when it was cut.
func (h *hubProcess) paho(url, device, token string, header http.Header) (client mqtt.Client, cut chan error, err error) {
	cut = make(chan error, 1)
	options := mqtt.NewClientOptions().AddBroker(url).SetClientID(device).SetUsername(device).SetPassword(token).SetHTTPHeaders(header).
		SetTLSConfig(h.tls()).SetAutoReconnect(false).SetConnectTimeout(time.Minute).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { cut <- err })
	client = mqtt.NewClient(options)
	connecting := client.Connect()
	connecting.Wait()
	return client, cut, connecting.Error()
}

// A device whose credentials are void is out within a second, whatever it came by, and does not come in again.
func TestARevokedDeviceIsOutOnEachTransport(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	wss := strings.Replace(h.url, "https", "wss", 1)
	for _, revoke := range []struct {
		name string
		do   func(device string) int
	}{
		{"disabled", func(device string) int {
			return h.call(http.MethodPatch, "/api/v1/devices/"+device, map[string]bool{"enabled": false}, nil)
		}},
		{"given another token", func(device string) int { return h.call(http.MethodPost, "/api/v1/devices/"+device+"/token", nil, nil) }},
		{"revoked", func(device string) int {
			var all struct{ Credentials []struct{ ID string } }
			h.call(http.MethodGet, "/api/v1/devices/"+device+"/credentials", nil, &all)
			return h.call(http.MethodDelete, "/api/v1/devices/"+device+"/credentials/"+all.Credentials[0].ID, nil, nil)
		}},
		{"deleted", func(device string) int { return h.call(http.MethodDelete, "/api/v1/devices/"+device, nil, nil) }},
	} {
		tokens, cuts := map[string]string{}, map[string]chan error{}
		for _, transport := range []string{"wss", "mqtt", "mqtt.wss"} {
			tokens[transport] = h.newDevice(transport)
		}
		ws := h.dial("wss", tokens["wss"])
		cut := make(chan error, 1)
		cuts["wss"] = cut
		go func() {
			_, _, err := ws.ReadMessage()
			cut <- err
		}()
		urls := map[string]string{"mqtt": strings.Replace(h.mqtt, "mqtts", "ssl", 1), "mqtt.wss": wss + "/mqtt"}
		for transport, url := range urls {
			client, cut, err := h.paho(url, transport, tokens[transport], nil)
			if err != nil {
				t.Fatalf("%s: %v", transport, err)
			}
			t.Cleanup(func() { client.Disconnect(0) })
			cuts[transport] = cut
		}
		h.online(3)
		for transport, cut := range cuts {
			began := time.Now()
			if status := revoke.do(transport); status >= 300 {
				t.Fatalf("%s %s: status %d", transport, revoke.name, status)
			}
			err := <-cut
			if took := time.Since(began); took > 10*time.Second { // at once; whatever else ends a connection takes longer
				t.Errorf("%s %s: out after %v", transport, revoke.name, took)
			}
			if transport != "mqtt" && !websocket.IsCloseError(err, 4003) {
				t.Errorf("%s %s: closed with %v, want 4003", transport, revoke.name, err)
			}
			if url, ok := urls[transport]; ok {
				if _, _, err := h.paho(url, transport, tokens[transport], nil); err == nil {
					t.Errorf("%s %s: let in again", transport, revoke.name)
				}
			}
		}
		for transport := range cuts {
			if revoke.name != "deleted" {
				h.call(http.MethodDelete, "/api/v1/devices/"+transport, nil, nil)
			}
		}
	}
}

// Without a listener of its own MQTT is on the one port all the same; what the request shows and what CONNECT says must
// be one device, and the path names it.
func TestMQTTOnTheOnePortAlone(t *testing.T) {
	t.Parallel()
	h := &hubProcess{t: t, data: t.TempDir()}
	h.start("127.0.0.1:0", "off")
	t.Cleanup(h.kill)
	if h.mqtt != "" {
		t.Fatalf("MQTT listens on %s", h.mqtt)
	}
	one, two := h.newDevice("one"), h.newDevice("two")
	wss := strings.Replace(h.url, "https", "wss", 1)
	bearer := http.Header{"Authorization": {"Bearer " + one}}
	for _, c := range []struct {
		name, path    string
		header        http.Header
		device, token string
		ok            bool
	}{
		{"CONNECT alone", "/mqtt", nil, "one", one, true},
		{"CONNECT alone, on /connect", "/connect", nil, "one", one, true},
		{"CONNECT alone, its path", "/connect/one", nil, "one", one, true},
		{"CONNECT alone, another's path", "/connect/two", nil, "one", one, false},
		{"the request alone", "/connect/one", bearer, "", "", true},
		{"both", "/mqtt", bearer, "one", one, true},
		{"both, of two devices", "/mqtt", bearer, "two", two, false},
		{"query", "/connect?token=" + two, nil, "", "", true},
		{"wrong", "/mqtt", nil, "one", two, false},
	} {
		client, _, err := h.paho(wss+c.path, c.device, c.token, c.header)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want it let in: %v", c.name, err, c.ok)
		}
		client.Disconnect(0)
	}
	out, _, _ := h.ctl("why", "one")
	for _, reason := range []string{"other_device", "wrong_device", "bad_credentials"} {
		if !strings.Contains(out, reason) {
			t.Errorf("why does not tell of %s:\n%s", reason, out)
		}
	}
	_, cut, err := h.paho(wss+"/mqtt", "one", one, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.terminate(); err != nil {
		t.Error(err)
	}
	if err := <-cut; !websocket.IsCloseError(err, 1012) || !strings.Contains(err.Error(), "retry_after_ms") {
		t.Errorf("the hub's stop closed with %v, want 1012 and when to come back", err)
	}
}
