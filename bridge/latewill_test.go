package bridge_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices"
)

// changing are devices whose standing a test changes.
type changing struct {
	knownDevices

	standing atomic.Pointer[error] // of sensor-1
}

func (c *changing) Current(device string, _ devices.Proof) error {
	if err := c.standing.Load(); err != nil && device == "sensor-1" {
		return *err
	}
	return nil
}

// freezing are sessions of which a test freezes sensor-1.
type freezing struct {
	bridge.Sessions

	frozen atomic.Bool
}

func (f *freezing) Frozen(device string) *devices.Freeze {
	if device == "sensor-1" && f.frozen.Load() {
		return &devices.Freeze{}
	}
	return nil
}

// A delayed will does not go out when its device may not speak any more, and is counted; it does when its credentials
// have only expired.
func TestADelayedWillOfADeviceThatMayNotSpeak(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		frozen bool
		reason string // "": the will goes out
	}{
		"as before": {},
		"expired":   {err: devices.ErrExpired},
		"revoked":   {err: devices.ErrRevoked, reason: "bad_credentials"},
		"deleted":   {err: fmt.Errorf("device: %w", devices.ErrNotFound), reason: "bad_credentials"},
		"disabled":  {err: fmt.Errorf("device: %w", devices.ErrDisabled), reason: bridge.ReasonDisabled},
		"frozen":    {frozen: true, reason: devices.ReasonFrozen},
	} {
		t.Run(name, func(t *testing.T) {
			registry, sessions := &changing{}, &freezing{}
			inBubbleWith(t, talkative, func(parts *bridge.Hub) {
				sessions.Sessions = parts.Sessions
				parts.Registry, parts.Sessions = registry, sessions
			}, func(t *testing.T, h *hub, connect func(bridge.Origin) (*raw, <-chan error)) {
				open := func(pk packets.Packet) (*raw, <-chan error) {
					r, ended := connect(bridge.Origin{Transport: bridge.TransportMQTT, Remote: "pipe"})
					r.send(pk)
					r.want(packets.Connack)
					return r, ended
				}
				hears, hearsEnded := open(connectPacket(5, "l", "sensor-2", "secret-2"))
				hears.subscribe(0, "chat/#")
				pk := lasting(5, "w", "sensor-1", "secret", 60)
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "chat/will", []byte("gone")
				pk.Connect.WillProperties = packets.Properties{WillDelayInterval: 20}
				r, ended := open(pk)
				r.sync()
				_ = r.conn.Close()
				<-ended
				if c.err != nil {
					registry.standing.Store(&c.err)
				}
				sessions.frozen.Store(c.frozen)
				time.Sleep(21 * time.Second)
				if c.reason == "" {
					hears.wantMessage("chat/will", "gone", 0, false)
				}
				synctest.Wait()
				hears.sync() // and nothing else came
				if c.reason == "" {
					h.journal.wantRefused(t)
				} else {
					h.journal.wantRefused(t, entry{"sensor-1", c.reason})
				}
				_ = hears.conn.Close()
				<-hearsEnded
			})
		})
	}
}
