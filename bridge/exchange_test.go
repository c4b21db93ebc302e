package bridge_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/bridge"
	"telemetryhub/devices"
)

// plant lets presses tell displays how they run, and displays set what presses do.
func plant() bridge.BrokerConfig {
	cfg := bridge.DefaultBrokerConfig()
	cfg.Grants = []bridge.Grant{
		{Devices: "press-*", Publish: []string{"plant/{device}/+"}, Subscribe: []string{"plant/{device}/set/#"}, Retain: true},
		{Devices: "tag=display", Publish: []string{"plant/+/set/speed"}, Subscribe: []string{"plant/#"}},
	}
	return cfg
}

// display adds a device with the tag.
func (h *hub) display(id string) (token string) {
	h.t.Helper()
	_, token, err := h.registry.Create(h.t.Context(), devices.Device{ID: id, Tags: []string{"display"}})
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// lasting is a CONNECT of a session that is kept for some seconds after its connection.
func lasting(version byte, clientID, device, token string, seconds uint32) packets.Packet {
	pk := connectPacket(version, clientID, device, token)
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	return pk
}

// dial opens a connection with a CONNECT of the test's own.
func dial(t *testing.T, b *bridge.Broker, version byte, connect packets.Packet) (r *raw, present bool) {
	t.Helper()
	r = dialRaw(t, b.PlainAddr(), version)
	r.send(connect)
	ack := r.want(packets.Connack)
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
	}
	return r, ack.SessionPresent
}

// wantMessage returns the next packet, which must be such a message.
func (r *raw) wantMessage(topic, payload string, qos byte, retain bool) packets.Packet {
	r.t.Helper()
	pk := r.want(packets.Publish)
	if pk.TopicName != topic || string(pk.Payload) != payload || pk.FixedHeader.Qos != qos || pk.FixedHeader.Retain != retain {
		r.t.Fatalf("got %s %q, QoS %d, retain %v; want %s %q, QoS %d, retain %v",
			pk.TopicName, pk.Payload, pk.FixedHeader.Qos, pk.FixedHeader.Retain, topic, payload, qos, retain)
	}
	return pk
}

// wantOwn returns a message that the test has sent itself with QoS 1, which comes before its PUBACK or after that.
func (r *raw) wantOwn(topic, payload string, qos byte, retain bool) (got packets.Packet) {
	r.t.Helper()
	for range 2 {
		pk, err := r.read()
		switch {
		case err != nil:
			r.t.Fatal(err)
		case pk.FixedHeader.Type == packets.Publish:
			got = pk
		case pk.FixedHeader.Type != packets.Puback || pk.ReasonCode != 0:
			r.t.Fatalf("got %s %#x", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode)
		}
	}
	if got.TopicName != topic || string(got.Payload) != payload || got.FixedHeader.Qos != qos || got.FixedHeader.Retain != retain {
		r.t.Fatalf("got %s %q, QoS %d, retain %v", got.TopicName, got.Payload, got.FixedHeader.Qos, got.FixedHeader.Retain)
	}
	return got
}

func (r *raw) ack(id uint16) {
	r.t.Helper()
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
}

func TestDevicesTalkOnGrantedTopics(t *testing.T) {
	for _, versions := range [][2]byte{{4, 4}, {5, 4}, {4, 5}, {5, 5}} {
		t.Run(fmt.Sprint(versions), func(t *testing.T) {
			h := newHub(t)
			b := openBrokerOf(t, h, plant())
			display := connectRaw(t, b.PlainAddr(), versions[1], "d", "display-1", h.display("display-1"))
			if codes := display.subscribe(2, "plant/#"); codes[0] != 1 {
				t.Fatalf("SUBACK %#x, want QoS 1: the most that is granted", codes)
			}
			press := connectRaw(t, b.PlainAddr(), versions[0], "p", "press-1", h.device("press-1"))
			for qos := range byte(3) {
				id := press.publish("plant/press-1/mode", fmt.Sprint("run ", qos), qos, false)
				switch qos {
				case 1:
					if ack := press.want(packets.Puback); ack.PacketID != id || ack.ReasonCode != 0 {
						t.Errorf("PUBACK %d %#x", ack.PacketID, ack.ReasonCode)
					}
				case 2:
					press.want(packets.Pubrec)
				}
				got := display.wantMessage("plant/press-1/mode", fmt.Sprint("run ", qos), min(qos, 1), false)
				if qos > 0 {
					display.ack(got.PacketID)
				}
			}
			for i := range 300 { // in their order
				press.publish("plant/press-1/speed", fmt.Sprint(i), 0, false)
				display.wantMessage("plant/press-1/speed", fmt.Sprint(i), 0, false)
			}
			if codes := press.subscribe(1, "plant/press-1/set/#"); codes[0] != 1 {
				t.Fatalf("SUBACK %#x", codes)
			}
			display.publish("plant/press-1/set/speed", "9", 0, false)
			press.wantMessage("plant/press-1/set/speed", "9", 0, false)
			h.journal.wantDurable(t) // none of it is a reading
			h.journal.wantRefused(t)
		})
	}
}

