package bridge_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
)

// Two devices with one client id have a session each, whatever they do [MQTT-3.1.3-2 within an identity].
func TestOneClientIDOfTwoDevices(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		cfg := bridge.DefaultBrokerConfig()
		talkative(&cfg)
		b := openBrokerOf(t, h, cfg)
		first, second := h.device("sensor-1"), h.device("sensor-2")
		one, _ := dial(t, b, version, lasting(version, "same", "sensor-1", first, 100))
		one.subscribe(1, "chat/one")
		two, present := dial(t, b, version, lasting(version, "same", "sensor-2", second, 100))
		if present {
			t.Error("the second device has the first one's session")
		}
		two.subscribe(1, "chat/two")
		one.sync() // it was not taken over
		_ = one.conn.Close()
		h.wantOnline("sensor-1", false, "")
		two.publish("chat/one", "for one", 1, false)
		if ack := two.want(packets.Puback); ack.ReasonCode != 0 {
			t.Errorf("PUBACK %#x: the first one's session is gone", ack.ReasonCode)
		}
		two.sync() // nothing of it came here
		_, _ = dial(t, b, version, connectPacket(version, "same", "sensor-2", second))
		one, present = dial(t, b, version, lasting(version, "same", "sensor-1", first, 100))
		if !present {
			t.Error("a clean start of the second device took the first one's session")
		}
		one.wantMessage("chat/one", "for one", 1, false)
	}
}

// What a device subscribes to, in both versions.
func TestConformanceOfSubscriptions(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			h := newHub(t)
			cfg := bridge.DefaultBrokerConfig()
			talkative(&cfg)
			b := openBrokerOf(t, h, cfg)
			r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
			bad := map[byte]byte{4: 0x80, 5: 0x8f}[version]
			// MQTT-3.8.4-4, 3.8.4-5, 3.8.4-6: one SUBACK with a code for each, in their order.
			if codes := r.subscribe(1, "chat/a", "chat/#/b", "chat/+/+", "chat/b+"); !bytes.Equal(codes, []byte{1, bad, 1, bad}) {
				t.Errorf("SUBACK %#x", codes)
			}
			say := func(topic, payload string) {
				t.Helper()
				r.publish(topic, payload, 0, false)
			}
			say("chat/a", "1")
			r.wantMessage("chat/a", "1", 0, false)
			say("chat/a/b", "2")
			r.wantMessage("chat/a/b", "2", 0, false)
			say("chat/A", "no") // MQTT-4.7.3-4: topics are told apart by case
			say("chat/a/", "3") // and an empty level is one
			r.wantMessage("chat/a/", "3", 0, false)
			say("/chat/a", "no")
			r.sync()
			r.subscribe(0, "chat/a") // MQTT-3.8.4-3: in the place of the one before
			r.publish("chat/a", "4", 1, false)
			r.wantOwn("chat/a", "4", 0, false)
			// MQTT-3.10.4-1 to 3.10.4-5: UNSUBACK, also for what was not subscribed to; nothing comes any more.
			r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 9, Filters: packets.Subscriptions{{Filter: "chat/a"}, {Filter: "chat/z"}, {Filter: "chat/+"}}})
			if ack := r.want(packets.Unsuback); ack.PacketID != 9 || version == 5 && !bytes.Equal(ack.ReasonCodes, []byte{0, 0x11, 0x11}) {
				t.Errorf("UNSUBACK %d %#x", ack.PacketID, ack.ReasonCodes)
			}
			say("chat/a", "no")
			r.sync()
			say("chat/x/y", "5") // the other one is there still
			r.wantMessage("chat/x/y", "5", 0, false)
		})
	}
}

// Of QoS 2, for messages to the hub [MQTT-4.3.3-8 to 4.3.3-12]; and packet ids of one direction have nothing to do with
// those of the other [MQTT-2.2.1-5].
func TestConformanceOfQoS2(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		cfg := bridge.DefaultBrokerConfig()
		talkative(&cfg)
		b := openBrokerOf(t, h, cfg)
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
		r.subscribe(1, "chat/a")
		r.lastID = 0
		first := r.publish("devices/sensor-1/telemetry", `{"n":1}`, 2, false)
		r.want(packets.Pubrec)
		r.publish("chat/a", "x", 1, false) // comes back with the packet id 1, as the one that waits for PUBREL has
		r.ack(r.wantOwn("chat/a", "x", 1, false).PacketID)
		again := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2, Dup: true}, TopicName: "devices/sensor-1/telemetry", Payload: []byte(`{"n":1}`), PacketID: first}
		r.send(again)
		if ack := r.want(packets.Pubrec); ack.PacketID != first || ack.ReasonCode != 0 {
			t.Errorf("v%d: PUBREC %d %#x", version, ack.PacketID, ack.ReasonCode)
		}
		release := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: first}
		r.send(release)
		if ack := r.want(packets.Pubcomp); ack.PacketID != first || ack.ReasonCode != 0 {
			t.Errorf("v%d: PUBCOMP %d %#x", version, ack.PacketID, ack.ReasonCode)
		}
		again.FixedHeader.Dup = false
		again.Payload = []byte(`{"n":2}`)
		r.send(again) // MQTT-4.3.3-12: another message
		r.want(packets.Pubrec)
		h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=2"})
	}
}
