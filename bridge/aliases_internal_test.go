package bridge

import (
	"testing"
	"unsafe"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mochi's strings are bytes of the packet that they came in: what is kept of one is a copy, else each alias would keep a
// packet of the largest size.
func TestAnAliasKeepsNothingOfItsPacket(t *testing.T) {
	c := &client{broker: &Broker{}}
	h := &mochiHook{}
	cl := &mqtt.Client{Net: mqtt.ClientConnection{Conn: &conn{client: c}}}
	packet := []byte("chat/a and a long payload")
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: unsafe.String(&packet[0], len("chat/a"))}
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 1, true
	if _, err := h.readPublish(cl, pk); err != nil {
		t.Fatal(err)
	}
	clear(packet)
	pk.TopicName = ""
	if pk, err := h.readPublish(cl, pk); err != nil || pk.TopicName != "chat/a" {
		t.Errorf("the alias stands for %q, %v", pk.TopicName, err)
	}
}
