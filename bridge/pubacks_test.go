package bridge_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
)

// A device that does not wait for each acknowledgement shares commits: all that it sends while one is under way is in the
// next. The acknowledgements come in the order of its messages, whatever becomes of each.
func TestBrokerCommitsAWindowOfMessagesAtOnce(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("v%d QoS %d", version, qos), func(t *testing.T) {
				h := newHub(t)
				b := openBroker(t, h)
				r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
				h.journal.hold()
				var want []entry
				for i := range 20 {
					payload := fmt.Sprintf(`{"n":%d}`, i)
					if i%5 == 3 {
						payload = `{"n":`
					} else {
						want = append(want, entry{"sensor-1", fmt.Sprintf("telemetry n=%d", i)})
					}
					r.publish("devices/sensor-1/telemetry", payload, qos, false)
				}
				h.journal.until(t, "20 messages taken", func() bool { return h.journal.appended == len(want) && len(h.journal.refused) == 4 })
				early := make(chan packets.Packet, 1)
				go func() {
					pk, _ := r.read()
					early <- pk
				}()
				select {
				case pk := <-early:
					t.Fatalf("%s %d before the commit", packets.PacketNames[pk.FixedHeader.Type], pk.PacketID)
				default:
				}
				gen := h.journal.gen
				h.journal.release(nil)
				for i := range 20 {
					var ack packets.Packet
					if i == 0 {
						ack = next(t, "acknowledgement", early)
					} else {
						ack = r.want(map[byte]byte{1: packets.Puback, 2: packets.Pubrec}[qos])
					}
					code := byte(0)
					if version == 5 && i%5 == 3 {
						code = 0x99
					}
					if int(ack.PacketID) != i+1 || ack.ReasonCode != code {
						t.Fatalf("acknowledgement %d is of %d, with %#x; want code %#x", i+1, ack.PacketID, ack.ReasonCode, code)
					}
				}
				if h.journal.gen != gen+1 {
					t.Errorf("%d commits, want one", h.journal.gen-gen)
				}
				h.journal.wantDurable(t, want...)
			})
		}
	}
}

func TestBrokerAcknowledgesNothingOfAWindowWhoseCommitFails(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
		h.journal.hold()
		for i := range 10 {
			r.publish("devices/sensor-1/telemetry", fmt.Sprintf(`{"n":%d}`, i), byte(1+i%2), false)
		}
		h.journal.until(t, "10 messages taken", func() bool { return h.journal.appended == 10 })
		h.journal.release(errors.New("disk full"))
		if version == 5 {
			if pk := r.want(packets.Disconnect); pk.ReasonCode != 0x88 {
				t.Errorf("DISCONNECT %#x", pk.ReasonCode)
			}
		}
		r.wantClosed()
		h.wantOnline("sensor-1", false, "")
		if s := b.Stats(); s.Unacknowledged != 10 {
			t.Errorf("%d unacknowledged, want 10", s.Unacknowledged)
		}
	}
}

// While 256 messages wait for their commit, the socket is not read.
func TestBrokerReadsNoMoreThanItsWindow(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTTWSS, Remote: "pipe"})
		r.send(connectPacket(5, "c", "sensor-1", "secret"))
		r.want(packets.Connack)
		h.journal.hold()
		sent := make(chan bool)
		go func() {
			for i := range 300 {
				r.publish("devices/sensor-1/telemetry", fmt.Sprintf(`{"n":%d}`, i), 1, false)
			}
			close(sent)
		}()
		synctest.Wait()
		if h.journal.appended != 256 {
			t.Errorf("%d messages taken, want 256", h.journal.appended)
		}
		h.journal.release(nil)
		for i := range 300 {
			if ack := r.want(packets.Puback); int(ack.PacketID) != i+1 {
				t.Fatalf("PUBACK %d, want %d", ack.PacketID, i+1)
			}
		}
		<-sent
		_ = r.conn.Close()
		<-ended
	})
}

