package bridge_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// raw speaks MQTT packet by packet, so that a test sees what a client library would hide.
type raw struct {
	t       *testing.T
	conn    net.Conn
	in      *bufio.Reader
	version byte // 4 or 5
	lastID  uint16
}

// dialRaw opens a connection without CONNECT.
func dialRaw(t *testing.T, addr net.Addr, version byte) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return newRaw(t, conn, version)
}

func newRaw(t *testing.T, conn net.Conn, version byte) *raw {
	return &raw{t: t, conn: conn, in: bufio.NewReader(conn), version: version}
}

// connectPacket is a CONNECT with a clean session and a keepalive of a minute.
func connectPacket(version byte, clientID, username, password string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: version}
	pk.Connect = packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: clientID, Clean: true, Keepalive: 60,
		UsernameFlag: username != "", Username: []byte(username), PasswordFlag: password != "", Password: []byte(password),
	}
	return pk
}

// connectRaw opens a connection as a device and returns it after CONNACK.
func connectRaw(t *testing.T, addr net.Addr, version byte, clientID, device, token string) *raw {
	t.Helper()
	r := dialRaw(t, addr, version)
	r.send(connectPacket(version, clientID, device, token))
	if ack := r.want(packets.Connack); ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
	}
	return r
}

func (r *raw) send(pk packets.Packet) {
	r.t.Helper()
	pk.ProtocolVersion = r.version
	pk.Mods.AllowResponseInfo = true
	var buf bytes.Buffer
	encode := map[byte]func(*bytes.Buffer) error{
		packets.Connect: pk.ConnectEncode, packets.Publish: pk.PublishEncode, packets.Subscribe: pk.SubscribeEncode,
		packets.Puback: pk.PubackEncode, packets.Pubrel: pk.PubrelEncode, packets.Pingreq: pk.PingreqEncode, packets.Disconnect: pk.DisconnectEncode,
		packets.Unsubscribe: pk.UnsubscribeEncode, packets.Pubrec: pk.PubrecEncode, packets.Pubcomp: pk.PubcompEncode, packets.Auth: pk.AuthEncode,
	}[pk.FixedHeader.Type]
	if err := encode(&buf); err != nil {
		r.t.Fatal(err)
	}
	r.write(buf.Bytes())
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	_ = r.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// read returns the next packet, or the error that ended the connection.
func (r *raw) read() (packets.Packet, error) {
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	var pk packets.Packet
	first, err := r.in.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	if pk.FixedHeader.Remaining, _, err = packets.DecodeLength(r.in); err != nil {
		return pk, err
	}
	body := make([]byte, pk.FixedHeader.Remaining)
	if _, err := io.ReadFull(r.in, body); err != nil {
		return pk, err
	}
	pk.ProtocolVersion = r.version
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubcomp:
		err = pk.PubcompDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

// want returns the next packet, which must be of that type.
func (r *raw) want(kind byte) packets.Packet {
	r.t.Helper()
	pk, err := r.read()
	if err != nil {
		r.t.Fatalf("waiting for %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		r.t.Fatalf("got %s (reason %#x, topic %q), want %s", packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode, pk.TopicName, packets.PacketNames[kind])
	}
	return pk
}

// wantClosed checks that the other end closes without another packet.
func (r *raw) wantClosed() {
	r.t.Helper()
	pk, err := r.read()
	var timeout net.Error
	switch {
	case err == nil:
		r.t.Fatalf("got %s, want the end of the connection", packets.PacketNames[pk.FixedHeader.Type])
	case errors.As(err, &timeout) && timeout.Timeout():
		r.t.Fatal("the connection is still open")
	}
}

// publish sends a message and returns its packet id.
func (r *raw) publish(topic, payload string, qos byte, retain bool) uint16 {
	r.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain}, TopicName: topic, Payload: []byte(payload)}
	if qos > 0 {
		r.lastID++
		pk.PacketID = r.lastID
	}
	r.send(pk)
	return pk.PacketID
}

// subscribe returns SUBACK's codes.
func (r *raw) subscribe(qos byte, filters ...string) []byte {
	r.t.Helper()
	r.lastID++
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: r.lastID}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	r.send(pk)
	return r.want(packets.Suback).ReasonCodes
}

// sync returns when all that was sent before has been dealt with.
func (r *raw) sync() {
	r.t.Helper()
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	r.want(packets.Pingresp)
}
