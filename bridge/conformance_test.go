package bridge_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/wire"
)

// body is a packet of the test's own making: first byte, length, and these parts; a string is one behind its length.
func body(first byte, parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
		case []byte:
			b = append(b, p...)
		case int:
			b = append(b, byte(p))
		}
	}
	return append(binary.AppendUvarint([]byte{first}, uint64(len(b))), b...)
}

// properties is MQTT 5's, behind their length.
func properties(b ...byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

// badPackets are those that end the connection of a device, and harm nobody else. The statements are MQTT 5's where not
// said otherwise; code is what its DISCONNECT bears.
func badPackets() []struct {
	statement, name string
	versions        string // in which they are bad
	packet          []byte
	code            byte
} {
	const topic = "devices/sensor-1/telemetry"
	none := []byte{0} // no properties
	return []struct {
		statement, name string
		versions        string
		packet          []byte
		code            byte
	}{
		{"MQTT-1.5.4-1", "a topic that is not UTF-8", "4", body(0x30, "a\xff", "x"), 0x81},
		{"MQTT-1.5.4-1", "a topic that is not UTF-8", "5", body(0x30, "a\xff", none), 0x81},
		{"MQTT-1.5.4-1", "a surrogate in a topic", "45", body(0x30, "a\xed\xa0\x80", none), 0x81},
		{"MQTT-1.5.4-2", "U+0000 in a topic", "45", body(0x30, "a\x00b", none), 0x81},
		{"MQTT-1.5.5-1", "a length of five bytes", "45", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, 0x81},
		{"MQTT-2.1.3-1", "type 0", "45", []byte{0x00, 0}, 0x81},
		{"MQTT-2.1.3-1", "PINGREQ with flags", "45", []byte{0xc1, 0}, 0x81},
		{"MQTT-2.1.3-1", "PUBACK with flags", "45", body(0x42, 0, 1), 0x81},
		{"MQTT-3.14.1-1", "DISCONNECT with flags", "45", []byte{0xe1, 0}, 0x81},
		{"MQTT-2.2.1-3", "PUBLISH with the packet id 0", "45", body(0x32, topic, 0, 0, none), 0x82},
		{"MQTT-2.2.1-3", "SUBSCRIBE with the packet id 0", "4", body(0x82, 0, 0, "a", 0), 0x82},
		{"MQTT-2.2.1-3", "UNSUBSCRIBE with the packet id 0", "4", body(0xa2, 0, 0, "a"), 0x82},
		{"MQTT-2.2.1-3", "PUBREL with the packet id 0", "45", body(0x62, 0, 0), 0x82},
		{"MQTT-3.1.0-2", "a second CONNECT", "4", body(0x10, "MQTT", 4, 2, 0, 60, "c"), 0x82},
		{"MQTT-3.1.0-2", "a second CONNECT", "5", body(0x10, "MQTT", 5, 2, 0, 60, none, "c"), 0x82},
		{"MQTT-3.2.0-2", "CONNACK from a device", "45", []byte{0x20, 2, 0, 0}, 0x82},
		{"MQTT-3.9", "SUBACK from a device", "45", body(0x90, 0, 1, 0), 0x82},
		{"MQTT-3.11", "UNSUBACK from a device", "45", body(0xb0, 0, 1, 0), 0x82},
		{"MQTT-3.13", "PINGRESP from a device", "45", []byte{0xd0, 0}, 0x82},
		{"MQTT-3.3.1-4", "PUBLISH of QoS 3", "45", body(0x36, topic, 0, 1, none), 0x81},
		{"MQTT-3.3.1-2", "DUP with QoS 0", "45", body(0x38, topic, none), 0x81},
		{"MQTT-3.3.2-1", "PUBLISH without a topic", "45", []byte{0x30, 0}, 0x81},
		{"MQTT-3.3.2-1", "a topic longer than the packet", "45", []byte{0x30, 3, 0, 9, 'a'}, 0x81},
		{"MQTT-3.3.2-2", "+ in a topic", "45", body(0x30, "devices/+/telemetry", none), 0x81},
		{"MQTT-3.3.2-2", "# in a topic", "45", body(0x30, "devices/sensor-1/#", none), 0x81},
		{"MQTT-4.7.3-1", "an empty topic", "4", body(0x30, ""), 0x82},
		{"MQTT-3.3.2-8", "an empty topic and no alias", "5", body(0x30, "", none), 0x82},
		{"MQTT-3.6.1-1", "PUBREL with other flags", "45", body(0x60, 0, 1), 0x81},
		{"MQTT-3.8.1-1", "SUBSCRIBE with other flags", "4", body(0x80, 0, 1, "a", 0), 0x81},
		{"MQTT-3.8.3-1", "a filter that is not UTF-8", "4", body(0x82, 0, 1, "\xc3(", 0), 0x81},
		{"MQTT-3.8.3-3 of 3.1.1", "SUBSCRIBE without a filter", "4", body(0x82, 0, 1), 0x82},
		{"MQTT-3.8.3-2", "SUBSCRIBE without a filter", "5", body(0x82, 0, 1, none), 0x82},
		{"MQTT-3.8.3-4 of 3.1.1", "reserved bits in a requested QoS", "4", body(0x82, 0, 1, "a", 4), 0x81},
		{"MQTT-3.8.3-4 of 3.1.1", "QoS 3 in a SUBSCRIBE", "4", body(0x82, 0, 1, "a", 3), 0x81},
		{"MQTT-3.10.1-1", "UNSUBSCRIBE with other flags", "4", body(0xa0, 0, 1, "a"), 0x81},
		{"MQTT-3.10.3-2", "UNSUBSCRIBE without a filter", "4", body(0xa2, 0, 1), 0x82},
		{"MQTT-3.10.3-2", "UNSUBSCRIBE without a filter", "5", body(0xa2, 0, 1, none), 0x82},
		{"MQTT-2.1.4", "SUBSCRIBE that ends in its filter", "4", []byte{0x82, 5, 0, 1, 0, 9, 'a'}, 0x81},
		{"MQTT-2.1.4", "PINGREQ with a body", "45", []byte{0xc0, 1, 0}, 0x81},
		{"MQTT-2.1.4", "PUBACK that is too short", "45", []byte{0x40, 1, 0}, 0x81},
		{"MQTT-3.4.2 of 3.1.1", "PUBACK that is too long", "4", body(0x40, 0, 1, 0), 0x81},
		{"MQTT-3.14 of 3.1.1", "DISCONNECT with a body", "4", []byte{0xe0, 1, 0}, 0x81},
		{"MQTT-2.2.2 of 3.1.1", "AUTH, which 3.1.1 has not", "4", []byte{0xf0, 0}, 0x81},

		{"MQTT-4.12.0-1", "AUTH without a method", "5", []byte{0xf0, 0}, 0x82},
		{"MQTT-2.2.2.2", "a property that there is not", "5", body(0x30, topic, properties(0x7f, 0)), 0x81},
		{"MQTT-2.2.2.2", "a property of another packet", "5", body(0x30, topic, properties(0x21, 0, 9)), 0x82},
		{"MQTT-2.2.2.2", "a property twice", "5", body(0x30, topic, properties(1, 0, 1, 0)), 0x82},
		{"MQTT-2.2.2.1", "properties longer than the packet", "5", body(0x30, topic, 9), 0x81},
		{"MQTT-2.2.2.1", "a property cut off", "5", body(0x30, topic, properties(2, 0, 0)), 0x81},
		{"MQTT-3.3.2.3.2", "a payload format of 2", "5", body(0x30, topic, properties(1, 2)), 0x82},
		{"MQTT-3.3.2-8", "the topic alias 0", "5", body(0x30, topic, properties(0x23, 0, 0)), 0x94},
		{"MQTT-3.3.2-9", "a topic alias beyond the maximum", "5", body(0x30, topic, properties(0x23, 0, 17)), 0x94},
		{"MQTT-3.3.2.3.4", "an alias that stands for nothing", "5", body(0x30, "", properties(0x23, 0, 3)), 0x82},
		{"MQTT-3.3.2-14", "a wildcard in a response topic", "5", body(0x30, topic, properties(8, 0, 1, '#')), 0x82},
		{"MQTT-3.3.4-6", "a subscription identifier in a PUBLISH", "5", body(0x30, topic, properties(0x0b, 1)), 0x82},
		{"MQTT-3.4.2-1", "an unknown reason code in a PUBACK", "5", body(0x40, 0, 1, 0x42), 0x81},
		{"MQTT-3.8.3-5", "reserved bits in subscription options", "5", body(0x82, 0, 1, none, "a", 0x40), 0x81},
		{"MQTT-3.8.3.1", "the retain handling 3", "5", body(0x82, 0, 1, none, "a", 0x30), 0x82},
		{"MQTT-3.8.3-4", "no-local on a shared subscription", "5", body(0x82, 0, 1, none, "$share/g/a", 4), 0x82},
		{"MQTT-3.8.2.1.2", "the subscription identifier 0", "5", body(0x82, 0, 1, properties(0x0b, 0), "a", 0), 0x82},
		{"MQTT-3.14.2-1", "an unknown reason code in a DISCONNECT", "5", []byte{0xe0, 1, 0x42}, 0x81},
		{"MQTT-3.14.2-2", "a session expiry that CONNECT had not", "5", body(0xe0, 0, properties(0x11, 0, 0, 0, 9)), 0x82},
		{"MQTT-1.5.4-1", "a user property that is not UTF-8", "5", body(0x30, topic, properties(0x26, 0, 1, 'k', 0, 1, 0xff)), 0x81},
		{"MQTT-3.1.2-24", "a packet over the limit", "45", []byte{0x82, 0x80, 0x80, 0x80, 0x09}, 0x95},
	}
}

// Each ends its own connection, in MQTT 5 with the reason, and nothing else: messages before it are taken, and another
// device goes on [MQTT-4.13.1-1, 4.8.0-1 of 3.1.1].
func TestConformanceOfBadPackets(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	other := connectRaw(t, b.PlainAddr(), 4, "o", "sensor-2", h.device("sensor-2"))
	for _, c := range badPackets() {
		for version := byte(4); version <= 5; version++ {
			if !strings.Contains(c.versions, fmt.Sprint(version)) {
				continue
			}
			t.Run(fmt.Sprintf("v%d %s %s", version, c.statement, c.name), func(t *testing.T) {
				r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
				r.t, other.t = t, t
				good := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 0}, TopicName: "devices/sensor-1/telemetry", Payload: []byte(`{"n":1}`)}
				r.send(good)
				r.write(c.packet)
				if version == 5 {
					if pk := r.want(packets.Disconnect); pk.ReasonCode != c.code || pk.Properties.ReasonString == "" {
						t.Errorf("DISCONNECT %#x %q, want %#x and why", pk.ReasonCode, pk.Properties.ReasonString, c.code)
					}
				}
				r.wantClosed()
				if p := h.wantOnline("sensor-1", false, ""); p.Cause == "" || p.Cause == "connection lost" {
					t.Errorf("cause of the end: %q", p.Cause)
				}
				other.sync()
			})
		}
	}
	h.journal.until(t, "all good messages", func() bool { return len(h.journal.durable) >= len(badPackets()) })
}

