package bridge_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/devices/discovery"
)

// discover gives the hub a list of devices that were seen. It comes before the bridge.
func (h *hub) discover(rules ...discovery.Rule) *discovery.List {
	h.t.Helper()
	kv, err := h.js.CreateKeyValue(h.t.Context(), jetstream.KeyValueConfig{Bucket: "ignored", Storage: jetstream.MemoryStorage})
	if err != nil {
		h.t.Fatal(err)
	}
	list, err := discovery.Open(h.t.Context(), kv, h.registry, discovery.Config{
		Devices: 100, Rules: rules, Clear: func(context.Context, string) {}, Ready: func() error { return nil }, Record: func(devices.Device) {}, Log: testLog(h.t),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := list.Close(context.Background()); err != nil {
			h.t.Error(err)
		}
	})
	h.discovery = list
	return list
}

func TestADeviceThatIsSeenIsAdmittedByHandAndItsNextMessageCounts(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	list := h.discover(discovery.Rule{Bridge: "elsewhere"})
	e := openExternal(t, h, externalConfig(m.url()))
	device := m.client("device")
	defer device.Disconnect(100)
	wantToken(t, device.Publish("devices/lamp/telemetry", 1, true, `{"Temp":20}`))
	wantStats(t, e, "acknowledgement", func(s bridge.ExternalStats) bool { return s.Acked == 1 && s.Refused == 1 })
	h.journal.wantRefused(t, entry{"", bridge.ReasonUnknownDevice})
	seen, ok := list.Get("lamp")
	if !ok || seen.Bridge != "field" || seen.Topic != "devices/lamp/telemetry" || string(seen.Payload) != `{"Temp":20}` || seen.Retained {
		t.Fatalf("seen: %+v", seen)
	}
	if _, err := list.Admit(t.Context(), "lamp", discovery.Admission{Type: "light"}); err != nil {
		t.Fatal(err)
	}
	wantToken(t, device.Publish("devices/lamp/telemetry", 1, false, `{"Temp":21}`))
	h.journal.wantDurable(t, entry{"lamp", "telemetry Temp=21"}) // and not 20
	h.wantOnline("lamp", true, "bridge:field")
}

func TestARuleAdmitsADeviceAndItsFirstMessageCounts(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	list := h.discover(discovery.Rule{Bridge: "field", Device: "tas-*", Type: "tasmota"})
	e := openExternal(t, h, externalConfig(m.url()))
	device := m.client("device")
	defer device.Disconnect(100)
	for n := range 3 {
		for _, id := range []string{"tas-1", "tas-2", "other"} {
			wantToken(t, device.Publish("devices/"+id+"/telemetry", 1, false, fmt.Sprintf(`{"n":%d}`, n)))
		}
	}
	var want []entry
	for n := range 3 {
		want = append(want, entry{"tas-1", fmt.Sprintf("telemetry n=%d", n)}, entry{"tas-2", fmt.Sprintf("telemetry n=%d", n)})
	}
	h.journal.wantDurable(t, want...)
	wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool { return s.Acked == 9 && s.Refused == 3 && s.Devices == 2 })
	if d, ok := h.registry.Get("tas-1"); !ok || d.Type != "tasmota" || d.Admitted.Rule != "field/tas-*" {
		t.Errorf("in the registry: %+v", d)
	}
	if all := list.All(); len(all) != 1 || all[0].Device != "other" || all[0].Count != 3 {
		t.Errorf("on the list: %+v", all)
	}
}

func TestAFloodOfStrangersHoldsNobodyUp(t *testing.T) {
	m := newMosquitto(t, "max_queued_messages 0\nmax_inflight_messages 0")
	h := newHub(t)
	list := h.discover(discovery.Rule{Device: "x*", Max: 20})
	h.device("sensor-1")
	flood := m.client("flood")
	defer flood.Disconnect(100)
	e := openExternal(t, h, externalConfig(m.url()))
	const strangers = 5000
	for n := range strangers {
		flood.Publish(fmt.Sprintf("devices/x%d/telemetry", n), 1, false, `{"n":1}`)
	}
	wantToken(t, flood.Publish("devices/sensor-1/telemetry", 1, false, `{"n":2}`))
	wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool {
		return s.Acked == strangers+1 && s.Refused == strangers-20 && s.Connects == 1
	})
	if got := h.registry.Len(); got != 21 {
		t.Errorf("%d devices in the registry, want 21", got)
	}
	all := list.All()
	if len(all) != 100 || !slices.ContainsFunc(all, func(s discovery.Seen) bool { return s.Device == fmt.Sprintf("x%d", strangers-1) }) {
		t.Errorf("%d devices on the list, or not the last", len(all))
	}
	if online, _ := h.sessions.Online("sensor-1"); online == 0 {
		t.Error("the device that belongs here has no session")
	}
}
