package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices"
)

// enroller knows one key, enr_good, which gives any device a token, as often as it likes.
type enroller struct{ registry *devices.Registry }

func (e enroller) Knows(key string) bool { return key == "enr_good" }

func (e enroller) Enrol(ctx context.Context, r devices.EnrolRequest) (devices.Enrolment, error) {
	switch {
	case r.Key != "enr_good":
		return devices.Enrolment{}, &devices.EnrolError{Status: 401, Reason: "bad_credentials", Message: "the enrolment key is not valid"}
	case r.Device == "taken":
		return devices.Enrolment{}, &devices.EnrolError{Status: 409, Reason: "device_exists", Message: "a device with this id exists"}
	case r.Device == "later":
		return devices.Enrolment{}, &devices.EnrolError{Status: 503, Reason: "unavailable", Message: "not now", RetryAfter: 5 * time.Second}
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

// credentials expects hub.credentials and returns the token in it.
func (r *raw) credentials(device string) string {
	r.t.Helper()
	pk := r.want(packets.Publish)
	var frame struct {
		ID, Method string
		Params     struct{ Token string }
	}
	if err := json.Unmarshal(pk.Payload, &frame); err != nil || pk.TopicName != "devices/"+device+"/command" || frame.ID != "hub:enrol" || frame.Method != "hub.credentials" || frame.Params.Token == "" {
		r.t.Fatalf("on %s came %s", pk.TopicName, pk.Payload)
	}
	return frame.Params.Token
}

const confirmation = `{"id":"hub:enrol","result":{}}`

func TestBrokerEnrolsADevice(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			h := newHub(t)
			b := openBroker(t, h)
			r := connectRaw(t, b.PlainAddr(), version, "c", "new", "enr_good")
			h.wantOnline("new", true, "mqtt")
			r.subscribe(1, "devices/new/command", "devices/new/desired")
			token := r.credentials("new")
			if d, _ := h.registry.Get("new"); !d.Unconfirmed() {
				t.Error("it is confirmed before it has answered")
			}
			select {
			case <-h.answers.ready:
				t.Error("it is ready for commands before it has answered")
			default:
			}
			if version == 5 { // which has a word for it
				r.publish("devices/new/telemetry", `{"Temp":20.5}`, 1, false)
				if pk := r.want(packets.Puback); pk.ReasonCode != 0x87 || !strings.Contains(pk.Properties.ReasonString, "hub.credentials") {
					t.Errorf("a reading before the confirmation: %#x %q", pk.ReasonCode, pk.Properties.ReasonString)
				}
			}
			r.publish("devices/new/response", confirmation, 1, false)
			r.publish("devices/new/telemetry", `{"Temp":21.5}`, 1, false)
			for range 2 {
				if pk := r.want(packets.Puback); pk.ReasonCode != 0 {
					t.Errorf("PUBACK %#x %s", pk.ReasonCode, pk.Properties.ReasonString)
				}
			}
			h.journal.wantDurable(t, entry{"new", "telemetry Temp=21.5"})
			next(t, "ready", h.answers.ready)
			if d, _ := h.registry.Get("new"); d.Unconfirmed() {
				t.Error("it has answered and is not confirmed")
			}
			connectRaw(t, b.PlainAddr(), version, "c2", "new", token).sync()
		})
	}
}

// TestBrokerAcknowledgesNothingOfAnUnconfirmedDevice holds that 3.1.1, which has no word for a refusal, is not told that
// a reading is safe.
func TestBrokerAcknowledgesNothingOfAnUnconfirmedDevice(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "new", "enr_good")
	r.publish("devices/new/telemetry", `{"Temp":20.5}`, 1, false)
	r.wantClosed()
	h.wantOnline("new", false, "mqtt")
	// It comes again by the key, and refuses what it gets.
	r = connectRaw(t, b.PlainAddr(), 4, "c", "new", "enr_good")
	r.subscribe(0, "devices/new/command")
	lost := r.credentials("new")
	r.publish("devices/new/response", `{"id":"hub:enrol","error":{"code":-32601,"message":"no"}}`, 1, false)
	if pk, err := r.read(); err == nil && pk.FixedHeader.Type == packets.Puback { // of the answer, which was taken
		r.wantClosed()
	}
	r = connectRaw(t, b.PlainAddr(), 4, "c", "new", "enr_good")
	r.subscribe(0, "devices/new/command")
	if token := r.credentials("new"); token == lost {
		t.Error("it got the same token again")
	}
	if _, _, err := h.registry.Authenticate("new", lost); err == nil {
		t.Error("the token before is good")
	}
}

func TestBrokerRefusesEnrolment(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	for _, c := range []struct {
		device, key string
		v4, v5      byte
	}{
		{"new", "enr_bad", 4, 0x86},
		{"sensor-1", "enr_bad", 4, 0x86},
		{"taken", "enr_good", 5, 0x87},
		{"later", "enr_good", 3, 0x88},
	} {
		for version, want := range map[byte]byte{4: c.v4, 5: c.v5} {
			r := dialRaw(t, b.PlainAddr(), version)
			r.send(connectPacket(version, "c", c.device, c.key))
			ack := r.want(packets.Connack)
			if ack.ReasonCode != want || version == 5 && ack.Properties.ReasonString == "" {
				t.Errorf("%s with %s: CONNACK %#x %q, want %#x", c.device, c.key, ack.ReasonCode, ack.Properties.ReasonString, want)
			}
			r.wantClosed()
		}
	}
	if _, ok := h.registry.Get("new"); ok {
		t.Error("a refused CONNECT has made a device")
	}
}

func TestBrokerEndsAConnectionThatIsNotConfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		r, ended := connect(bridge.Origin{
			Transport: bridge.TransportMQTTWSS, Remote: "pipe", Device: "sensor-1", Proof: devices.Enrolment{Token: "dev_x"}.OfferedProof(),
		})
		r.send(connectPacket(5, "c", "", ""))
		r.want(packets.Connack)
		began := time.Now()
		go func() { _, _ = io.Copy(io.Discard, r.in) }()
		<-ended
		if lived := time.Since(began); lived < devices.ConfirmWait || lived > devices.ConfirmWait+2*time.Second {
			t.Errorf("it lived %s, want %s", lived, devices.ConfirmWait)
		}
		if p := h.sessions.Presence("sensor-1"); p.Online || !strings.Contains(p.Cause, "not confirmed") {
			t.Errorf("presence %+v", p)
		}
	})
}
