package bridge_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/bridge"
	"telemetryhub/wire"
)

// wantNumbers waits until the bridge's numbers are as wanted, and returns them.
func wantNumbers(t *testing.T, of interface{ Numbers() bridge.Numbers }, what string, ok func(bridge.Numbers) bool) bridge.Numbers {
	t.Helper()
	poll, timeout := time.NewTicker(2*time.Millisecond), time.After(patience)
	defer poll.Stop()
	for {
		n := of.Numbers()
		if ok(n) {
			return n
		}
		select {
		case <-poll.C:
		case <-timeout:
			t.Fatalf("no %s: %+v", what, n)
		}
	}
}

func TestNumbersSayWhatBecameOfEachMessageAndShowTheLastThatWereRefused(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	list := h.discover()
	h.device("sensor-1")
	cfg := externalConfig(m.url())
	cfg.Window.MaxPayload = wire.DefaultMaxFrame
	e := openExternal(t, h, cfg)
	device := m.client("device")
	defer device.Disconnect(100)
	publish := func(topic, payload string) { wantToken(t, device.Publish("devices/"+topic, 1, false, payload)) }
	publish("sensor-1/telemetry", `{"readings":[{"values":{"n":1}},{"values":{"n":2}}]}`)
	publish("sensor-1/telemetry", `{"n":3}`)
	publish("sensor-1/telemetry", `{"n":`)
	publish("sensor-1/telemetry", "\xff\xfe")
	publish("nobody/telemetry", `{"n":1}`)
	huge := strings.Repeat("x", wire.DefaultMaxFrame+1)
	publish("sensor-1/telemetry", huge)
	publish("stranger/telemetry", huge)
	n := wantNumbers(t, e, "acknowledgement of all", func(n bridge.Numbers) bool { return n.Received == 7 && n.InFlight == 0 && n.Pace.Lag == 0 })
	if n.Name != "field" || n.Embedded || n.Address != m.url() || !n.Connected || n.Since.IsZero() || n.Failure != "" || n.Connects != 1 || n.Redelivered != 0 {
		t.Errorf("%+v", n)
	}
	if n.Readings != 3 || n.Devices != 1 || n.Refused[bridge.ReasonUnknownDevice] != 2 || n.Refused[wire.ReasonTooLarge] != 1 || n.Unmapped() != 0 {
		t.Errorf("readings %d, devices %d, refused %v", n.Readings, n.Devices, n.Refused)
	}
	if p := n.Pace; p.AckMax <= 0 || p.Ack50 > p.Ack99 || p.Ack99 > p.AckMax {
		t.Errorf("%+v", p)
	}
	reasons := []string{}
	for _, x := range n.Examples { // the newest first; those of strangers are on the list
		reasons = append(reasons, x.Reason)
		if x.Device != "sensor-1" || x.Topic != "devices/sensor-1/telemetry" || x.Message == "" || x.At.IsZero() {
			t.Errorf("example %+v", x)
		}
	}
	if len(reasons) != 3 || reasons[0] != wire.ReasonTooLarge {
		t.Fatalf("examples %v", reasons)
	}
	if x := n.Examples[0]; x.Size != len(huge) || len(x.Payload) > 0 && !strings.HasPrefix(huge, string(x.Payload)) {
		t.Errorf("of one that was too large: %d bytes, %q", x.Size, x.Payload)
	}
	if x := n.Examples[2]; string(x.Payload) != `{"n":` || x.Size != 5 {
		t.Errorf("the oldest: %+v", x)
	}
	if s, ok := list.Get("stranger"); !ok || s.Size != len(huge) || len(s.Payload) > 0 && !bytes.HasPrefix([]byte(huge), s.Payload) {
		t.Errorf("a stranger's: %d bytes, %q", s.Size, s.Payload)
	}
}

func TestNumbersTellOfLagAndOfTheBroker(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	e := openExternal(t, h, externalConfig(m.url()))
	device := m.client("device")
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"n":0}`))
	connected := wantNumbers(t, e, "reading", func(n bridge.Numbers) bool { return n.Readings == 1 })
	h.journal.hold()
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"n":1}`))
	wantNumbers(t, e, "lag", func(n bridge.Numbers) bool {
		return n.InFlight == 1 && n.Pace.Lag > 10*time.Millisecond && n.Readings == 1
	})
	m.stop()
	n := wantNumbers(t, e, "loss of the connection", func(n bridge.Numbers) bool { return !n.Connected })
	if n.Failure == "" || n.Pace.Lag != 0 || n.InFlight != 0 || !n.Since.After(connected.Since) || n.Devices != 0 {
		t.Errorf("without the broker: %+v", n)
	}
	if p := h.wantOnline("sensor-1", false, ""); !strings.Contains(p.Cause, "the bridge field lost its external broker") || p.Transport != "bridge:field" {
		t.Errorf("the device behind it: %+v", p)
	}
	h.journal.release(nil)
	m.start()
	n = wantNumbers(t, e, "redelivery", func(n bridge.Numbers) bool { return n.Connected && n.Readings == 2 })
	if n.Connects != 2 || n.Redelivered != 1 || n.Failure != "" || n.LastFailure == "" {
		t.Errorf("after its return: %+v", n)
	}
	gathered, err := h.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, g := range gathered {
		names = append(names, g.GetName())
	}
	for _, want := range []string{"hub_bridge_lag_seconds", "hub_bridge_ack_seconds", "hub_bridge_readings_total", "hub_bridge_redelivered_total"} {
		if !slices.Contains(names, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

func TestNumbersOfTheEmbeddedBroker(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + b.PlainAddr().String()).
		SetClientID("numbers").SetUsername("sensor-1").SetPassword(token).SetAutoReconnect(false))
	wantToken(t, client.Connect())
	defer client.Disconnect(100)
	wantToken(t, client.Publish("devices/sensor-1/telemetry", 1, false, `{"readings":[{"values":{"n":1}},{"values":{"n":2}}]}`))
	wantToken(t, client.Publish("devices/sensor-1/telemetry", 0, false, `{"n":3}`))
	wantToken(t, client.Publish("devices/sensor-1/telemetry", 1, false, `{"n":`))
	n := wantNumbers(t, b, "three readings", func(n bridge.Numbers) bool { return n.Readings == 3 && n.Received == 3 && n.InFlight == 0 })
	if n.Name != bridge.EmbeddedName || !n.Embedded || !n.Connected || n.Since.IsZero() || n.Devices != 1 || !strings.HasPrefix(n.Address, "mqtt://127.0.0.1:") || n.Pace.AckMax <= 0 {
		t.Errorf("%+v", n)
	}
	if len(n.Examples) != 1 || n.Examples[0].Device != "sensor-1" || string(n.Examples[0].Payload) != `{"n":` || n.Refused[n.Examples[0].Reason] != 1 {
		t.Errorf("examples %+v, refused %v", n.Examples, n.Refused)
	}
	h.journal.hold()
	late := client.Publish("devices/sensor-1/telemetry", 1, false, `{"n":4}`)
	wantNumbers(t, b, "lag", func(n bridge.Numbers) bool {
		return n.InFlight == 1 && n.Pace.Lag > 10*time.Millisecond && n.Readings == 3
	})
	h.journal.release(nil)
	wantToken(t, late)
	wantNumbers(t, b, "the fourth reading", func(n bridge.Numbers) bool { return n.Readings == 4 && n.Pace.Lag == 0 })
}
