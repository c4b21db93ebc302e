package bridge_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
)

// subscribeAs sends a SUBSCRIBE with a packet id of the test's own.
func (r *raw) subscribeAs(id uint16, filters ...packets.Subscription) {
	r.t.Helper()
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: id, Filters: filters})
}

// What is published between a SUBSCRIBE and its SUBACK is newer than what was retained before: that does not come any more.
func TestNothingOlderThanWhatCameIsRetained(t *testing.T) {
	inBubbleOf(t, talkative, func(t *testing.T, _ *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		open := func(device, token string) (*raw, <-chan error) {
			r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
			r.send(connectPacket(5, "c", device, token))
			r.want(packets.Connack)
			return r, ended
		}
		says, saysEnded := open("sensor-2", "secret-2")
		says.publish("chat/a", "old", 1, true)
		says.want(packets.Puback)
		hears, hearsEnded := open("sensor-1", "secret")
		hears.subscribeAs(1, packets.Subscription{Filter: "chat/#"})
		synctest.Wait() // SUBACK waits to be read
		says.publish("chat/a", "new", 1, true)
		says.want(packets.Puback)
		hears.want(packets.Suback)
		hears.wantMessage("chat/a", "new", 0, false)
		hears.sync()
		says.publish("chat/b", "after", 1, false) // behind all that was retained
		says.want(packets.Puback)
		hears.wantMessage("chat/b", "after", 0, false)
		for _, r := range []*raw{says, hears} {
			_ = r.conn.Close()
		}
		<-saysEnded
		<-hearsEnded
	})
}

// Of a filter that is in one SUBSCRIBE more than once the last counts, and what is retained comes once.
func TestAFilterThatIsThereTwiceCountsOnce(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		cfg := bridge.DefaultBrokerConfig()
		talkative(&cfg)
		b := openBrokerOf(t, h, cfg)
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
		r.publish("chat/a", "x", 1, true)
		r.want(packets.Puback)
		twice := []packets.Subscription{{Filter: "chat/#", Qos: 1}, {Filter: "chat/#", Qos: 0}, {Filter: "chat/+", RetainHandling: 2}, {Filter: "chat/#", Qos: 1}, {Filter: "chat/#", Qos: 0}}
		r.subscribeAs(9, twice...)
		if codes := r.want(packets.Suback).ReasonCodes; !bytes.Equal(codes, []byte{1, 0, 0, 1, 0}) {
			t.Errorf("v%d: SUBACK %#x", version, codes)
		}
		r.wantMessage("chat/a", "x", 0, true)
		if version == 4 { // which has no retain handling
			r.wantMessage("chat/a", "x", 0, true)
		}
		r.sync()
		if version == 5 { // known, so it is not new the second time either
			again := packets.Subscription{Filter: "chat/#", RetainHandling: 1}
			r.subscribeAs(9, again, again)
			r.want(packets.Suback)
			r.sync()
		}
	}
}

// A packet id belongs to a message of QoS 2 until its PUBREL. A SUBSCRIBE or UNSUBSCRIBE that has it is answered so, and
// does what the answer says.
func TestASubscribeWithAPacketIDInUseDoesNothing(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		cfg := bridge.DefaultBrokerConfig()
		talkative(&cfg)
		cfg.MaxSubscriptions = 2
		b := openBrokerOf(t, h, cfg)
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
		id := r.publish("devices/sensor-1/telemetry", `{"n":1}`, 2, false)
		r.want(packets.Pubrec)
		code := map[byte]byte{4: 0x80, 5: 0x91}[version]
		r.subscribeAs(id, packets.Subscription{Filter: "chat/a"}, packets.Subscription{Filter: "other"}, packets.Subscription{Filter: "chat/a"})
		if codes := r.want(packets.Suback).ReasonCodes; !bytes.Equal(codes, []byte{code, code, code}) {
			t.Errorf("v%d: SUBACK %#x, want %#x", version, codes, code)
		}
		r.publish("chat/a", "x", 0, false)
		r.sync() // it did not come back

		r.subscribe(0, "chat/a")
		r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: id, Filters: packets.Subscriptions{{Filter: "chat/a"}, {Filter: "chat/b"}}})
		if ack := r.want(packets.Unsuback); version == 5 && !bytes.Equal(ack.ReasonCodes, []byte{code, code}) {
			t.Errorf("UNSUBACK %#x", ack.ReasonCodes)
		}
		r.publish("chat/a", "y", 0, false)
		if version == 5 { // 3.1.1's UNSUBACK says that it is gone
			r.wantMessage("chat/a", "y", 0, false)
			r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 99, Filters: packets.Subscriptions{{Filter: "chat/a"}}})
			r.want(packets.Unsuback)
		}
		r.sync()
		if codes := r.subscribe(0, "chat/c", "chat/d"); !bytes.Equal(codes, []byte{0, 0}) { // nothing else counts
			t.Errorf("v%d: SUBACK %#x", version, codes)
		}
	}
}
