package bridge_test

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/wire"
)

// Two devices with one client id and sessions that outlive their connections: neither takes the other's over, ends its
// connection, or gets what waits in it.
func TestBrokerKeepsSessionsOfOneClientIDApart(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		tokens := map[string]string{"sensor-1": h.device("sensor-1"), "sensor-2": h.device("sensor-2")}
		connect := func(device string, resumed bool) *raw {
			t.Helper()
			r := dialRaw(t, b.PlainAddr(), version)
			hello := connectPacket(version, "same", device, tokens[device])
			hello.Connect.Clean = false
			if version == 5 {
				hello.Properties.SessionExpiryInterval, hello.Properties.SessionExpiryIntervalFlag = 600, true
			}
			r.send(hello)
			if ack := r.want(packets.Connack); ack.SessionPresent != resumed {
				t.Errorf("v%d %s: session present %v, want %v", version, device, ack.SessionPresent, resumed)
			}
			return r
		}
		command := func(device string, r *raw) {
			t.Helper()
			if err := h.send(device, wire.Command{ID: "C-" + device, Method: "ping", Attempt: 1}); err != nil {
				t.Fatalf("v%d %s: %v", version, device, err)
			}
			if pk := r.want(packets.Publish); pk.TopicName != "devices/"+device+"/command" {
				t.Errorf("v%d %s got %s", version, device, pk.TopicName)
			}
		}
		first := connect("sensor-1", false)
		first.subscribe(1, "devices/sensor-1/command")
		h.wantReady("sensor-1")
		second := connect("sensor-2", false)
		second.subscribe(1, "devices/sensor-2/command")
		h.wantReady("sensor-2")
		first.sync() // it was not ended
		_ = first.conn.Close()
		h.wantOnline("sensor-1", false, "")
		command("sensor-2", second)
		again := connect("sensor-1", true) // with its own subscription, and not the other's
		h.wantReady("sensor-1")
		command("sensor-1", again)
		second.sync()
		again.sync()
	}
}