// badConnects are CONNECT packets that are refused; want is what the answer bears, MQTT 5's reason code or 3.1.1's return
// code, 0 where the connection is closed without one.
func TestConformanceOfConnect(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	none := []byte{0}
	for _, c := range []struct {
		statement, name string
		packet          []byte
		version, want   byte
	}{
		{"MQTT-3.1.0-1", "PUBLISH first", body(0x30, "a"), 4, 0},
		{"MQTT-3.1.0-1", "PINGREQ first", []byte{0xc0, 0}, 4, 0},
		{"MQTT-3.1.2-1", "another protocol's name", body(0x10, "HTTP", 4, 2, 0, 60, "c"), 4, 0},
		{"MQTT-3.1.2-2 of 3.1.1", "protocol level 2", body(0x10, "MQTT", 2, 2, 0, 60, "c"), 4, 1},
		{"MQTT-3.1.2-2 of 3.1.1", "protocol level 3 by the new name", body(0x10, "MQTT", 3, 2, 0, 60, "c"), 4, 1},
		{"MQTT-3.1.2-2", "protocol version 6", body(0x10, "MQTT", 6, 2, 0, 60, none, "c"), 5, 0x84},
		{"MQTT-3.1.2-3", "the reserved flag", body(0x10, "MQTT", 4, 3, 0, 60, "c"), 4, 0},
		{"MQTT-3.1.2-3", "the reserved flag", body(0x10, "MQTT", 5, 3, 0, 60, none, "c"), 5, 0x81},
		{"MQTT-3.1.2-11", "a will's QoS and no will", body(0x10, "MQTT", 5, 0x0a, 0, 60, none, "c"), 5, 0x81},
		{"MQTT-3.1.2-13", "a will's retain and no will", body(0x10, "MQTT", 4, 0x22, 0, 60, "c"), 4, 0},
		{"MQTT-3.1.2-12", "a will of QoS 3", body(0x10, "MQTT", 5, 0x1e, 0, 60, none, "c", none, "t", "p"), 5, 0x81},
		{"MQTT-3.1.2-22 of 3.1.1", "a password and no user name", body(0x10, "MQTT", 4, 0x42, 0, 60, "c", "p"), 4, 0},
		{"MQTT-3.1.2-17", "a user name's flag and none", body(0x10, "MQTT", 4, 0x82, 0, 60, "c"), 4, 0},
		{"MQTT-3.1.3-1", "no client id", body(0x10, "MQTT", 5, 2, 0, 60, none), 5, 0x81},
		{"MQTT-3.1.3-4", "a client id that is not UTF-8", body(0x10, "MQTT", 4, 2, 0, 60, "\xff"), 4, 0},
		{"MQTT-3.1.3-8 of 3.1.1", "an empty client id with a session", body(0x10, "MQTT", 4, 0xc0, 0, 60, "", "sensor-1", token), 4, 2},
		{"MQTT-3.1.3-11", "a wildcard in a will's topic", body(0x10, "MQTT", 5, 6, 0, 60, none, "c", none, "a/#", "p"), 5, 0x81},
		{"MQTT-3.1.2.11.3", "a receive maximum of 0", body(0x10, "MQTT", 5, 2, 0, 60, properties(0x21, 0, 0), "c"), 5, 0x82},
		{"MQTT-3.1.2.11.4", "a maximum packet size of 0", body(0x10, "MQTT", 5, 2, 0, 60, properties(0x27, 0, 0, 0, 0), "c"), 5, 0x82},
		{"MQTT-3.1.2.11.7", "a request for problem information of 2", body(0x10, "MQTT", 5, 2, 0, 60, properties(0x17, 2), "c"), 5, 0x82},
		{"MQTT-3.1.2.11.9", "an authentication method", body(0x10, "MQTT", 5, 2, 0, 60, properties(0x15, 0, 1, 'm'), "c"), 5, 0x8c},
		{"MQTT-3.1.2.11.10", "authentication data alone", body(0x10, "MQTT", 5, 2, 0, 60, properties(0x16, 0, 1, 'd'), "c"), 5, 0x82},
		{"MQTT-2.1.4", "bytes behind the end", body(0x10, "MQTT", 5, 2, 0, 60, none, "c", 0), 5, 0x81},
		{"MQTT-3.1.4-2", "wrong credentials", body(0x10, "MQTT", 4, 0xc2, 0, 60, "c", "sensor-1", "x"), 4, 4},
		{"MQTT-3.1.4-2", "wrong credentials", body(0x10, "MQTT", 5, 0xc2, 0, 60, none, "c", "sensor-1", "x"), 5, 0x86},
	} {
		t.Run(fmt.Sprintf("v%d %s %s", c.version, c.statement, c.name), func(t *testing.T) {
			r := dialRaw(t, b.PlainAddr(), c.version)
			r.write(c.packet)
			if c.want != 0 { // [MQTT-3.2.2-7]
				if ack := r.want(packets.Connack); ack.ReasonCode != c.want || ack.SessionPresent {
					t.Errorf("CONNACK %#x %q, want %#x", ack.ReasonCode, ack.Properties.ReasonString, c.want)
				}
			}
			r.wantClosed()
		})
	}
	old := dialRaw(t, b.PlainAddr(), 4) // MQTT 3.1, which 3.1.1 servers may speak
	old.write(body(0x10, "MQIsdp", 3, 0xc2, 0, 60, "c", "sensor-1", token))
	if ack := old.want(packets.Connack); ack.ReasonCode != 0 {
		t.Errorf("MQTT 3.1: CONNACK %#x", ack.ReasonCode)
	}
}