func TestGrantsGiveNothingElse(t *testing.T) {
	h := newHub(t)
	b := openBrokerOf(t, h, plant())
	tokens := map[string]string{"press-1": h.device("press-1"), "lamp": h.device("lamp"), "display-1": h.display("display-1")}
	var refused []entry
	for _, version := range []byte{4, 5} {
		for device, topics := range map[string][]string{
			"press-1":   {"plant/press-2/mode", "plant/press-1", "plant/press-1/a/b", "plant", "other", "devices/lamp/command", "devices/lamp/telemetry", "devices/press-1/command", "$SYS/x", "$share/g/plant/press-1/mode"},
			"lamp":      {"plant/lamp/mode"},
			"display-1": {"plant/press-1/set/mode", "plant/press-1/mode"},
		} {
			r := connectRaw(t, b.PlainAddr(), version, "c", device, tokens[device])
			for _, topic := range topics {
				id := r.publish(topic, "x", 1, false)
				r.wantRefusal(id, 1, 0x87)
				refused = append(refused, entry{device, bridge.ReasonTopic})
			}
		}
		for device, filters := range map[string][]string{
			"press-1":   {"plant/#", "plant/press-2/set/#", "plant/+/set/speed", "#", "+/#", "$SYS/#", "devices/#", "devices/+/telemetry"},
			"lamp":      {"plant/lamp/mode", "plant/#"},
			"display-1": {"#", "+/press-1/mode", "plant", "devices/press-1/command", "$share/g/plant/#"},
		} {
			r := connectRaw(t, b.PlainAddr(), version, "c", device, tokens[device])
			for _, f := range filters {
				if f == "plant" {
					continue // plant/# covers it
				}
				r.lastID++
				r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: r.lastID, Filters: packets.Subscriptions{{Filter: f}}})
				ack := r.want(packets.Suback)
				want := byte(0x80)
				if version == 5 {
					if want = 0x87; strings.HasPrefix(f, "$share") {
						want = 0x9e
					}
					if !strings.Contains(ack.Properties.ReasonString, "subscription") {
						t.Errorf("%s of %s: not told why: %q", f, device, ack.Properties.ReasonString)
					}
				}
				if !bytes.Equal(ack.ReasonCodes, []byte{want}) {
					t.Errorf("%s of %s by version %d: SUBACK %#x, want %#x", f, device, version, ack.ReasonCodes, want)
				}
			}
		}
	}
	h.journal.until(t, "refusals", func() bool { return len(h.journal.refused) == len(refused) })
	for device := range tokens {
		for _, reason := range []string{bridge.ReasonTopic, bridge.ReasonSubscription} {
			if !slices.ContainsFunc(h.sessions.Events(device), func(e devices.Event) bool { return e.Reason == reason && e.Message != "" }) {
				t.Errorf("%s: the recorder has no %s", device, reason)
			}
		}
	}
}

