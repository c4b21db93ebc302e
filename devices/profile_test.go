package devices_test

import (
	"testing"
	"time"

	"telemetryhub/devices"
)

// profiles has one type, meter, that says some of what there is.
func (h *hub) profiles() *devices.Profiles {
	return devices.NewProfiles(h.registry, common(), map[string]devices.TypeProfile{"meter": {
		Keepalive: devices.Keepalive{Max: time.Hour},
		Limits:    map[string]int64{devices.LimitMessages: 50, devices.LimitMaxFrame: 2048},
		Fields:    map[string]devices.Field{"Wh": {Type: "integer", Unit: "Wh"}},
	}})
}

func TestProfileIsOfTheDeviceElseOfItsTypeElseOfAll(t *testing.T) {
	h := newHub(t)
	p := h.profiles()
	var kept devices.KeptProfile
	if got := kept.Of(p, "d1"); got.Type != "" || got.Limits != common().Limits || got.Keepalive != common().Keepalive {
		t.Errorf("without a type: %+v", got)
	}
	change := func(f func(*devices.Device)) {
		t.Helper()
		if _, err := h.registry.Update(t.Context(), "d1", func(d *devices.Device) error { f(d); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	change(func(d *devices.Device) { d.Type = "meter" })
	got := kept.Of(p, "d1")
	want := devices.Limits{Messages: 50, BurstMs: 10_000, MaxFrame: 2048, Fields: 1024}
	if got.Type != "meter" || got.Limits != want || got.Fields["Wh"].Unit != "Wh" ||
		got.Keepalive != (devices.Keepalive{Interval: 45 * time.Second, Min: 10 * time.Second, Max: time.Hour}) {
		t.Errorf("of the type: %+v", got)
	}
	change(func(d *devices.Device) { d.Limits = map[string]int64{devices.LimitMessages: 0, devices.LimitFields: 7} })
	want.Messages, want.Fields = 0, 7
	if got := kept.Of(p, "d1"); got.Limits != want {
		t.Errorf("of the device: %+v, want %+v", got.Limits, want)
	}
	d, _ := h.registry.Get("d1")
	effective := p.Effective(d.Type, d.Limits)
	for name, want := range map[string]devices.EffectiveLimit{
		devices.LimitMessages: {Value: 0, From: devices.FromDevice},
		devices.LimitFields:   {Value: 7, From: devices.FromDevice},
		devices.LimitMaxFrame: {Value: 2048, From: devices.FromType},
		devices.LimitBurst:    {Value: 10_000, From: devices.FromDefault},
	} {
		if effective[name] != want {
			t.Errorf("%s is %+v, want %+v", name, effective[name], want)
		}
	}
	if err := h.registry.Delete(t.Context(), "d1"); err != nil {
		t.Fatal(err)
	}
	if got := kept.Of(p, "d1"); got.Type != "" || got.Limits != common().Limits {
		t.Errorf("of a device that was deleted: %+v", got)
	}
}

func TestRegistryRefusesLimitsThatAreNone(t *testing.T) {
	h := newHub(t)
	for _, limits := range []map[string]int64{{"speed": 1}, {devices.LimitMessages: -1}, {devices.LimitMaxFrame: 0}, {devices.LimitBytes: 5}} {
		if _, err := h.registry.Update(t.Context(), "d1", func(d *devices.Device) error { d.Limits = limits; return nil }); err == nil {
			t.Errorf("%v was taken", limits)
		}
	}
}

func TestKeepaliveAgrees(t *testing.T) {
	k := common().Keepalive
	for asked, want := range map[time.Duration]time.Duration{0: k.Interval, time.Second: k.Min, time.Minute: time.Minute, time.Hour: k.Max} {
		if got := k.Agree(asked); got != want {
			t.Errorf("asked for %v: %v, want %v", asked, got, want)
		}
	}
}