// What stands in CONNACK and holds for the connection [MQTT-3.1.2-21, 3.2.2-2, 3.2.2-3, 3.2.2-16].
func TestConformanceOfConnack(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	connect := lasting(5, "", "sensor-1", token, 1<<31)
	connect.Connect.Keepalive = 0
	r := dialRaw(t, b.PlainAddr(), 5)
	r.send(connect)
	p := r.want(packets.Connack).Properties
	limit := uint32(wire.DefaultMaxFrame + 1024)
	switch {
	case p.AssignedClientID == "":
		t.Error("MQTT-3.2.2-16: no assigned client id")
	case p.ServerKeepAlive != 3600:
		t.Errorf("MQTT-3.1.2-21: server keep alive %d", p.ServerKeepAlive)
	case p.SessionExpiryInterval != 3600 || !p.SessionExpiryIntervalFlag:
		t.Errorf("section 3.2.2.3.2: session expiry %d", p.SessionExpiryInterval)
	case p.ReceiveMaximum != 1024 || p.MaximumPacketSize != limit || p.TopicAliasMaximum != 16:
		t.Errorf("receive maximum %d, maximum packet size %d, topic alias maximum %d", p.ReceiveMaximum, p.MaximumPacketSize, p.TopicAliasMaximum)
	case !p.SharedSubAvailableFlag || p.SharedSubAvailable != 0:
		t.Error("shared subscriptions are not said to be missing")
	}
	again := lasting(5, p.AssignedClientID, "sensor-1", token, 100)
	if _, present := dial(t, b, 5, again); !present {
		t.Error("MQTT-3.2.2-3: the session of the assigned client id is not present")
	}
	again.Connect.Clean = true
	if _, present := dial(t, b, 5, again); present {
		t.Error("MQTT-3.1.2-4: a clean start resumes")
	}
	ends := lasting(5, "ends", "sensor-1", token, 0)
	dial(t, b, 5, ends)
	if _, present := dial(t, b, 5, ends); present { // by takeover, which closes the connection that the session was of
		t.Error("MQTT-3.1.2.11.2: a session with expiry 0 outlives its connection")
	}
}