// A grant by tag ends with the tag, for what is subscribed already too.
func TestAGrantEndsWithItsTag(t *testing.T) {
	h := newHub(t)
	b := openBrokerOf(t, h, plant())
	display := connectRaw(t, b.PlainAddr(), 5, "d", "display-1", h.display("display-1"))
	display.subscribe(1, "plant/#")
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.device("press-1"))
	press.publish("plant/press-1/mode", "1", 1, false)
	press.want(packets.Puback)
	display.wantMessage("plant/press-1/mode", "1", 1, false)
	if _, err := h.registry.Update(t.Context(), "display-1", func(d *devices.Device) error { d.Tags = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	press.publish("plant/press-1/mode", "2", 1, false)
	if ack := press.want(packets.Puback); ack.ReasonCode != 0x10 {
		t.Errorf("PUBACK %#x, want no matching subscribers", ack.ReasonCode)
	}
	display.sync()
}

func TestMessagesKeepTheirProperties(t *testing.T) {
	h := newHub(t)
	b := openBrokerOf(t, h, plant())
	display := connectRaw(t, b.PlainAddr(), 5, "d", "display-1", h.display("display-1"))
	display.subscribe(1, "plant/#")
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.device("press-1"))
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: "plant/press-1/mode", Payload: []byte("run"), PacketID: 1}
	pk.Properties = packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, MessageExpiryInterval: 1000, ContentType: "text/plain", ResponseTopic: "plant/press-1/answer", CorrelationData: []byte{0, 1},
		User: []packets.UserProperty{{Key: "a", Val: "1"}, {Key: "b", Val: ""}, {Key: "a", Val: "2"}},
	}
	press.send(pk)
	press.want(packets.Puback)
	got := display.wantMessage("plant/press-1/mode", "run", 1, false).Properties
	if e := got.MessageExpiryInterval; e < 900 || e > 1000 {
		t.Errorf("message expiry %d", e)
	}
	want := pk.Properties
	if got.PayloadFormat != 1 || got.ContentType != want.ContentType || got.ResponseTopic != want.ResponseTopic || !bytes.Equal(got.CorrelationData, want.CorrelationData) || !slices.Equal(got.User, want.User) {
		t.Errorf("properties %+v, want %+v", got, want)
	}
}

func TestSubscriptionOptions(t *testing.T) {
	h := newHub(t)
	cfg := plant()
	cfg.Grants = append(cfg.Grants, bridge.Grant{Devices: "all", Publish: []string{"chat/#"}, Subscribe: []string{"chat/#"}, Retain: true})
	b := openBrokerOf(t, h, cfg)
	r := connectRaw(t, b.PlainAddr(), 5, "d", "d", h.device("d"))
	subscribe := func(identifier int, s packets.Subscription) {
		t.Helper()
		r.lastID++
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: r.lastID, Filters: packets.Subscriptions{s}}
		if identifier > 0 {
			pk.Properties.SubscriptionIdentifier = []int{identifier}
		}
		r.send(pk)
		if codes := r.want(packets.Suback).ReasonCodes; codes[0] > 2 {
			t.Fatalf("SUBACK %#x", codes)
		}
	}
	// No local: what it publishes itself comes by the other subscription alone, once, with the higher QoS and both numbers.
	subscribe(7, packets.Subscription{Filter: "chat/a", NoLocal: true, Qos: 1})
	r.publish("chat/a", "1", 0, false)
	r.sync()
	subscribe(9, packets.Subscription{Filter: "chat/+", Qos: 0})
	subscribe(8, packets.Subscription{Filter: "chat/#", Qos: 1, RetainAsPublished: true})
	r.publish("chat/a", "2", 1, true)
	got := r.wantOwn("chat/a", "2", 1, true) // retain as published
	if ids := got.Properties.SubscriptionIdentifier; !slices.Equal(ids, []int{8, 9}) {
		t.Errorf("subscription identifiers %v", ids)
	}
	r.ack(got.PacketID)
	// Retain handling: 0 gives what is retained at each SUBSCRIBE, 1 only for a new one, 2 never.
	subscribe(0, packets.Subscription{Filter: "chat/a", Qos: 0})
	r.wantMessage("chat/a", "2", 0, true)
	subscribe(0, packets.Subscription{Filter: "chat/a", RetainHandling: 1})
	r.sync()
	subscribe(0, packets.Subscription{Filter: "chat/a/#", RetainHandling: 1})
	r.wantMessage("chat/a", "2", 0, true)
	subscribe(0, packets.Subscription{Filter: "chat/+/#", RetainHandling: 2})
	r.sync()
}

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

