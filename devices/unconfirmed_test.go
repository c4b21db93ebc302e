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
	"telemetryhub/wire"
)

// enroller knows one key, enr_good, which gives any device a token, as often as it likes.
type enroller struct {
	registry *devices.Registry
}

func (e *enroller) Knows(key string) bool { return key == "enr_good" }

func (e *enroller) Enrol(ctx context.Context, r devices.EnrolRequest) (devices.Enrolment, error) {
	if r.Key != "enr_good" {
		return devices.Enrolment{}, &devices.EnrolError{Status: 401, Reason: "bad_credentials", Message: "the enrolment key is not valid"}
	}
	if strings.HasPrefix(r.Device, "later") {
		return devices.Enrolment{}, &devices.EnrolError{Status: 503, Reason: "unavailable", Message: "later", RetryAfter: 5 * time.Second}
	}
	by := &devices.Enrolled{Key: "k1", At: time.Now(), Until: time.Now().Add(devices.ConfirmWithin)}
	d, token, err := e.registry.CreateEnrolled(ctx, devices.Device{ID: r.Device, Enrolled: by})
	if errors.Is(err, devices.ErrExists) {
		d, token, err = e.registry.EnrolAgain(ctx, r.Device, func(d *devices.Device) error { d.Enrolled = by; return nil })
	}
	if err != nil {
		return devices.Enrolment{}, err
	}
	return devices.EnrolmentOf(d, token), nil
}

// enrol connects a device by the enrolment key and returns the token that it is given, which it has not confirmed.
func (h *hub) enrol(id string) (*device, string) {
	h.t.Helper()
	ws, _, err := upgrade(h.listener.dial(), "/connect/"+id, bearer("enr_good"))
	if err != nil {
		h.t.Fatalf("connect %s by its enrolment key: %v", id, err)
	}
	d := &device{t: h.t, id: id, ws: ws, frames: make(chan string, 100), pings: make(chan time.Time, 100), ended: make(chan struct{})}
	h.t.Cleanup(func() { _ = ws.Close() })
	go d.read()
	var first struct {
		ID, Method string
		Params     struct{ Token string }
	}
	if got := d.next(); json.Unmarshal([]byte(got), &first) != nil || first.ID != "hub:enrol" || first.Method != "hub.credentials" || !strings.HasPrefix(first.Params.Token, "dev_") {
		h.t.Fatalf("the first frame is %s", got)
	}
	return d, first.Params.Token
}

const confirmation = `{"jsonrpc":"2.0","id":"hub:enrol","result":{}}`

func (h *hub) isUnconfirmed(id string) bool {
	d, _ := h.registry.Get(id)
	return d.Unconfirmed()
}

func TestAnEnrolledDeviceConfirmsBeforeAllElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d, token := h.enrol("new")
		if welcome := d.hello(`{"boot":"b","firmware":"1.4"}`); welcome["device"] != "new" {
			t.Errorf("welcome %v", welcome)
		}
		d.send(`{"id":1,"method":"telemetry","params":{"seq":1,"values":{"t":1}}}`)
		d.wantError("1", wire.CodeCredentials, wire.ReasonUnconfirmed)
		d.send(`{"t":1}`)
		d.wantError("null", wire.CodeCredentials, wire.ReasonUnconfirmed)
		d.send(`{"id":2,"method":"state","params":{"reported":{"a":1}}}`)
		d.wantError("2", wire.CodeCredentials, wire.ReasonUnconfirmed)
		d.send(`{"jsonrpc":"2.0","id":"other","result":{}}`)
		d.wantError(`"other"`, wire.CodeCredentials, wire.ReasonUnconfirmed)
		time.Sleep(5 * time.Second) // longer than a silent device waits for its commands
		if err := h.sessions.Send("new", h.session("new"), wire.Command{ID: "c", Method: "ping"}); err == nil {
			t.Error("a device that has not confirmed was sent a command")
		}
		if len(h.sink.lines()) != 0 || !h.isUnconfirmed("new") {
			t.Errorf("the journal has %q", h.sink.lines())
		}

		d.send(confirmation, `{"id":3,"method":"telemetry","params":{"seq":1,"values":{"t":1}}}`)
		synctest.Wait()
		h.sink.commit()
		d.want(result("3")) // what came right behind the confirmation was not refused
		if h.isUnconfirmed("new") {
			t.Error("it is not confirmed")
		}
		if err := h.sessions.Send("new", h.session("new"), wire.Command{ID: "c", Method: "ping"}); err != nil {
			t.Errorf("a command after the confirmation: %v", err)
		}
		if _, _, err := h.registry.Authenticate("new", token); err != nil {
			t.Errorf("its token: %v", err)
		}
	})
}

