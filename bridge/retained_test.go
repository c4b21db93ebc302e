package bridge_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/bridge"
	"telemetryhub/devices"
)

func TestRetainedMessages(t *testing.T) {
	h := newHub(t)
	cfg := plant()
	cfg.MaxRetained = 3
	b := openBrokerOf(t, h, cfg)
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.device("press-1"))
	token := h.display("display-1")
	publish := func(topic, payload string, want byte) {
		t.Helper()
		press.publish(topic, payload, 1, true)
		if ack := press.want(packets.Puback); ack.ReasonCode != want || want > 0x10 && ack.Properties.ReasonString == "" {
			t.Fatalf("%s: PUBACK %#x %q, want %#x", topic, ack.ReasonCode, ack.Properties.ReasonString, want)
		}
	}
	publish("plant/press-1/mode", "stop", 0x10)
	publish("plant/press-1/mode", "run", 0x10)
	publish("plant/press-1/speed", "1", 0x10)
	publish("plant/press-1/gone", "1", 0x10)
	publish("plant/press-1/fourth", "1", 0x97)
	publish("plant/press-1/gone", "", 0x10)
	publish("plant/press-1/gone", "", 0x10)
	wantBoth := func(b *bridge.Broker, version byte) {
		t.Helper()
		display := connectRaw(t, b.PlainAddr(), version, "d", "display-1", token)
		display.subscribe(1, "plant/+/mode")
		display.ack(display.wantMessage("plant/press-1/mode", "run", 1, true).PacketID)
		display.subscribe(0, "plant/press-1/#")
		got := map[string]string{}
		for range 2 {
			pk := display.want(packets.Publish)
			if !pk.FixedHeader.Retain || pk.FixedHeader.Qos != 0 {
				t.Errorf("%s: retain %v, QoS %d", pk.TopicName, pk.FixedHeader.Retain, pk.FixedHeader.Qos)
			}
			got[pk.TopicName] = string(pk.Payload)
		}
		if len(got) != 2 || got["plant/press-1/mode"] != "run" || got["plant/press-1/speed"] != "1" {
			t.Errorf("retained: %v", got)
		}
		display.sync()
	}
	wantBoth(b, 4)
	wantBoth(b, 5)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.metrics = prometheus.NewRegistry()
	b = openBrokerOf(t, h, cfg)
	wantBoth(b, 5) // they outlive the hub
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	cfg.Grants[0].Retain = false
	h.metrics = prometheus.NewRegistry()
	b = openBrokerOf(t, h, cfg)
	press = connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.token("press-1"))
	publish("plant/press-1/mode", "x", 0x87)
	h.journal.wantRefused(t, entry{"press-1", bridge.ReasonRetainedFull}, entry{"press-1", bridge.ReasonRetainNotGranted})
}

