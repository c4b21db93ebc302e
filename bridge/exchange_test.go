package bridge_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

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
