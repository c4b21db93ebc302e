package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/wire"
)

// What a device has not acknowledged keeps its packet id when the session goes on, though the desired state goes out
// before it: the PUBACK of one is not taken for that of the other.
func TestAStateDoesNotTakeThePacketIDOfWhatIsSentAgain(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBrokerOf(t, h, plant())
		token := h.display("display-1")
		display, _ := dial(t, b, version, lasting(version, "d", "display-1", token, 100))
		display.subscribe(1, "plant/#", "devices/display-1/desired")
		press := connectRaw(t, b.PlainAddr(), version, "p", "press-1", h.device("press-1"))
		press.publish("plant/press-1/mode", "run", 1, false)
		press.want(packets.Puback)
		letter := display.wantMessage("plant/press-1/mode", "run", 1, false).PacketID
		_ = display.conn.Close()
		h.wantOnline("display-1", false, "")
		h.states.set(func(s *states) { s.current = desiredState(3) })

		display, _ = dial(t, b, version, lasting(version, "d", "display-1", token, 100))
		for range 2 {
			switch pk := display.want(packets.Publish); pk.TopicName {
			case "devices/display-1/desired":
				if pk.PacketID == letter {
					t.Errorf("v%d: the state has the packet id %d, which a message that comes again has", version, letter)
				}
				display.ack(pk.PacketID)
			default:
				if pk.PacketID != letter {
					t.Errorf("v%d: the message comes again with the packet id %d, it had %d", version, pk.PacketID, letter)
				}
			}
		}
		display.sync()
		_ = display.conn.Close()
		h.wantOnline("display-1", false, "")
		h.states.set(func(s *states) { s.current = wire.State{} })
		display, _ = dial(t, b, version, lasting(version, "d", "display-1", token, 100))
		display.wantMessage("plant/press-1/mode", "run", 1, false) // it is still not acknowledged
	}
}

// A connection that waits for a place in its window ends at once when it is replaced or shut, though the journal stalls:
// the hub can stop.
func TestAConnectionEndsWhileTheJournalStalls(t *testing.T) {
	for name, end := range map[string]func(h *hub, b *bridge.Broker, token string){
		"replaced": func(h *hub, b *bridge.Broker, token string) {
			connectRaw(h.t, b.PlainAddr(), 5, "c", "sensor-1", token)
		},
		"revoked": func(h *hub, _ *bridge.Broker, _ string) { h.sessions.Kick("sensor-1", wire.CloseRevoked, "revoked") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			b := openBroker(t, h)
			token := h.device("sensor-1")
			r := connectRaw(t, b.PlainAddr(), 5, "c", "sensor-1", token)
			h.wantOnline("sensor-1", true, "")
			h.journal.hold()
			for i := range 300 {
				r.publish("devices/sensor-1/telemetry", fmt.Sprintf(`{"n":%d}`, i), 1, false)
			}
			h.journal.until(t, "a full window", func() bool { return h.journal.appended == 256 })
			end(h, b, token)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // there is no time to wait for the journal
			closed := make(chan error, 1)
			go func() { closed <- b.Close(ctx) }()
			defer h.journal.release(nil) // else a failure would keep the test from ending
			if err := next(t, "the broker's end", closed); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

// A new session has nothing of the one before, not even an acknowledgement that is written while it begins: a message of
// QoS 2 with the same packet id is another one.
func TestANewSessionHasNoPacketIDOfTheOneBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
		open := func() (*raw, <-chan error) {
			r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
			r.send(lasting(5, "c", "sensor-1", "secret", 0)) // it ends with its connection
			return r, ended
		}
		before, endedBefore := open()
		before.want(packets.Connack)
		h.journal.hold()
		before.publish("devices/sensor-1/telemetry", `{"n":1}`, 2, false)
		synctest.Wait()
		after, ended := open()
		synctest.Wait() // the old session is cleared, and its DISCONNECT waits to be read
		h.journal.release(nil)
		for range 10_000 { // lets the acknowledgement be noted; it waits for a mutex then, so that the bubble does not rest
			runtime.Gosched()
		}
		go drain(before)
		if ack := after.want(packets.Connack); ack.SessionPresent {
			t.Error("the session that ended is present")
		}
		after.publish("devices/sensor-1/telemetry", `{"n":2}`, 2, false)
		if ack := after.want(packets.Pubrec); ack.PacketID != 1 || ack.ReasonCode != 0 {
			t.Errorf("PUBREC %d %#x", ack.PacketID, ack.ReasonCode)
		}
		h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=2"})
		_ = after.conn.Close()
		<-ended
		<-endedBefore
	})
}