// Aliases stand for the topic that was given last, on one connection [MQTT-3.3.2-7, 3.3.2-12].
func TestConformanceOfTopicAliases(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	r := connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", token)
	publish := func(r *raw, topic string, alias uint16) {
		r.lastID++
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: topic, PacketID: r.lastID, Payload: []byte(`{"n":1}`)}
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true
		r.send(pk)
	}
	for _, c := range []struct {
		topic string
		alias uint16
		code  byte
	}{
		{"devices/sensor-1/telemetry", 1, 0}, {"", 1, 0}, {"devices/sensor-2/telemetry", 16, 0x87}, {"", 16, 0x87}, {"", 1, 0}, {"devices/sensor-2/telemetry", 1, 0x87}, {"", 1, 0x87},
	} {
		publish(r, c.topic, c.alias)
		if ack := r.want(packets.Puback); ack.ReasonCode != c.code {
			t.Errorf("%q by alias %d: PUBACK %#x, want %#x", c.topic, c.alias, ack.ReasonCode, c.code)
		}
	}
	r = connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", token)
	publish(r, "", 1)
	if pk := r.want(packets.Disconnect); pk.ReasonCode != 0x82 {
		t.Errorf("an alias of the connection before: DISCONNECT %#x", pk.ReasonCode)
	}
}