// The device says how much it takes at once.
func TestMessagesWaitForReceiveMaximum(t *testing.T) {
	h := newHub(t)
	b := openBrokerOf(t, h, plant())
	connect := connectPacket(5, "d", "display-1", h.display("display-1"))
	connect.Properties.ReceiveMaximum, connect.Properties.MaximumPacketSize = 2, 200
	display, _ := dial(t, b, 5, connect)
	display.subscribe(1, "plant/#")
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.device("press-1"))
	press.publish("plant/press-1/large", strings.Repeat("x", 200), 1, false)
	for i := range 5 {
		press.publish("plant/press-1/mode", fmt.Sprint(i), 1, false)
	}
	for range 6 {
		press.want(packets.Puback)
	}
	first, second := display.wantMessage("plant/press-1/mode", "0", 1, false), display.wantMessage("plant/press-1/mode", "1", 1, false)
	display.sync() // and no third
	display.ack(second.PacketID)
	display.wantMessage("plant/press-1/mode", "2", 1, false)
	display.sync()
	display.ack(first.PacketID)
	display.wantMessage("plant/press-1/mode", "3", 1, false)
	display.sync()
}

func TestSubscriptionsOfASessionAreBounded(t *testing.T) {
	h := newHub(t)
	cfg := plant()
	cfg.MaxSubscriptions = 3
	b := openBrokerOf(t, h, cfg)
	r := connectRaw(t, b.PlainAddr(), 5, "d", "display-1", h.display("display-1"))
	if codes := r.subscribe(0, "devices/display-1/command", "plant/a", "plant/b", "plant/c", "plant/a"); !bytes.Equal(codes, []byte{0, 0, 0, 0x97, 0}) {
		t.Errorf("SUBACK %#x", codes)
	}
	r.lastID++
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: r.lastID, Filters: packets.Subscriptions{{Filter: "plant/a"}, {Filter: "plant/x"}}})
	if ack := r.want(packets.Unsuback); !bytes.Equal(ack.ReasonCodes, []byte{0, 0x11}) {
		t.Errorf("UNSUBACK %#x", ack.ReasonCodes)
	}
	if codes := r.subscribe(0, "plant/c"); codes[0] != 0 {
		t.Errorf("SUBACK %#x", codes)
	}
	press := connectRaw(t, b.PlainAddr(), 5, "p", "press-1", h.device("press-1"))
	press.publish("plant/press-1/mode", "x", 1, false)
	if ack := press.want(packets.Puback); ack.ReasonCode != 0x10 {
		t.Errorf("PUBACK %#x", ack.ReasonCode)
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

func TestLastWills(t *testing.T) {
	const none = -1
	for name, c := range map[string]struct {
		delay   uint32
		session uint32 // of the device with the will
		end     func(t *testing.T, r *raw, open func(packets.Packet) *raw)
		after   int // seconds until the will; none: it never comes
	}{
		"lost":              {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 0},
		"goodbye":           {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.bye(0) }, none},
		"goodbye with will": {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.bye(4) }, 0},
		"protocol error":    {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.write([]byte{0x10, 0}) }, 0},
		"silence":           {0, 0, func(*testing.T, *raw, func(packets.Packet) *raw) { time.Sleep(90 * time.Second) }, 0},
		"taken over": {0, 0, func(_ *testing.T, _ *raw, open func(packets.Packet) *raw) {
			open(lasting(5, "w", "sensor-1", "secret", 60))
		}, 0},
		"delayed":                    {20, 60, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 20},
		"delayed beyond the session": {600, 60, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 60},
		"delayed without a session":  {20, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 0},
		"delayed, taken over": {20, 60, func(_ *testing.T, _ *raw, open func(packets.Packet) *raw) {
			open(lasting(5, "w", "sensor-1", "secret", 60))
		}, none},
		"delayed, and the device back": {20, 60, func(_ *testing.T, r *raw, open func(packets.Packet) *raw) {
			_ = r.conn.Close()
			time.Sleep(10 * time.Second)
			open(lasting(5, "w", "sensor-1", "secret", 60))
		}, none},
		"delayed, and another session": {20, 60, func(_ *testing.T, r *raw, open func(packets.Packet) *raw) {
			_ = r.conn.Close()
			time.Sleep(10 * time.Second)
			open(connectPacket(5, "w", "sensor-1", "secret"))
		}, 0},
		"delayed, goodbye with the will": {20, 60, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.bye(4) }, 20},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbleOf(t, talkative, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
				open := func(pk packets.Packet) *raw {
					r, _ := connect(bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
					r.send(pk)
					r.want(packets.Connack)
					return r
				}
				listener := connectPacket(5, "l", "sensor-2", "secret-2")
				listener.Connect.Keepalive = 0
				hears := open(listener)
				hears.subscribe(0, "chat/#")
				pk := lasting(5, "w", "sensor-1", "secret", c.session)
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain = true, "chat/will", []byte("gone"), true
				pk.Connect.WillProperties = packets.Properties{WillDelayInterval: c.delay, User: []packets.UserProperty{{Key: "k", Val: "v"}}}
				r := open(pk)
				r.sync()
				go drain(r)
				c.end(t, r, func(pk packets.Packet) *raw {
					next := open(pk)
					go drain(next)
					return next
				})
				synctest.Wait()
				began := time.Now()
				heard := make(chan packets.Packet, 10)
				go func() {
					for {
						pk, err := hears.read()
						if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
							continue
						}
						if err != nil {
							return
						}
						heard <- pk
					}
				}()
				select {
				case pk := <-heard:
					took := int(time.Since(began).Round(time.Second) / time.Second)
					if c.after == none {
						t.Errorf("the will came after %d s", took)
					} else if took != c.after || pk.TopicName != "chat/will" || string(pk.Payload) != "gone" || len(pk.Properties.User) != 1 {
						t.Errorf("after %d s: %s %q %v; want the will after %d s", took, pk.TopicName, pk.Payload, pk.Properties.User, c.after)
					}
				case <-time.After(15 * time.Minute):
					if c.after != none {
						t.Error("no will")
					}
				}
				if synctest.Wait(); len(heard) > 0 {
					t.Errorf("and %d messages more", len(heard))
				}
			})
		})
	}
}

