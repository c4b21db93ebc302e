package bridge_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/bridge"
	"telemetryhub/devices"
)

// knownDevices is a registry without a bucket, for tests in virtual time: sensor-1 has the token "secret", sensor-2
// "secret-2".
type knownDevices struct{}

func (knownDevices) Confirm(context.Context, string, devices.Proof) error { return nil }

func (knownDevices) Current(_ string, p devices.Proof) error {
	if p.ID == "void" {
		return devices.ErrRevoked
	}
	return nil
}

func (knownDevices) Get(id string) (devices.Device, bool) {
	return devices.Device{ID: id, Enabled: true}, id == "sensor-1" || id == "sensor-2"
}

func (knownDevices) Authenticate(id, token string) (devices.Device, devices.Proof, error) {
	if id+token != "sensor-1secret" && id+token != "sensor-2secret-2" {
		return devices.Device{}, devices.Proof{}, devices.ErrCredentials
	}
	return devices.Device{ID: id, Enabled: true}, devices.Proof{Kind: devices.ProofToken, ID: "1"}, nil
}

// inBubble runs a test against a broker in virtual time, whose connections are made by pipe.
func inBubble(t *testing.T, test func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error))) {
	t.Helper()
	inBubbleOf(t, func(*bridge.BrokerConfig) {}, test)
}

func inBubbleOf(t *testing.T, configure func(*bridge.BrokerConfig), test func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error))) {
	t.Helper()
	inBubbleWith(t, configure, func(*bridge.Hub) {}, test)
}

// inBubbleWith is inBubbleOf, with parts of the hub that the test changes.
func inBubbleWith(t *testing.T, configure func(*bridge.BrokerConfig), change func(*bridge.Hub), test func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &hub{t: t, journal: newJournal(), answers: newAnswers(), states: newStates(), metrics: prometheus.NewRegistry(), profile: sameProfile{map[string]devices.Limits{}}}
		h.sessions = devices.NewSessions(devices.Life{}, testLog(t))
		h.admission = devices.NewAdmission(devices.AdmissionConfig{Rate: 1000, Connections: 1000})
		h.sessions.Bind(h.answers)
		cfg := bridge.DefaultBrokerConfig()
		cfg.Listen = bridge.Off
		configure(&cfg)
		parts := h.parts()
		parts.Registry = knownDevices{}
		change(&parts)
		b, err := bridge.OpenBroker(cfg, nil, parts)
		if err != nil {
			t.Fatal(err)
		}
		test(t, h, func(from bridge.Origin) (*raw, <-chan error) {
			ours, theirs := net.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- b.ServeConn(theirs, from) }()
			return newRaw(t, ours, 5), ended
		})
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestBrokerClosesASilentSocket(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		began := time.Now()
		r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTTWSS, Remote: "pipe"})
		r.write([]byte{0x10, 0x40, 0}) // a CONNECT that never comes to its end
		if err := <-ended; err == nil || time.Since(began) != 10*time.Second {
			t.Errorf("ended with %v after %s, want a timeout after 10s", err, time.Since(began))
		}
	})
}

func TestBrokerEndsASessionAfterOneAndAHalfKeepalives(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		for asked, told := range map[uint16]time.Duration{60: 60 * time.Second, 0: time.Hour, 65535: time.Hour} {
			began := time.Now()
			r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTTWSS, Remote: "pipe"})
			hello := connectPacket(5, "c", "sensor-1", "secret")
			hello.Connect.Keepalive = asked
			r.send(hello)
			ack := r.want(packets.Connack)
			if said := time.Duration(ack.Properties.ServerKeepAlive) * time.Second; told != 60*time.Second && said != told {
				t.Errorf("asked for %d s: the server's keepalive is %s, want %s", asked, said, told)
			}
			err := <-ended
			if lived := time.Since(began); err == nil || lived != told*3/2 {
				t.Errorf("asked for %d s: ended with %v after %s, want %s", asked, err, lived, told*3/2)
			}
			if p := h.sessions.Presence("sensor-1"); p.Online || p.Cause != "no packet within the keepalive" || p.Transport != "mqtt+wss" {
				t.Errorf("presence %+v", p)
			}
		}
	})
}

