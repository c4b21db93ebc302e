package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// openBroker starts an embedded broker with a plain listener on loopback.
func openBroker(t *testing.T, h *hub) *bridge.Broker {
	t.Helper()
	return openBrokerOf(t, h, bridge.DefaultBrokerConfig())
}

func openBrokerOf(t *testing.T, h *hub, cfg bridge.BrokerConfig) *bridge.Broker {
	t.Helper()
	cfg.Listen, cfg.Plain = bridge.Off, "127.0.0.1:0"
	b, err := bridge.OpenBroker(cfg, nil, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestBrokerTellsWhyAConnectIsRefused(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token, disabled := h.device("sensor-1"), h.device("sensor-2")
	if _, err := h.registry.Update(t.Context(), "sensor-2", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, username, password string
		v4, v5                   byte
	}{
		{"right", "sensor-1", token, 0, 0},
		{"by token alone", "", token, 0, 0},
		{"wrong token", "sensor-1", "dev_wrong", 4, 0x86},
		{"token of another device", "sensor-1", disabled, 4, 0x86},
		{"unknown device", "nobody", token, 4, 0x86},
		{"no credentials", "", "", 4, 0x86},
		{"disabled", "sensor-2", disabled, 5, 0x87},
	} {
		for version, want := range map[byte]byte{4: c.v4, 5: c.v5} {
			if version == 4 && c.username == "" && c.password != "" {
				continue // 3.1.1 has no password without a username
			}
			t.Run(fmt.Sprintf("%s/v%d", c.name, version), func(t *testing.T) {
				r := dialRaw(t, b.PlainAddr(), version)
				r.send(connectPacket(version, "c", c.username, c.password))
				ack := r.want(packets.Connack)
				if ack.ReasonCode != want || version == 5 && want != 0 && ack.Properties.ReasonString == "" {
					t.Fatalf("CONNACK %#x %q, want %#x and why", ack.ReasonCode, ack.Properties.ReasonString, want)
				}
				if want != 0 {
					r.wantClosed()
				}
			})
		}
	}
	for id, reason := range map[string]string{"sensor-1": "bad_credentials", "sensor-2": bridge.ReasonDisabled} {
		if !slices.ContainsFunc(h.sessions.Events(id), func(e devices.Event) bool {
			return e.Kind == devices.EventRefused && e.Reason == reason && e.Status > 0 && e.Message != ""
		}) {
			t.Errorf("%s: the recorder has no %s: %+v", id, reason, h.sessions.Events(id))
		}
	}
	if got := h.sessions.Events("nobody"); len(got) > 0 {
		t.Errorf("events of a device that does not exist: %+v", got)
	}
}

func TestBrokerAcknowledgesAfterTheCommit(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "sensor-1", h.device("sensor-1"))
	h.wantOnline("sensor-1", true, "mqtt")
	for qos, ack := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
		h.journal.hold()
		before := h.journal.appended
		r.publish("devices/sensor-1/telemetry", `{"Temp":21.5}`, qos, false)
		h.journal.until(t, "append", func() bool { return h.journal.appended > before })
		early := make(chan packets.Packet, 1)
		go func() {
			pk, _ := r.read()
			early <- pk
		}()
		select {
		case pk := <-early:
			t.Fatalf("%s before the commit", packets.PacketNames[pk.FixedHeader.Type])
		default:
		}
		h.journal.release(nil)
		if pk := next(t, "acknowledgement", early); pk.FixedHeader.Type != ack || pk.ReasonCode != 0 {
			t.Fatalf("got %s %#x after a publish of QoS %d", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode, qos)
		}
	}
	want := entry{"sensor-1", "telemetry Temp=21.5"}
	h.journal.wantDurable(t, want, want)
}

func TestBrokerSendsNoAcknowledgementWhenTheCommitFails(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("v%d QoS %d", version, qos), func(t *testing.T) {
				h := newHub(t)
				b := openBroker(t, h)
				token := h.device("sensor-1")
				r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
				h.journal.hold()
				r.publish("devices/sensor-1/telemetry", `{"Temp":21.5}`, qos, false)
				h.journal.until(t, "append", func() bool { return h.journal.appended == 1 })
				h.journal.release(errors.New("disk full"))
				if version == 5 {
					if pk := r.want(packets.Disconnect); pk.ReasonCode != 0x88 {
						t.Fatalf("DISCONNECT %#x, want server unavailable", pk.ReasonCode)
					}
				}
				r.wantClosed()
				p := h.wantOnline("sensor-1", false, "")
				if !strings.Contains(p.Cause, "durable") {
					t.Errorf("cause of the end: %q", p.Cause)
				}
				if s := b.Stats(); s.Unacknowledged != 1 {
					t.Errorf("stats %+v, want 1 unacknowledged", s)
				}
				h.journal.release(nil)
				again := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
				again.publish("devices/sensor-1/telemetry", `{"Temp":21.5}`, 1, false)
				again.want(packets.Puback)
			})
		}
	}
}

