package bridge_test

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A device that is registered with the id of one that was deleted gets nothing of what that one's session held.
func TestASessionEndsWithItsDevicesRegistration(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBrokerOf(t, h, plant())
		display, _ := dial(t, b, version, lasting(version, "d", "display-1", h.display("display-1"), 100))
		display.subscribe(1, "plant/#")
		_ = display.conn.Close()
		h.wantOnline("display-1", false, "")
		press := connectRaw(t, b.PlainAddr(), version, "p", "press-1", h.device("press-1"))
		press.publish("plant/press-1/mode", "secret", 1, false)
		press.want(packets.Puback)
		if err := h.registry.Delete(t.Context(), "display-1"); err != nil {
			t.Fatal(err)
		}
		display, present := dial(t, b, version, lasting(version, "d", "display-1", h.display("display-1"), 100))
		if present {
			t.Error("the session of the one before is present")
		}
		press.publish("plant/press-1/mode", "to nobody", 1, false)
		if ack := press.want(packets.Puback); version == 5 && ack.ReasonCode != 0x10 {
			t.Errorf("PUBACK %#x", ack.ReasonCode)
		}
		display.sync() // nothing has come
	}
}