// Credentials that the connection below showed are enough; those of CONNECT beside them must be the same device's, and
// the path's device is the only one.
func TestBrokerTrustsWhoeverProvedTheDeviceBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		const device = "sensor-1"
		good, void := devices.Proof{Kind: devices.ProofToken, ID: "1"}, devices.Proof{Kind: devices.ProofToken, ID: "void"}
		for _, c := range []struct {
			name               string
			shown              string
			proof              devices.Proof
			path               string
			username, password string
			want               byte
		}{
			{"nothing in CONNECT", device, good, "", "", "", 0},
			{"the same name", device, good, "sensor-1", "sensor-1", "", 0},
			{"the same device's token", device, good, "", "sensor-1", "secret", 0},
			{"another name", device, good, "", "sensor-2", "", 0x87},
			{"another device's token", device, good, "", "sensor-2", "secret-2", 0x87},
			{"a wrong token", device, good, "", "sensor-1", "wrong", 0x86},
			{"a token that is void since", device, void, "", "", "", 0x86},
			{"no credentials at all", "", devices.Proof{}, "", "", "", 0x86},
			{"CONNECT's alone", "", devices.Proof{}, "", "sensor-1", "secret", 0},
			{"CONNECT's alone, its path", "", devices.Proof{}, "sensor-1", "sensor-1", "secret", 0},
			{"CONNECT's alone, another's path", "", devices.Proof{}, "sensor-2", "sensor-1", "secret", 0x87},
		} {
			r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTTWSS, Remote: "pipe", Device: c.shown, Proof: c.proof, Path: c.path})
			r.send(connectPacket(5, "c", c.username, c.password))
			if ack := r.want(packets.Connack); ack.ReasonCode != c.want {
				t.Errorf("%s: CONNACK %#x %q, want %#x", c.name, ack.ReasonCode, ack.Properties.ReasonString, c.want)
			}
			_ = r.conn.Close()
			<-ended
		}
	})
}

func TestBrokerGivesUpACommitAtTheEndOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{t: t, journal: newJournal(), answers: newAnswers()}
		h.sessions = devices.NewSessions(devices.Life{}, testLog(t))
		h.admission = devices.NewAdmission(devices.AdmissionConfig{Rate: 1000, Connections: 1000})
		h.sessions.Bind(h.answers)
		cfg := bridge.DefaultBrokerConfig()
		cfg.Listen = bridge.Off
		b, err := bridge.OpenBroker(cfg, nil, bridge.Hub{Registry: knownDevices{}, Profiles: sameProfile{}, Throttle: devices.NewThrottle(h.sessions, nil, testLog(t)), Sessions: h.sessions, Admission: h.admission, Sink: h.journal, States: newStates(), Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		go func() { _ = b.ServeConn(theirs, bridge.Origin{Transport: bridge.TransportMQTTWSS}) }()
		r := newRaw(t, ours, 5)
		r.send(connectPacket(5, "c", "sensor-1", "secret"))
		r.want(packets.Connack)
		h.journal.hold()
		r.publish("devices/sensor-1/telemetry", `{"Temp":1}`, 1, false)
		synctest.Wait()
		ended := make(chan error, 1)
		go func() {
			pk, err := r.read()
			if err == nil && pk.FixedHeader.Type == packets.Disconnect && pk.ReasonCode == 0x8b {
				_, err = r.read()
			}
			ended <- err
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("closed with %v after %s, want a timeout after 5s", err, time.Since(began))
		}
		if err := <-ended; err == nil {
			t.Error("the device got something else than the goodbye")
		}
		if err := b.ServeConn(theirs, bridge.Origin{}); err == nil {
			t.Error("a closed broker takes connections")
		}
	})
}
