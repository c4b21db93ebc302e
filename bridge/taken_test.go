package bridge_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// qos2 is a PUBLISH of QoS 2 with the packet id 7.
func qos2(topic, payload string, dup bool) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2, Dup: dup}, TopicName: topic, Payload: []byte(payload), PacketID: 7}
}

// release ends an exchange of QoS 2.
func (r *raw) release(id uint16) {
	r.t.Helper()
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: id})
	if ack := r.want(packets.Pubcomp); ack.PacketID != id || ack.ReasonCode != 0 {
		r.t.Errorf("PUBCOMP %d %#x", ack.PacketID, ack.ReasonCode)
	}
}

// A QoS 2 message whose connection is lost, or taken over, before its PUBREC is taken once, whether it becomes durable
// before it comes again or after that. Once it is released, its id is free.
func TestAQoS2MessageIsTakenOnceOverConnections(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for _, lost := range []bool{true, false} {
			for _, late := range []bool{true, false} {
				t.Run(fmt.Sprintf("v%d lost %v late %v", version, lost, late), func(t *testing.T) {
					h := newHub(t)
					b := openBroker(t, h)
					connect := lasting(version, "c", "sensor-1", h.device("sensor-1"), 100)
					r, _ := dial(t, b, version, connect)
					h.journal.hold()
					r.publish("devices/sensor-1/telemetry", `{"n":0}`, 1, false) // before it in the order of acknowledgements
					r.send(qos2("devices/sensor-1/telemetry", `{"n":1}`, false))
					h.journal.until(t, "messages taken", func() bool { return h.journal.appended == 2 })
					if lost {
						_ = r.conn.Close()
						h.wantOnline("sensor-1", false, "")
					}
					next, present := dial(t, b, version, connect)
					if !present {
						t.Fatal("the session is gone")
					}
					if !lost && version == 5 {
						r.want(packets.Disconnect)
					}
					if !lost {
						r.wantClosed()
					}
					if !late {
						h.journal.release(nil)
					}
					next.send(qos2("devices/sensor-1/telemetry", `{"n":1}`, true))
					if late {
						next.sync() // it has been looked at, and has no acknowledgement yet
						h.journal.release(nil)
					}
					if ack := next.want(packets.Pubrec); ack.PacketID != 7 || ack.ReasonCode != 0 {
						t.Errorf("PUBREC %d %#x", ack.PacketID, ack.ReasonCode)
					}
					next.release(7)
					next.send(qos2("devices/sensor-1/telemetry", `{"n":1}`, false))
					next.want(packets.Pubrec)
					h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=0"}, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=1"})
				})
			}
		}
	}
}

// What was not made durable is new when it comes again; who sent it again before that is told so.
func TestAQoS2MessageWhoseCommitFailsIsTakenAgain(t *testing.T) {
	for _, late := range []bool{true, false} {
		h := newHub(t)
		b := openBroker(t, h)
		connect := lasting(5, "c", "sensor-1", h.device("sensor-1"), 100)
		r, _ := dial(t, b, 5, connect)
		h.journal.hold()
		r.send(qos2("devices/sensor-1/telemetry", `{"n":1}`, false))
		h.journal.until(t, "message taken", func() bool { return h.journal.appended == 1 })
		_ = r.conn.Close()
		h.wantOnline("sensor-1", false, "")
		if late {
			r, _ = dial(t, b, 5, connect)
			r.send(qos2("devices/sensor-1/telemetry", `{"n":1}`, true))
			r.sync()
		}
		h.journal.release(errors.New("disk full"))
		if late {
			if pk := r.want(packets.Disconnect); pk.ReasonCode != 0x88 {
				t.Errorf("DISCONNECT %#x", pk.ReasonCode)
			}
			r.wantClosed()
			h.wantOnline("sensor-1", false, "")
		}
		h.journal.release(nil)
		r, _ = dial(t, b, 5, connect)
		r.send(qos2("devices/sensor-1/telemetry", `{"n":1}`, true))
		if ack := r.want(packets.Pubrec); ack.PacketID != 7 || ack.ReasonCode != 0 {
			t.Errorf("PUBREC %d %#x", ack.PacketID, ack.ReasonCode)
		}
		r.release(7)
		h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"})
	}
}

// An id is free without PUBREL where the message was refused, or the device has lost its memory and says something else.
func TestAnIDOfQoS2IsNotHeldAgainstADevice(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	connect := lasting(5, "c", "sensor-1", h.device("sensor-1"), 100)
	var r *raw
	lose := func(payload string, dealtWith func() bool) {
		t.Helper()
		r, _ = dial(t, b, 5, connect)
		h.journal.hold()
		r.publish("devices/sensor-1/telemetry", `{"n":0}`, 1, false)
		r.send(qos2("devices/sensor-1/telemetry", payload, false))
		h.journal.until(t, "message dealt with", dealtWith)
		_ = r.conn.Close()
		h.wantOnline("sensor-1", false, "")
		h.journal.release(nil)
		r, _ = dial(t, b, 5, connect)
	}
	wantCode := func(payload string, want byte) {
		t.Helper()
		r.send(qos2("devices/sensor-1/telemetry", payload, true))
		if ack := r.want(packets.Pubrec); ack.PacketID != 7 || ack.ReasonCode != want {
			t.Errorf("PUBREC %d %#x, want %#x", ack.PacketID, ack.ReasonCode, want)
		}
	}
	lose(`{"n":`, func() bool { return len(h.journal.refused) == 1 })
	wantCode(`{"n":`, 0x99)
	wantCode(`{"n":1}`, 0)
	r.release(7)
	_ = r.conn.Close()
	h.wantOnline("sensor-1", false, "")
	lose(`{"n":2}`, func() bool { return h.journal.appended == 4 })
	wantCode(`{"n":3}`, 0)
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=0"}, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=0"},
		entry{"sensor-1", "telemetry n=2"}, entry{"sensor-1", "telemetry n=3"})
}

// What devices say to each other comes once too.
func TestAQoS2MessageIsHandedOnOnceOverConnections(t *testing.T) {
	h := newHub(t)
	b := openBrokerOf(t, h, plant())
	display := connectRaw(t, b.PlainAddr(), 5, "d", "display-1", h.display("display-1"))
	display.subscribe(0, "plant/#")
	connect := lasting(5, "p", "press-1", h.device("press-1"), 100)
	press, _ := dial(t, b, 5, connect)
	h.journal.hold()
	press.publish("devices/press-1/telemetry", `{"n":0}`, 1, false) // its acknowledgement holds up the next
	press.send(qos2("plant/press-1/mode", "run", false))
	display.wantMessage("plant/press-1/mode", "run", 0, false)
	_ = press.conn.Close()
	h.wantOnline("press-1", false, "")
	press, _ = dial(t, b, 5, connect)
	press.send(qos2("plant/press-1/mode", "run", true))
	press.want(packets.Pubrec)
	press.release(7)
	display.sync()
	h.journal.release(nil)
}