// bye sends DISCONNECT with a reason code.
func (r *raw) bye(code byte) {
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: code})
}

// drain reads what comes, for a pipe has no buffer.
func drain(r *raw) {
	for {
		if _, err := r.in.ReadByte(); err != nil {
			return
		}
	}
}

func TestGrantFaults(t *testing.T) {
	for want, g := range map[string]bridge.Grant{
		"":                                {Devices: "tag=a", Publish: []string{"plant/{device}/+"}, Subscribe: []string{"plant/#", "plant/a{device}b"}, Retain: true},
		"devices: names none":             {Publish: []string{"a"}},
		"neither tag=TAG nor type=TYPE":   {Devices: "tags=a", Publish: []string{"a"}},
		"names no tag":                    {Devices: "tag=", Publish: []string{"a"}},
		"is not a device id":              {Devices: "a b", Publish: []string{"a"}},
		"neither names a topic":           {Devices: "all"},
		"nothing is published":            {Devices: "all", Subscribe: []string{"a"}, Retain: true},
		"its first level must be written": {Devices: "all", Subscribe: []string{"+/a"}},
		"topics below devices/":           {Devices: "all", Publish: []string{"devices/x/command"}},
		"begin with $":                    {Devices: "all", Subscribe: []string{"$SYS/#"}},
		"the one template is {device}":    {Devices: "all", Subscribe: []string{"a/{id}"}},
		"# is not its last level":         {Devices: "all", Subscribe: []string{"a/#/b"}},
		"a wildcard stands alone":         {Devices: "all", Subscribe: []string{"a/b+"}},
		"publish[1]":                      {Devices: "all", Publish: []string{"a", ""}},
		"{device}/a":                      {Devices: "all", Publish: []string{"{device}/a"}},
		"at most 512":                     {Devices: "all", Publish: []string{strings.Repeat("a", 500) + "/{device}"}},
	} {
		faults := g.Faults()
		if want == "" && len(faults) > 0 || want != "" && (len(faults) != 1 || !strings.Contains(faults[0].Error(), want)) {
			t.Errorf("%+v: %v, want %q", g, faults, want)
		}
	}
	cfg := bridge.DefaultBrokerConfig()
	cfg.Grants, cfg.MaxQueued, cfg.MaxSubscriptions = []bridge.Grant{{Devices: "all"}}, 0, 5000
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "grants[0]: publish") || !strings.Contains(err.Error(), "max_queued: 0") || !strings.Contains(err.Error(), "max_subscriptions: 5000") {
		t.Errorf("configuration: %v", err)
	}
}