func TestAnEnrolledDeviceThatDoesNotConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		silent, _ := h.enrol("silent")
		refusing, _ := h.enrol("refusing")
		refusing.send(`{"jsonrpc":"2.0","id":"hub:enrol","error":{"code":-32601,"message":"no such method"}}`)
		if reason := refusing.wantClose(wire.ClosePolicy); !strings.Contains(reason, "did not take") {
			t.Errorf("closed because %s", reason)
		}
		began := time.Now()
		if reason := silent.wantClose(wire.ClosePolicy); !strings.Contains(reason, "not confirmed") {
			t.Errorf("closed because %s", reason)
		}
		if took := time.Since(began); took < devices.ConfirmWait || took > devices.ConfirmWait+2*time.Second {
			t.Errorf("closed after %v", took)
		}

		// It comes again by the key, and then by the token: its use confirms it.
		first, void := h.enrol("silent")
		second, token := h.enrol("silent")
		first.wantClose(wire.CloseRevoked)
		second.ws.Close()
		if _, _, err := h.registry.Authenticate("silent", void); err == nil {
			t.Error("the token that was replaced is good")
		}
		h.tokens["silent"] = token
		third := h.dial("silent")
		third.send(`{"id":1,"method":"telemetry","params":{"values":{"t":1}}}`)
		synctest.Wait()
		h.sink.commit()
		third.want(result("1"))
		if h.isUnconfirmed("silent") {
			t.Error("its use did not confirm it")
		}
	})
}

func TestARequestWithAnEnrolmentKey(t *testing.T) {
	h := newHub(t)
	for _, c := range []struct {
		name, path, reason string
		header             http.Header
		status             int
	}{
		{"no device", "/connect", "no_device", bearer("enr_good"), 400},
		{"another device", "/connect/new", "wrong_device", basic("d9", "enr_good"), 403},
		{"no such key", "/connect/new", "bad_credentials", bearer("enr_bad"), 401},
		{"no such key, of a device that exists", "/connect/d1", "bad_credentials", bearer("enr_bad"), 401},
		{"no such key, unknown subprotocol", "/connect/new", "bad_credentials", http.Header{"Authorization": {"Bearer enr_bad"}, "Sec-Websocket-Protocol": {"other"}}, 401},
		{"no id", "/connect/a%20b", "", bearer("enr_good"), 500},
		{"the hub's fault", "/connect/later", "unavailable", bearer("enr_good"), 503},
		{"unknown subprotocol", "/connect/new", "subprotocol", http.Header{"Authorization": {"Bearer enr_good"}, "Sec-Websocket-Protocol": {"other"}}, 400},
	} {
		_, resp, err := upgrade(h.listener.dial(), c.path, c.header)
		if !errors.Is(err, websocket.ErrBadHandshake) {
			t.Fatalf("%s: %v", c.name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != c.status || !strings.Contains(string(body), `"reason":"`+c.reason) {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, body)
		}
		if c.status == 503 && resp.Header.Get("Retry-After") != "5" {
			t.Errorf("%s: Retry-After %q", c.name, resp.Header.Get("Retry-After"))
		}
	}
	if _, ok := h.registry.Get("new"); ok {
		t.Error("a request that came to nothing has made a device")
	}
	for id, path := range map[string]string{"by-header": "/connect", "by-url": "/connect/by-url?token=enr_good"} {
		header := http.Header{}
		if id == "by-header" {
			header = basic(id, "enr_good")
		}
		ws, _, err := upgrade(h.listener.dial(), path, header)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		ws.Close()
		if _, ok := h.registry.Get(id); !ok {
			t.Errorf("%s is not there", id)
		}
	}
	if strings.Contains(h.log.String(), "enr_good") {
		t.Error("the key is in the log")
	}
}