func TestBrokerRefusesWhatCannotBeUsedAndTakesTheNext(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{0, 1, 2} {
			t.Run(fmt.Sprintf("v%d QoS %d", version, qos), func(t *testing.T) {
				h := newHub(t)
				b := openBroker(t, h)
				h.device("sensor-2")
				r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
				cases := []struct {
					topic, payload string
					retain         bool
					reason         string
					code           byte
				}{
					{"devices/sensor-1/telemetry", `{"Temp":`, false, wire.ReasonBadJSON, 0x99},
					{"devices/sensor-1/telemetry", `"x"`, false, wire.ReasonBadFrame, 0x99},
					{"devices/sensor-1/telemetry", `[1]`, false, wire.ReasonBadSenML, 0x99},
					{"devices/sensor-1/telemetry", "\xa1\x61a", false, wire.ReasonBadCBOR, 0x99},
					{"devices/sensor-1/telemetry", `{"Temp":21}`, true, bridge.ReasonRetained, 0x99},
					{"devices/sensor-1/telemetry", `{"v":"` + strings.Repeat("x", wire.DefaultMaxFrame) + `"}`, false, wire.ReasonTooLarge, 0x95},
					{"devices/sensor-1/telemetry", `{"values":{"Temp":21},"measurement":"` + tooMuch + `"}`, false, wire.ReasonTooLarge, 0x99},
					{"devices/sensor-1/response", `{"result":1}`, false, wire.ReasonBadFrame, 0x99},
					{"devices/sensor-1/state", `{"reported":[]}`, false, wire.ReasonBadParams, 0x99},
					{"devices/sensor-1/state", `{"Temp":`, true, wire.ReasonBadJSON, 0x99},
					{"devices/sensor-1/command", `{}`, false, bridge.ReasonTopic, 0x87},
					{"devices/sensor-2/telemetry", `{"Temp":21}`, false, bridge.ReasonTopic, 0x87},
					{"devices/sensor-2/command", `{"method":"reboot"}`, true, bridge.ReasonTopic, 0x87},
					{"devices/sensor-1", `{"Temp":21}`, false, bridge.ReasonTopic, 0x87},
					{"devices/sensor-1/telemetry/x", `{"Temp":21}`, false, bridge.ReasonTopic, 0x87},
					{"$SYS/x", `{"Temp":21}`, false, bridge.ReasonTopic, 0x87},
					{"tele/x/SENSOR", `{"Temp":21}`, false, bridge.ReasonTopic, 0x87},
				}
				var refused []entry
				for _, c := range cases {
					id := r.publish(c.topic, c.payload, qos, c.retain)
					refused = append(refused, entry{"sensor-1", c.reason})
					r.wantRefusal(id, qos, c.code)
				}
				r.publish("devices/sensor-1/telemetry", `{"values":{"Temp":22},"ts":1458031648545}`, qos, true)
				r.publish("devices/sensor-1/event", `{"name":"door","severity":"info","data":{"open":true}}`, 0, false)
				r.publish("devices/sensor-1/telemetry", "\xa1\x64Temp\x17", 0, false)
				r.publish("devices/sensor-1/telemetry", `[{"bn":"sensor-1:","n":"Temp","u":"Cel","v":24}]`, 0, false)
				r.publish("devices/sensor-1/telemetry", "\x81\xa2\x00\x64Temp\x02\x18\x19", 0, false)
				r.publish("devices/sensor-1/event", "\xa1\x64name\x64door", 0, false)
				h.journal.wantRefused(t, refused...)
				h.journal.wantDurable(t, entry{"sensor-1", "telemetry Temp=22"}, entry{"sensor-1", `event name="door" severity="info" data.open=true`},
					entry{"sensor-1", "telemetry Temp=23"}, entry{"sensor-1", "telemetry Temp=24"}, entry{"sensor-1", "telemetry Temp=25"}, entry{"sensor-1", `event name="door" severity="info"`})
				if s := b.Stats(); s.Received != uint64(len(cases)+6) || s.Refused != uint64(len(cases)) {
					t.Errorf("stats %+v, want %d received, %d refused", s, len(cases)+6, len(cases))
				}
			})
		}
	}
}

