package bridge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/devices"
)

// newHubOf is newHub with what is done about clones and probes.
func newHubOf(t *testing.T, life devices.Life) *hub {
	h := newHub(t)
	h.sessions = devices.NewSessions(life, testLog(t))
	h.sessions.Bind(h.answers)
	return h
}

// Two devices behind one address, told apart by the boots of their readings. With one client id the engine ends the older
// connection before the newer is attached; with two the hub does.
func TestClonesByMQTTAreFrozen(t *testing.T) {
	for name, clientIDs := range map[string][2]string{"one client id": {"c", "c"}, "two client ids": {"a", "b"}} {
		for _, version := range []byte{4, 5} {
			t.Run(fmt.Sprintf("%s, version %d", name, version), func(t *testing.T) {
				h := newHubOf(t, devices.Life{Clones: devices.Clones{Policy: devices.ClonesFreeze, Count: 4, Window: time.Minute, Freeze: time.Hour}})
				b := openBroker(t, h)
				token := h.device("twin")
				var r *raw
				for i := range 5 {
					r = connectRaw(t, b.PlainAddr(), version, clientIDs[i%2], "twin", token)
					r.publish("devices/twin/telemetry", fmt.Sprintf(`{"boot":"%d","seq":%d,"values":{"T":1}}`, i%2, i+1), 1, false)
					if i < 4 {
						r.want(packets.Puback)
					}
				}
				for {
					pk, err := r.read()
					if err != nil {
						break
					}
					if pk.FixedHeader.Type == packets.Disconnect && pk.ReasonCode != 0x8A {
						t.Errorf("DISCONNECT %#x", pk.ReasonCode)
					}
				}
				if p := h.wantOnline("twin", false, ""); p.Frozen == nil || p.Frozen.Count != 4 || len(p.Frozen.Sides) != 2 {
					t.Fatalf("presence %+v", p)
				}
				again := dialRaw(t, b.PlainAddr(), version)
				again.send(connectPacket(version, "c", "twin", token))
				want := map[byte]byte{4: 5, 5: 0x8A}[version]
				if ack := again.want(packets.Connack); ack.ReasonCode != want {
					t.Errorf("CONNACK %#x, want %#x", ack.ReasonCode, want)
				}
				h.sessions.Unfreeze("twin", "otto")
				connectRaw(t, b.PlainAddr(), version, "c", "twin", token)
			})
		}
	}
}

// One device on a bad network: its client id, its boot, again and again.
func TestAReconnectingMQTTDeviceIsNotFrozen(t *testing.T) {
	h := newHubOf(t, devices.Life{Clones: devices.Clones{Policy: devices.ClonesFreeze, Count: 4, Window: time.Minute, Freeze: time.Hour}})
	b := openBroker(t, h)
	token := h.device("d")
	for i := range 12 {
		r := connectRaw(t, b.PlainAddr(), 4, "c", "d", token)
		r.publish("devices/d/telemetry", fmt.Sprintf(`{"boot":"b","seq":%d,"values":{"T":1}}`, i+1), 1, false)
		r.want(packets.Puback)
	}
	if f := h.sessions.Frozen("d"); f != nil {
		t.Errorf("frozen %+v", f)
	}
}

// A probe comes on the topic of commands; a message answers it, and PINGREQ does not.
func TestAProbeByMQTT(t *testing.T) {
	h := newHubOf(t, devices.Life{Probes: devices.Probes{Timeout: time.Minute}})
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "d", h.device("d"))
	h.wantOnline("d", true, "")
	if _, err := h.sessions.Probe(t.Context(), "d"); err == nil {
		t.Fatal("probed without a subscription")
	}
	r.subscribe(1, "devices/d/command")
	outcome := make(chan devices.Probed, 1)
	go func() {
		p, err := h.sessions.Probe(t.Context(), "d")
		if err != nil {
			t.Error(err)
		}
		outcome <- p
	}()
	if pk := r.want(packets.Publish); string(pk.Payload) != `{"jsonrpc":"2.0","id":"hub.probe","method":"hub.probe","params":{}}` || pk.TopicName != "devices/d/command" {
		t.Errorf("%s on %s", pk.Payload, pk.TopicName)
	}
	r.sync()
	if len(outcome) != 0 {
		t.Fatal("a PINGREQ was taken for an answer")
	}
	r.publish("devices/d/response", `{"id":"hub.probe","error":{"code":-32601,"message":"unknown"}}`, 1, false)
	r.want(packets.Puback)
	if p := next(t, "outcome", outcome); p.Outcome != devices.ProbeAnswered {
		t.Errorf("%+v", p)
	}
	if n := len(h.answers.answered); n != 0 {
		t.Errorf("the ledger was told %d answers", n)
	}
}
