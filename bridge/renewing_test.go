package bridge_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/devices"
)

// given is hub.credentials, or what came on issued.
type given struct {
	ID, Method string
	Params     struct{ Token string }
	Token      string
	Error      struct{ Data struct{ Reason string } }
}

// given expects a message on the device's topic about s, not retained.
func (r *raw) given(device, s string) (g given) {
	r.t.Helper()
	pk := r.want(packets.Publish)
	if err := json.Unmarshal(pk.Payload, &g); err != nil || pk.TopicName != "devices/"+device+"/"+s || pk.FixedHeader.Retain || pk.FixedHeader.Qos != 0 {
		r.t.Fatalf("on %s came %s, %v", pk.TopicName, pk.Payload, err)
	}
	return g
}

// expired gives a device a token that ends at once, and waits for that.
func (h *hub) expired(device string) string {
	h.t.Helper()
	secret, made, err := h.registry.AddToken(h.t.Context(), device, devices.TokenRequest{Life: time.Millisecond})
	if err != nil {
		h.t.Fatal(err)
	}
	<-time.After(time.Until(made.Expires))
	return secret
}

func TestBrokerRotatesATokenOnTheOpenConnection(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		token := h.device("sensor-1")
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
		r.subscribe(1, "devices/sensor-1/command")
		rotated := make(chan devices.RotationOutcome, 1)
		go func() {
			_, outcome, said, err := h.rotation.Rotate(context.Background(), "sensor-1")
			if err != nil || said != "" {
				t.Errorf("rotated: %q, %v", said, err)
			}
			rotated <- outcome
		}()
		g := r.given("sensor-1", "command")
		if g.Method != "hub.credentials" || g.Params.Token == "" {
			t.Fatalf("offered %+v", g)
		}
		r.publish("devices/sensor-1/response", `{"id":"`+g.ID+`","result":{}}`, 1, false)
		if o := next(t, "outcome", rotated); o != devices.Confirmed {
			t.Errorf("outcome %s", o)
		}
		r.want(packets.Puback)
		r.sync()
		for _, token := range []string{token, g.Params.Token} {
			if _, _, err := h.registry.Authenticate("sensor-1", token); err != nil {
				t.Errorf("one of the two: %v", err)
			}
		}
		connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", g.Params.Token).sync()
	}
}

func TestBrokerGivesADeviceTheTokenThatItAsksFor(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
		refused := byte(0) // which 3.1.1 has no word for
		if version == 5 {
			refused = 0x83
		}
		r.wantRefusal(r.publish("devices/sensor-1/credentials", `{}`, 1, false), 1, refused) // it would not hear the answer
		if d, _ := h.registry.Get("sensor-1"); len(d.Tokens) != 1 {
			t.Errorf("it has %d tokens", len(d.Tokens))
		}
		r.subscribe(0, "devices/sensor-1/issued")
		r.publish("devices/sensor-1/credentials", `{}`, 0, false)
		fresh := r.given("sensor-1", "issued")
		if _, _, err := h.registry.Authenticate("sensor-1", fresh.Token); err != nil {
			t.Errorf("what it was given: %v", err)
		}
		for payload, reason := range map[string]string{"": "renewed_just_now", `{"csr":"x"}`: "no_certificates", `{`: "bad_json"} {
			r.publish("devices/sensor-1/credentials", payload, 0, false)
			if g := r.given("sensor-1", "issued"); g.Error.Data.Reason != reason || g.Token != "" {
				t.Errorf("%q is answered %+v, want %s", payload, g, reason)
			}
		}
		r.sync()
		// Nobody else's.
		if codes := r.subscribe(0, "devices/sensor-2/issued"); codes[0] < 0x80 {
			t.Errorf("subscribed to another device's with %#x", codes[0])
		}
	}
}

func TestBrokerLetsAnExpiredTokenRenewAndNothingElse(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		h.device("sensor-1")
		token := h.expired("sensor-1")
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
		r.subscribe(1, "devices/sensor-1/#")
		for _, topic := range []string{"telemetry", "event", "state", "response"} {
			id := r.publish("devices/sensor-1/"+topic, `{"n":1}`, 1, false)
			if version == 5 {
				r.wantRefusal(id, 1, 0x87)
			}
		}
		r.sync() // to 3.1.1 nothing was acknowledged: it sends that again when it has its token
		if p := h.sessions.Presence("sensor-1"); p.Online || !p.ConnectedAt.IsZero() {
			t.Errorf("presence %+v", p)
		}
		r.publish("devices/sensor-1/credentials", "", 1, false)
		var fresh given
		for range 2 { // the PUBACK and the answer, in either order
			pk, err := r.read()
			if err != nil {
				t.Fatal(err)
			}
			if pk.FixedHeader.Type == packets.Publish {
				_ = json.Unmarshal(pk.Payload, &fresh)
			}
		}
		if !strings.HasPrefix(fresh.Token, "dev_") {
			t.Fatalf("given %+v", fresh)
		}
		renewed := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", fresh.Token)
		renewed.publish("devices/sensor-1/telemetry", `{"n":2}`, 1, false)
		renewed.want(packets.Puback)
		h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=2"})
		h.wantOnline("sensor-1", true, "mqtt")
	}
}