// wantRefusal checks how a refused message is acknowledged: MQTT 5 is told why, 3.1.1 has only the one acknowledgement.
func (r *raw) wantRefusal(id uint16, qos, code byte) {
	r.t.Helper()
	if qos == 0 {
		r.sync() // and nothing before PINGRESP
		return
	}
	ack := r.want(map[byte]byte{1: packets.Puback, 2: packets.Pubrec}[qos])
	if ack.PacketID != id {
		r.t.Fatalf("acknowledged %d, want %d", ack.PacketID, id)
	}
	if r.version == 5 {
		if ack.ReasonCode != code || ack.Properties.ReasonString == "" {
			r.t.Fatalf("acknowledged with %#x %q, want %#x and why", ack.ReasonCode, ack.Properties.ReasonString, code)
		}
		return
	}
	if qos == 2 {
		r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: id})
		r.want(packets.Pubcomp)
	}
}

func TestBrokerGrantsADeviceItsOwnTopicsOnly(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	h.device("sensor-10")
	allowed := []string{"devices/sensor-1/command", "devices/sensor-1/desired", "devices/sensor-1/#", "devices/sensor-1/+"}
	refused := []string{
		"#", "+/#", "devices/#", "devices/+/command", "devices/sensor-10/command", "devices/sensor-1+/command", "devices/sensor-1#",
		"devices/sensor-1", "devices/sensor-1/telemetry", "devices/sensor-1/+/x", "devices//command", "$SYS/#",
		"$share/g/devices/sensor-1/command", "+/sensor-1/command", "/devices/sensor-1/command",
	}
	for version, failure := range map[byte]byte{4: 0x80, 5: 0x87} {
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
		for _, f := range allowed {
			if codes := r.subscribe(1, f); !bytes.Equal(codes, []byte{1}) {
				t.Errorf("v%d %s: SUBACK %#x, want granted", version, f, codes)
			}
		}
		for _, f := range refused {
			if codes := r.subscribe(1, f); len(codes) != 1 || codes[0] != failure && codes[0] != 0x8f && codes[0] != 0x9e {
				t.Errorf("v%d %s: SUBACK %#x, want %#x", version, f, codes, failure)
			}
		}
	}
}

func TestBrokerDeliversNothingBetweenDevices(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	victim := connectRaw(t, b.PlainAddr(), 5, "v", "sensor-1", h.device("sensor-1"))
	victim.subscribe(1, "devices/sensor-1/#")

	will := connectPacket(4, "w", "sensor-2", h.device("sensor-2"))
	will.Connect.WillFlag, will.Connect.WillTopic, will.Connect.WillPayload = true, "devices/sensor-1/command", []byte(`{"method":"reboot"}`)
	attacker := dialRaw(t, b.PlainAddr(), 4)
	attacker.send(will)
	attacker.want(packets.Connack)
	for qos := range byte(3) {
		attacker.publish("devices/sensor-1/command", `{"method":"reboot"}`, qos, true)
	}
	_ = attacker.conn.Close()
	h.wantOnline("sensor-2", false, "")

	victim.publish("devices/sensor-1/telemetry", `{"Temp":1}`, 1, false) // nor to itself
	victim.want(packets.Puback)
	if codes := victim.subscribe(1, "devices/sensor-1/command"); codes[0] != 1 {
		t.Fatal(codes)
	}
	victim.sync()
}

func TestBrokerTakesALastWillOnTheDevicesOwnTopic(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	connect := func() *raw {
		pk := connectPacket(4, "w", "sensor-1", token)
		pk.Connect.WillFlag, pk.Connect.WillRetain, pk.Connect.WillTopic = true, true, "devices/sensor-1/event"
		pk.Connect.WillPayload = []byte(`{"name":"lost"}`)
		r := dialRaw(t, b.PlainAddr(), 4)
		r.send(pk)
		r.want(packets.Connack)
		h.wantOnline("sensor-1", true, "")
		return r
	}
	r := connect()
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	r.wantClosed()
	if p := h.wantOnline("sensor-1", false, ""); p.Cause != "disconnected by the device" {
		t.Errorf("cause %q", p.Cause)
	}
	h.journal.wantDurable(t)
	r = connect()
	_ = r.conn.Close()
	if p := h.wantOnline("sensor-1", false, ""); p.Cause != "connection lost" {
		t.Errorf("cause %q", p.Cause)
	}
	h.journal.until(t, "will", func() bool { return len(h.journal.durable) == 1 })
}

