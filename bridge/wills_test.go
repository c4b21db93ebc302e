package bridge_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
)

func TestLastWills(t *testing.T) {
	const none = -1
	for name, c := range map[string]struct {
		delay   uint32
		session uint32 // of the device with the will
		end     func(t *testing.T, r *raw, open func(packets.Packet) *raw)
		after   int // seconds until the will; none: it never comes
	}{
		"lost":              {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 0},
		"goodbye":           {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.bye(0) }, none},
		"goodbye with will": {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.bye(4) }, 0},
		"protocol error":    {0, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.write([]byte{0x10, 0}) }, 0},
		"silence":           {0, 0, func(*testing.T, *raw, func(packets.Packet) *raw) { time.Sleep(90 * time.Second) }, 0},
		"taken over": {0, 0, func(_ *testing.T, _ *raw, open func(packets.Packet) *raw) {
			open(lasting(5, "w", "sensor-1", "secret", 60))
		}, 0},
		"delayed":                    {20, 60, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 20},
		"delayed beyond the session": {600, 60, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 60},
		"delayed without a session":  {20, 0, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { _ = r.conn.Close() }, 0},
		"delayed, taken over": {20, 60, func(_ *testing.T, _ *raw, open func(packets.Packet) *raw) {
			open(lasting(5, "w", "sensor-1", "secret", 60))
		}, none},
		"delayed, and the device back": {20, 60, func(_ *testing.T, r *raw, open func(packets.Packet) *raw) {
			_ = r.conn.Close()
			time.Sleep(10 * time.Second)
			open(lasting(5, "w", "sensor-1", "secret", 60))
		}, none},
		"delayed, and another session": {20, 60, func(_ *testing.T, r *raw, open func(packets.Packet) *raw) {
			_ = r.conn.Close()
			time.Sleep(10 * time.Second)
			open(connectPacket(5, "w", "sensor-1", "secret"))
		}, 0},
		"delayed, goodbye with the will": {20, 60, func(_ *testing.T, r *raw, _ func(packets.Packet) *raw) { r.bye(4) }, 20},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbleOf(t, talkative, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
				open := func(pk packets.Packet) *raw {
					r, _ := connect(bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
					r.send(pk)
					r.want(packets.Connack)
					return r
				}
				listener := connectPacket(5, "l", "sensor-2", "secret-2")
				listener.Connect.Keepalive = 0
				hears := open(listener)
				hears.subscribe(0, "chat/#")
				pk := lasting(5, "w", "sensor-1", "secret", c.session)
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain = true, "chat/will", []byte("gone"), true
				pk.Connect.WillProperties = packets.Properties{WillDelayInterval: c.delay, User: []packets.UserProperty{{Key: "k", Val: "v"}}}
				r := open(pk)
				r.sync()
				go drain(r)
				c.end(t, r, func(pk packets.Packet) *raw {
					next := open(pk)
					go drain(next)
					return next
				})
				synctest.Wait()
				began := time.Now()
				heard := make(chan packets.Packet, 10)
				go func() {
					for {
						pk, err := hears.read()
						if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
							continue
						}
						if err != nil {
							return
						}
						heard <- pk
					}
				}()
				select {
				case pk := <-heard:
					took := int(time.Since(began).Round(time.Second) / time.Second)
					if c.after == none {
						t.Errorf("the will came after %d s", took)
					} else if took != c.after || pk.TopicName != "chat/will" || string(pk.Payload) != "gone" || len(pk.Properties.User) != 1 {
						t.Errorf("after %d s: %s %q %v; want the will after %d s", took, pk.TopicName, pk.Payload, pk.Properties.User, c.after)
					}
				case <-time.After(15 * time.Minute):
					if c.after != none {
						t.Error("no will")
					}
				}
				if synctest.Wait(); len(heard) > 0 {
					t.Errorf("and %d messages more", len(heard))
				}
			})
		})
	}
}

// bye sends DISCONNECT with a reason code.
func (r *raw) bye(code byte) {
	r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: code})
}

// drain reads what comes, for a pipe has no buffer.
func drain(r *raw) {
	for {
		if _, err := r.in.ReadByte(); err != nil {
			return
		}
	}
}