// What a device has sent before the hub stops is acknowledged before it is told so, and need not come again.
func TestBrokerAcknowledgesBeforeItStops(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		r, _ := connect(bridge.Origin{Transport: bridge.TransportMQTTWSS, Remote: "pipe"})
		r.send(connectPacket(5, "c", "sensor-1", "secret"))
		r.want(packets.Connack)
		h.journal.hold()
		r.publish("devices/sensor-1/telemetry", `{"n":1}`, 1, false)
		synctest.Wait()
		time.AfterFunc(500*time.Millisecond, func() { h.journal.release(nil) }) // while the broker is being closed
		go func() {
			for _, want := range []byte{packets.Puback, packets.Disconnect} {
				if pk, err := r.read(); err != nil || pk.FixedHeader.Type != want {
					t.Errorf("got %s, %v; want %s", packets.PacketNames[pk.FixedHeader.Type], err, packets.PacketNames[want])
				}
			}
			drain(r)
		}()
	})
}

// A QoS 2 message that comes again before its PUBREC is taken once; so is one that comes again before its PUBREL.
func TestBrokerTakesAQoS2MessageOnce(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		token := h.device("sensor-1")
		connect := connectPacket(version, "c", "sensor-1", token)
		connect.Connect.Clean = false
		connect.Properties.SessionExpiryInterval, connect.Properties.SessionExpiryIntervalFlag = 100, true
		r := dialRaw(t, b.PlainAddr(), version)
		r.send(connect)
		r.want(packets.Connack)
		h.journal.hold()
		again := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, TopicName: "devices/sensor-1/telemetry", Payload: []byte(`{"n":1}`), PacketID: 7}
		r.send(again)
		again.FixedHeader.Dup = true
		r.send(again)
		r.publish("devices/sensor-1/telemetry", `{"n":2}`, 1, false)
		h.journal.until(t, "messages taken", func() bool { return h.journal.appended == 2 })
		h.journal.release(nil)
		r.want(packets.Pubrec)
		r.want(packets.Puback)
		_ = r.conn.Close()
		h.wantOnline("sensor-1", false, "")

		r = dialRaw(t, b.PlainAddr(), version)
		r.send(connect)
		if ack := r.want(packets.Connack); !ack.SessionPresent {
			t.Error("the session is gone")
		}
		r.want(packets.Pubrec) // sent again, as the device may not have it
		r.send(again)
		if ack := r.want(packets.Pubrec); ack.PacketID != 7 || ack.ReasonCode != 0 {
			t.Errorf("PUBREC %d %#x", ack.PacketID, ack.ReasonCode)
		}
		r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: 7})
		if ack := r.want(packets.Pubcomp); ack.PacketID != 7 || ack.ReasonCode != 0 {
			t.Errorf("PUBCOMP %d %#x", ack.PacketID, ack.ReasonCode)
		}
		h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=2"})
		r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: 7})
		if ack := r.want(packets.Pubcomp); version == 5 && ack.ReasonCode != 0x92 {
			t.Errorf("PUBCOMP of what is done with: %#x", ack.ReasonCode)
		}
	}
}

// An MQTT 5 device that has more in flight than Receive Maximum allows is told so.
func TestBrokerHoldsADeviceToReceiveMaximum(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", h.device("sensor-1"))
	for range 1025 {
		r.publish("devices/sensor-1/telemetry", `{"n":1}`, 2, false)
	}
	for { // some PUBRECs, or all of 1024
		pk, err := r.read()
		if err != nil {
			t.Fatal(err)
		}
		if pk.FixedHeader.Type == packets.Disconnect {
			if pk.ReasonCode != 0x93 {
				t.Errorf("DISCONNECT %#x, want receive maximum exceeded", pk.ReasonCode)
			}
			return
		}
	}
}

// A report of the state is acknowledged when it is durable, in its turn.
func TestBrokerAcknowledgesAStateInItsTurn(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	r := connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", h.device("sensor-1"))
	h.journal.hold()
	r.publish("devices/sensor-1/telemetry", `{"n":1}`, 1, false)
	r.publish("devices/sensor-1/state", `{"Temp":1}`, 1, false)
	r.publish("devices/sensor-1/response", `{"id":"c","error":{"code":-32601,"message":"x"}}`, 1, false)
	next(t, "answer", h.answers.answered)
	h.journal.release(nil)
	for id := range uint16(3) {
		if ack := r.want(packets.Puback); ack.PacketID != id+1 || ack.ReasonCode != 0 {
			t.Fatalf("PUBACK %d %#x, want %d", ack.PacketID, ack.ReasonCode, id+1)
		}
	}
}