// MQTT 5's CONNECT says whether reasons are wanted [MQTT-3.1.2-29].
func TestConformanceOfProblemInformation(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	connect := connectPacket(5, "c", "sensor-1", h.device("sensor-1"))
	connect.Properties.RequestProblemInfoFlag = true
	r, _ := dial(t, b, 5, connect)
	r.publish("other", "x", 1, false)
	if ack := r.want(packets.Puback); ack.ReasonCode != 0x87 || ack.Properties.ReasonString != "" {
		t.Errorf("PUBACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
	}
	if codes := r.subscribe(0, "#", "a#", "devices/sensor-1/command"); !bytes.Equal(codes, []byte{0x87, 0x8f, 0}) { // [MQTT-3.8.4-6]
		t.Errorf("SUBACK %#x", codes)
	}
}

// JSON that is no good costs its message [promise 6], by the reason code of an invalid payload.
func TestBadPayloads(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", h.device("sensor-1"))
	for _, c := range []struct {
		payload string
		code    byte
	}{
		{`{"Temp":1,"Temp":2}`, 0x99},
		{`{"Temp":NaN}`, 0x99},
		{`{"Temp":Infinity}`, 0x99},
		{`[1,2,3]`, 0x99},
		{`[[]]`, 0x99},
		{`"text"`, 0x99},
		{`1`, 0x99},
		{`null`, 0x99},
		{``, 0x99},
		{"\xff\xfe", 0x99},
		{`{"a":"` + "\xff" + `"}`, 0x99},
		{`{"v":"` + strings.Repeat("x", 10<<20) + `"}`, 0x95},
		{`{"Temp":1}`, 0},
	} {
		id := r.publish("devices/sensor-1/telemetry", c.payload, 1, false)
		if ack := r.want(packets.Puback); ack.PacketID != id || ack.ReasonCode != c.code {
			t.Errorf("%.40q: PUBACK %#x %q, want %#x", c.payload, ack.ReasonCode, ack.Properties.ReasonString, c.code)
		}
	}
}

// A packet that ends anywhere ends its connection, without harm to another or to the next.
func TestBrokerOutlivesPacketsCutAnywhere(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	other := connectRaw(t, b.PlainAddr(), 4, "o", "sensor-2", h.device("sensor-2"))
	for version := byte(4); version <= 5; version++ {
		var none any = []byte(nil)
		if version == 5 {
			none = []byte{0}
		}
		connect := body(0x10, "MQTT", int(version), 0xc2, 0, 60, none, "c", "sensor-1", token)
		for _, packet := range [][]byte{
			body(0x34, "devices/sensor-1/telemetry", 0, 1, none, []byte(`{"n":1}`)), body(0x62, 0, 1), body(0x40, 0, 1),
			body(0x82, 0, 1, none, "devices/sensor-1/command", 1), body(0xa2, 0, 1, none, "devices/sensor-1/command"),
			{0xc0, 0},
		} {
			for cut := 1; cut < len(packet); cut++ {
				r := dialRaw(t, b.PlainAddr(), version)
				r.write(append(slices.Clip(connect), packet[:cut]...)) // in one piece with CONNECT
				r.want(packets.Connack)
				_ = r.conn.Close()
			}
		}
		for cut := 1; cut < len(connect); cut++ {
			r := dialRaw(t, b.PlainAddr(), version)
			r.write(connect[:cut])
			_ = r.conn.Close()
		}
	}
	other.sync()
	connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", token).sync()
	h.journal.wantDurable(t) // nothing of what was cut off
	if n := faults(t, h.metrics); n > 0 {
		t.Errorf("%v faults of the engine", n)
	}
}
