package bridge_test

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// anybody is a registry that has every device.
type anybody struct{ bridge.Registry }

func (anybody) Get(id string) (devices.Device, bool) {
	return devices.Device{ID: id, Enabled: true}, true
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// publishRetained leaves so many retained messages, each with a time of its own. It writes them in one go, which is much
// cheaper than a client that waits for each.
func (m *mosquitto) publishRetained(messages, bytes int) {
	m.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	r := newRaw(m.t, conn, 4)
	r.send(connectPacket(4, "flood", "bridge", "secret"))
	r.want(packets.Connack)
	go func() {
		filler := strings.Repeat("x", bytes)
		out := bufio.NewWriter(conn)
		for n := range messages {
			payload := fmt.Sprintf(`{"ts":%d,"values":{"n":%d},"text":"%s"}`, 1458031648545+n, n, filler)
			packet := publishPacket(fmt.Sprintf("devices/sensor-%d/telemetry", n), payload, 1, uint16(n+1), false)
			packet[0] |= 1 // retained
			if _, err := out.Write(packet); err != nil {
				return
			}
		}
		_ = out.Flush()
	}()
	for n := range messages {
		if first, _, err := r.packet(); err != nil || first>>4 != packets.Puback {
			m.t.Fatalf("message %d: packet %#x, %v", n, first, err)
		}
	}
}

// A broker that pours out all that it has kept, while the hub's journal stands still: the hub holds what its window
// bounds, by number or by bytes, and takes the rest when it can.
func TestExternalHoldsAFloodOfRetainedMessagesInItsWindow(t *testing.T) {
	for _, test := range []struct {
		name            string
		messages, bytes int // of the flood; bytes of each payload
		window          bridge.ExternalWindow
		inflight        int
		most            int64 // bytes of memory
	}{
		// Of 50 MB.
		{"by number", 50_000, 1000, bridge.DefaultExternalConfig().Window, 256, 4 << 20},
		// Of 12 MB: 17 messages of 60 KB fit into 1 MiB.
		{"by bytes", 200, 60_000, bridge.ExternalWindow{Messages: 256, Bytes: 1 << 20, MaxPayload: 1 << 20}, 17, 4 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMosquitto(t, "max_inflight_messages 1000\nmax_queued_messages 0\n")
			h := newHub(t)
			parts := h.parts()
			parts.Registry = anybody{parts.Registry}
			m.publishRetained(test.messages, test.bytes)
			h.journal.hold()
			before := heap()
			cfg := externalConfig(m.url())
			cfg.Window = test.window
			e, err := bridge.OpenExternal(cfg, parts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeExternal(t, e) })
			wantStats(t, e, "full window", func(s bridge.ExternalStats) bool { return s.InFlight == test.inflight && s.Waiting })
			grown := heap() - before
			t.Logf("%d messages of %d bytes wait, and the heap has grown by %d KiB", test.messages, test.bytes, grown>>10)
			if grown > test.most {
				t.Errorf("the heap has grown by %d bytes, want at most %d", grown, test.most)
			}
			h.journal.release(nil)
			for some := 0; some < test.messages; { // as long as they come
				some = min(some+1000, test.messages)
				h.journal.until(t, "further messages", func() bool { return len(h.journal.durable) >= some })
			}
			wantStats(t, e, "empty window", func(s bridge.ExternalStats) bool {
				return s.InFlight == 0 && s.InFlightBytes == 0 && s.Acked == uint64(test.messages) && s.Connects == 1
			})
		})
	}
}

// A broker that sends back whatever the hub publishes.
func TestExternalRefusesItsOwnWords(t *testing.T) {
	h := newHub(t)
	b := newBadBroker(t, func(r *raw, _ int) {
		if !r.welcome(false) {
			return
		}
		_ = r.message("devices/sensor-1/telemetry", `{"n":1}`, 1, 1, false)
		for {
			first, body, err := r.packet()
			if err != nil {
				return
			}
			if first>>4 != packets.Publish {
				if first>>4 == packets.Pingreq {
					_, _ = r.conn.Write([]byte{0xd0, 0})
				}
				continue
			}
			size := int(body[0])<<8 | int(body[1])
			topic, payload := string(body[2:2+size]), string(body[2+size:])
			_ = r.message(topic, payload, 0, 0, false)
			_ = r.message("devices/sensor-1/event", payload, 0, 0, false) // on another topic it is somebody else's word
		}
	})
	openBad(t, h, b, nil)
	h.wantReady("sensor-1")
	if err := h.send("sensor-1", wire.Command{ID: "A", Method: "ping", Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	h.journal.wantRefused(t, entry{"", bridge.ReasonEcho}, entry{"sensor-1", wire.ReasonBadParams})
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"})
}