// token gives a device another token.
func (h *hub) token(device string) string {
	h.t.Helper()
	token, err := h.registry.NewToken(h.t.Context(), device)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// What a device has not acknowledged comes again on its next connection, first, with its packet id and DUP; what came
// meanwhile follows.
func TestASessionHoldsWhatItsDeviceMisses(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		cfg := plant()
		cfg.MaxQueued = 10
		b := openBrokerOf(t, h, cfg)
		token := h.display("display-1")
		display, present := dial(t, b, version, lasting(version, "d", "display-1", token, 100))
		if present {
			t.Error("session present before there was one")
		}
		display.subscribe(1, "plant/#")
		press := connectRaw(t, b.PlainAddr(), version, "p", "press-1", h.device("press-1"))
		publish := func(payload string, qos byte) {
			t.Helper()
			press.publish("plant/press-1/mode", payload, qos, false)
			if qos == 1 {
				if ack := press.want(packets.Puback); ack.ReasonCode != 0 {
					t.Fatalf("PUBACK %#x", ack.ReasonCode)
				}
			}
		}
		publish("a", 1)
		publish("b", 1)
		a, bb := display.wantMessage("plant/press-1/mode", "a", 1, false), display.wantMessage("plant/press-1/mode", "b", 1, false)
		_ = display.conn.Close()
		h.wantOnline("display-1", false, "")
		publish("lost", 0)
		for i := range 13 {
			publish(fmt.Sprint(i), 1)
		}
		display, present = dial(t, b, version, lasting(version, "d", "display-1", token, 100))
		if !present {
			t.Fatal("no session present")
		}
		for i, before := range []packets.Packet{a, bb} {
			again := display.wantMessage("plant/press-1/mode", string("ab"[i]), 1, false)
			if !again.FixedHeader.Dup || again.PacketID != before.PacketID {
				t.Errorf("sent again: DUP %v, packet id %d, was %d", again.FixedHeader.Dup, again.PacketID, before.PacketID)
			}
			display.ack(again.PacketID)
		}
		for i := 3; i < 13; i++ { // the oldest went
			pk := display.wantMessage("plant/press-1/mode", fmt.Sprint(i), 1, false)
			if pk.FixedHeader.Dup {
				t.Error("DUP at the first time")
			}
			display.ack(pk.PacketID)
		}
		display.sync()
		if !slices.ContainsFunc(h.sessions.Events("display-1"), func(e devices.Event) bool { return e.Reason == "queue_full" && e.Limit == 10 }) {
			t.Error("the recorder says nothing of what went")
		}
		_ = display.conn.Close()
		h.wantOnline("display-1", false, "")
		if _, present = dial(t, b, version, connectPacket(version, "d", "display-1", token)); present {
			t.Error("a clean session is present")
		}
		press.publish("plant/press-1/mode", "x", 1, false)
		if ack := press.want(packets.Puback); version == 5 && ack.ReasonCode != 0x10 {
			t.Errorf("PUBACK %#x: the clean session has the old one's subscription", ack.ReasonCode)
		}
	}
}

// In virtual time: sessions end, messages expire, and wills wait.
func TestExpiryOfSessionsAndMessages(t *testing.T) {
	inBubbleOf(t, talkative, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		open := func(pk packets.Packet) (*raw, bool, <-chan error) {
			r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
			r.send(pk)
			ack := r.want(packets.Connack)
			if ack.ReasonCode != 0 {
				t.Fatalf("CONNACK %#x", ack.ReasonCode)
			}
			return r, ack.SessionPresent, ended
		}
		shut := func(r *raw, ended <-chan error) {
			_ = r.conn.Close()
			<-ended
		}
		r, _, ended := open(lasting(5, "d", "sensor-1", "secret", 60))
		r.subscribe(1, "chat/#")
		shut(r, ended)
		silent := connectPacket(5, "p", "sensor-2", "secret-2")
		silent.Connect.Keepalive = 0
		sender, _, senderEnded := open(silent)
		say := func(payload string, expiry uint32) {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: payload == "kept"}, TopicName: "chat/a", Payload: []byte(payload), PacketID: 1}
			pk.Properties.MessageExpiryInterval = expiry
			sender.send(pk)
			sender.want(packets.Puback)
		}
		say("short", 10)
		say("long", 50)
		say("kept", 40)
		time.Sleep(20 * time.Second)
		r, present, ended := open(lasting(5, "d", "sensor-1", "secret", 60))
		if !present {
			t.Fatal("the session ended early")
		}
		pk := r.wantMessage("chat/a", "long", 1, false)
		if pk.Properties.MessageExpiryInterval != 30 {
			t.Errorf("message expiry %d, want what is left: 30", pk.Properties.MessageExpiryInterval)
		}
		r.ack(pk.PacketID)
		r.ack(r.wantMessage("chat/a", "kept", 1, false).PacketID)
		r.subscribe(1, "chat/a")
		r.ack(r.wantMessage("chat/a", "kept", 1, true).PacketID)
		time.Sleep(25 * time.Second)
		r.subscribe(1, "chat/a")
		r.sync() // what was retained has expired
		shut(r, ended)
		time.Sleep(65 * time.Second)
		if r, present, ended = open(lasting(5, "d", "sensor-1", "secret", 60)); present {
			t.Error("the session did not end")
		}
		say("nobody", 0)
		r.sync()
		shut(r, ended)
		shut(sender, senderEnded)
	})
}

// talkative lets all devices say anything below chat.
func talkative(cfg *bridge.BrokerConfig) {
	cfg.Grants = []bridge.Grant{{Devices: "all", Publish: []string{"chat/#"}, Subscribe: []string{"chat/#"}, Retain: true}}
}
