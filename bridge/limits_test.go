package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// A device that publishes faster than it may gets all its PUBACKs, later, and is told so in one of them.
func TestBrokerReadsWhoPublishesTooFastLater(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		h.profile.limits["sensor-1"] = devices.Limits{Messages: 10, BurstMs: 2000, MaxFrame: 1000, Fields: 10}
		r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTTWSS, Remote: "pipe"})
		r.send(connectPacket(5, "c", "sensor-1", "secret"))
		if ack := r.want(packets.Connack); ack.Properties.MaximumPacketSize != 1000+1024 {
			t.Errorf("Maximum Packet Size %d", ack.Properties.MaximumPacketSize)
		}
		start := time.Now()
		go func() {
			for i := range 120 {
				r.publish("devices/sensor-1/telemetry", fmt.Sprintf(`{"n":%d}`, i), 1, false)
			}
		}()
		told := 0
		for range 120 {
			ack := r.want(packets.Puback)
			if text := ack.Properties.ReasonString; text != "" {
				told++
				if ack.ReasonCode != 0 || !strings.Contains(text, "rate_limited: messages") {
					t.Errorf("PUBACK %#x %q", ack.ReasonCode, text)
				}
			}
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("120 messages at 10 a second, 20 of them at once, took %v", took)
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		events := h.sessions.Events("sensor-1")
		if i := slices.IndexFunc(events, func(e devices.Event) bool { return e.Reason == "rate_limited" }); i < 0 || events[i].Limit != 10 {
			t.Errorf("recorded %+v", events)
		}
		_ = r.conn.Close()
		synctest.Wait()
		<-ended
	})
}

func TestBrokerTellsADeviceInALoopWhenToComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		h.profile.limits["sensor-1"] = devices.Limits{Connects: 6, MaxFrame: 1000, Fields: 10}
		for version, want := range map[byte]byte{4: 3, 5: 0x97} {
			time.Sleep(2 * time.Minute)
			for i := range 8 {
				r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
				r.version = version
				r.send(connectPacket(version, "c", "sensor-1", "secret"))
				ack := r.want(packets.Connack)
				if i < 7 && ack.ReasonCode != 0 || i == 7 && ack.ReasonCode != want {
					t.Errorf("connection %d: CONNACK %#x %q", i, ack.ReasonCode, ack.Properties.ReasonString)
				}
				if i == 7 && version == 5 && !strings.Contains(ack.Properties.ReasonString, "come back in 10s") {
					t.Errorf("told %q", ack.Properties.ReasonString)
				}
				if i < 7 {
					r.sync() // its session is there
				}
				_ = r.conn.Close()
				<-ended
			}
		}
	})
}

// A message that is too large is refused with its acknowledgement, in whatever version and QoS, and costs nothing else:
// the device need not come back and send it again.
func TestBrokerReadsPastWhatIsTooLarge(t *testing.T) {
	h := newHub(t)
	h.profile.limits["sensor-1"] = devices.Limits{BurstMs: 10_000, MaxFrame: 2000, Fields: 10}
	b := openBroker(t, h)
	token := h.device("sensor-1")
	large := `{"s":"` + strings.Repeat("x", 5<<20) + `"}`
	var want []entry
	for _, version := range []byte{4, 5} {
		for qos := range byte(3) {
			r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
			r.publish("devices/sensor-1/telemetry", large, qos, false)
			if kind := []byte{0, packets.Puback, packets.Pubrec}[qos]; kind != 0 {
				ack := r.want(kind)
				if version == 5 && (ack.ReasonCode != 0x95 || !strings.Contains(ack.Properties.ReasonString, fmt.Sprint(len(large)))) || version == 4 && ack.ReasonCode != 0 {
					t.Errorf("version %d, QoS %d: %#x %q", version, qos, ack.ReasonCode, ack.Properties.ReasonString)
				}
			}
			r.publish("devices/sensor-1/telemetry", `{"n":1}`, 1, false)
			if ack := r.want(packets.Puback); ack.ReasonCode >= 0x80 {
				t.Errorf("the next one: %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
			}
			want = append(want, entry{"sensor-1", wire.ReasonTooLarge})
			h.journal.wantRefused(t, want...)
		}
	}
	if e := h.sessions.Events("sensor-1"); !slices.ContainsFunc(e, func(e devices.Event) bool {
		return e.Kind == devices.EventLimit && e.Limit == 2000 && e.Value == int64(len(large))
	}) {
		t.Errorf("recorded %+v", e)
	}
}