func TestBrokerKeepsClientIDsWithinADevice(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	first := connectRaw(t, b.PlainAddr(), 4, "same", "sensor-1", h.device("sensor-1"))
	first.subscribe(0, "devices/sensor-1/command")
	second := connectRaw(t, b.PlainAddr(), 4, "same", "sensor-2", h.device("sensor-2"))
	second.subscribe(0, "devices/sensor-2/command")
	first.sync()
	for device, r := range map[string]*raw{"sensor-1": first, "sensor-2": second} {
		if err := h.send(device, wire.Command{ID: "C-" + device, Method: "ping", Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		if pk := r.want(packets.Publish); pk.TopicName != "devices/"+device+"/command" || !strings.Contains(string(pk.Payload), "C-"+device) {
			t.Errorf("%s got %s %s", device, pk.TopicName, pk.Payload)
		}
	}
	_ = first.conn.Close()
	h.wantOnline("sensor-1", false, "")
	second.sync()
}

func TestBrokerNewestConnectionWins(t *testing.T) {
	for _, second := range []string{"same", "other"} {
		t.Run(second+" client id", func(t *testing.T) {
			h := newHub(t)
			b := openBroker(t, h)
			token := h.device("sensor-1")
			v5 := connectRaw(t, b.PlainAddr(), 5, "same", "sensor-1", token)
			h.wantOnline("sensor-1", true, "")
			v4 := connectRaw(t, b.PlainAddr(), 4, second, "sensor-1", token)
			if pk := v5.want(packets.Disconnect); pk.ReasonCode != 0x8e {
				t.Errorf("DISCONNECT %#x, want session taken over", pk.ReasonCode)
			}
			v5.wantClosed()
			v4.sync()
			v5 = connectRaw(t, b.PlainAddr(), 5, second, "sensor-1", token)
			v4.wantClosed() // 3.1.1 servers send no DISCONNECT
			v5.sync()
			if p := h.wantOnline("sensor-1", true, "mqtt"); p.Remote != v5.conn.LocalAddr().String() {
				t.Errorf("the session is %s, want the newest, %s", p.Remote, v5.conn.LocalAddr())
			}
			h.sessions.Kick("sensor-1", wire.CloseRevoked, "credentials revoked")
			if pk := v5.want(packets.Disconnect); pk.ReasonCode != 0x87 || pk.Properties.ReasonString != "credentials revoked" {
				t.Errorf("DISCONNECT %#x %q, want not authorized: credentials revoked", pk.ReasonCode, pk.Properties.ReasonString)
			}
			v5.wantClosed()
		})
	}
}

func TestBrokerAssignsAClientIDWithinTheDevice(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	r := dialRaw(t, b.PlainAddr(), 5)
	pk := connectPacket(5, "", "sensor-1", token)
	r.send(pk)
	ack := r.want(packets.Connack)
	if ack.ReasonCode != 0 || ack.Properties.AssignedClientID == "" || strings.Contains(ack.Properties.AssignedClientID, "/") {
		t.Fatalf("CONNACK %#x, assigned client id %q", ack.ReasonCode, ack.Properties.AssignedClientID)
	}
	if ack.Properties.MaximumPacketSize == 0 || ack.Properties.ReceiveMaximum == 0 || !ack.Properties.SharedSubAvailableFlag {
		t.Errorf("CONNACK does not tell the limits: %+v", ack.Properties)
	}
	old := dialRaw(t, b.PlainAddr(), 4)
	pk = connectPacket(4, "", "sensor-1", token)
	pk.Connect.Clean = false
	old.send(pk)
	if ack := old.want(packets.Connack); ack.ReasonCode != 2 { // [MQTT-3.1.3-8]
		t.Errorf("CONNACK %#x to an empty client id without a clean session, want 2", ack.ReasonCode)
	}
}

func TestBrokerOutlivesAMalformedPacket(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	for name, bytes := range map[string][]byte{
		"SUBSCRIBE without options": {0x82, 7, 0, 1, 0, 0, 2, 'a', 'b'},
		"PUBLISH with a wildcard":   {0x30, 4, 0, 1, '#', 0},
		"invalid UTF-8 in a topic":  {0x30, 4, 0, 1, 0xff, 0},
		"a reserved type":           {0xf8, 0},
		"a second CONNECT":          {0x10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", token)
			r.write(bytes)
			for {
				pk, err := r.read()
				if err != nil {
					break
				}
				if pk.FixedHeader.Type != packets.Disconnect {
					t.Fatalf("got %s", packets.PacketNames[pk.FixedHeader.Type])
				}
			}
			h.wantOnline("sensor-1", false, "")
		})
	}
	connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", token).sync()
}

func TestBrokerCountsAPacketOverTheLimit(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 4, "c", "sensor-1", h.device("sensor-1"))
	r.write([]byte{0x32, 0x80, 0x80, 0x80, 0x09}) // 18 MiB
	r.wantClosed()
	h.journal.wantRefused(t, entry{"sensor-1", wire.ReasonTooLarge})
	if p := h.wantOnline("sensor-1", false, ""); p.Cause != "packet too large" {
		t.Errorf("cause %q", p.Cause)
	}
}
