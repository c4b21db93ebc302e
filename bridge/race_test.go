package bridge_test

import (
	"testing"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// TestBrokerEndsASessionWhoseDeviceChangedBeforeItBegan changes the device between CONNECT and session: the change finds
// no session to end.
func TestBrokerEndsASessionWhoseDeviceChangedBeforeItBegan(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, h *hub) error{
		"credentials revoked": func(t *testing.T, h *hub) error {
			_, err := h.registry.NewToken(t.Context(), "sensor-1")
			return err
		},
		"disabled": func(t *testing.T, h *hub) error {
			_, err := h.registry.Update(t.Context(), "sensor-1", func(d *devices.Device) error { d.Enabled = false; return nil })
			return err
		},
		"deleted": func(t *testing.T, h *hub) error { return h.registry.Delete(t.Context(), "sensor-1") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			b := openBroker(t, h)
			token := h.device("sensor-1")
			h.beforeAttach = func() {
				if err := change(t, h); err != nil {
					t.Error(err)
				}
				if h.sessions.Kick("sensor-1", wire.CloseRevoked, name) {
					t.Error("the session was there already")
				}
			}
			r := dialRaw(t, b.PlainAddr(), 5)
			r.send(connectPacket(5, "c", "sensor-1", token))
			if cause := next(t, "end of the session", h.answers.ended); cause != "sensor-1" {
				t.Errorf("the session of %s ended", cause)
			}
			if p := h.sessions.Presence("sensor-1"); p.Online || p.Cause != name {
				t.Errorf("presence %+v", p)
			}
		})
	}
}

// TestABridgedDeviceYieldsToAConnectionThatComesFirst lets the device connect by itself while the bridge makes a session
// for its message.
func TestABridgedDeviceYieldsToAConnectionThatComesFirst(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	var direct *devices.Session
	h.beforeAttach = func() {
		direct = h.sessions.Attach(devices.Attachment{Device: "sensor-1", Transport: "wss", Link: deaf{}})
	}
	openExternal(t, h, externalConfig(m.url()))
	device := m.client("device")
	defer device.Disconnect(100)
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"n":1}`))
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"})
	if p := h.sessions.Presence("sensor-1"); p.Transport != "wss" || p.Session != direct.ID() {
		t.Errorf("presence %+v, want the direct connection, session %d", p, direct.ID())
	}
}
