package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

// fakeProfiles are real ones, over the fake's devices.
type fakeProfiles struct {
	*devices.Profiles
	hub *fakeHub
}

// profiles knows the types meter and node.
func (h *fakeHub) profiles(cfg api.Config) fakeProfiles {
	common := devices.Profile{
		Keepalive: devices.Keepalive{Interval: 45 * time.Second, Min: 10 * time.Second, Max: 15 * time.Minute},
		Limits:    devices.Limits{BurstMs: 10_000, MaxFrame: int64(cfg.MaxFrame), Fields: 1024, Connects: 60},
	}
	if cfg.MaxFrame == 0 {
		common.Limits.MaxFrame = wire.DefaultMaxFrame
	}
	return fakeProfiles{devices.NewProfiles(nil, common, map[string]devices.TypeProfile{"meter": {
		Limits: map[string]int64{devices.LimitMessages: 20},
		Fields: map[string]devices.Field{"Temp": {Type: "float", Unit: "Cel"}, "RelH": {Unit: "%RH"}},
	}, "node": {
		Keepalive: devices.Keepalive{Interval: 2 * time.Minute},
		Limits:    map[string]int64{devices.LimitConnects: 30},
		Home:      "nodes",
		Fields:    map[string]devices.Field{"on": {Type: "boolean"}},
	}}), h}
}

func (f fakeProfiles) Of(id string) *devices.Profile {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	d := f.hub.devices[id]
	return f.With(d.Type, d.Limits)
}

type fakeThrottle struct{ *fakeHub }

func (f fakeThrottle) Try(string, *devices.Profile, int64) devices.Hold { return f.hold }
func (f fakeThrottle) Forget(string)                                    {}
func (f fakeThrottle) Slowed(device string) devices.Slowed {
	if device != "d1" {
		return devices.Slowed{}
	}
	return devices.Slowed{Held: 1500 * time.Millisecond, Refused: 2, Limit: devices.LimitMessages, Last: time.Now()}
}

func (f fakeThrottle) Passed(limit string, _ *devices.Profile, _ uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passed = append(f.passed, limit)
}

func TestPostsThatComeTooFastAreToldWhenToComeBack(t *testing.T) {
	b := newBench(t, api.Config{})
	b.hold = devices.Hold{Wait: 1200 * time.Millisecond, Limit: devices.LimitMessages, Bound: 20, Value: 45}
	for _, path := range []string{"telemetry", "state"} {
		answer := b.ask("POST", "/api/v1/devices/d1/"+path, "dev_1", `{"Temp":1}`)
		p := answer.wantProblem(429, "rate_limited")
		if p.Limit != 20 || p.Value != 45 || p.RetryAfterMs != 1200 || answer.header.Get("Retry-After") != "2" || !strings.Contains(p.Detail, "messages") {
			t.Errorf("%s: %+v, Retry-After %q", path, p, answer.header.Get("Retry-After"))
		}
	}
	if len(b.committed) > 0 || len(b.refused) > 0 {
		t.Errorf("committed %v, counted %v: what is sent again is not received yet", b.committed, b.refused)
	}
	b.hold = devices.Hold{}
	b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_1", `{"Temp":1}`).want(204)
}

func TestTheLargestPostIsOfTheDevice(t *testing.T) {
	b := newBench(t, api.Config{})
	b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"limits":{"max_frame":1024}}`).want(200)
	large := `{"s":"` + strings.Repeat("x", 2000) + `"}`
	if p := b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_1", large).wantProblem(413, "frame_too_large"); p.Limit != 1024 {
		t.Errorf("problem %+v", p)
	}
	b.ask("POST", "/api/v1/devices/d2/telemetry", "dev_2", large).want(204)
	if got := b.said(&b.passed); len(got) != 1 || got[0] != devices.LimitMaxFrame {
		t.Errorf("counted %v", got)
	}
}

func TestLimitsOfADevice(t *testing.T) {
	b := newBench(t, api.Config{})
	b.devices["d1"] = devices.Device{ID: "d1", Type: "meter", Enabled: true}
	limits := func(v map[string]any) string {
		t.Helper()
		var lines []string
		all, _ := v["limits"].(map[string]any)
		for _, name := range []string{"messages", "bytes", "burst_ms", "max_frame", "fields", "connects"} {
			l := all[name].(map[string]any)
			lines = append(lines, fmt.Sprintf("%s=%v %v", name, l["value"], l["from"]))
		}
		return strings.Join(lines, ", ")
	}
	v := b.ask("GET", "/api/v1/devices/d1", "op_viewer", "").want(200).json()
	if got, want := limits(v), "messages=20 type, bytes=0 default, burst_ms=10000 default, max_frame=65536 default, fields=1024 default, connects=60 default"; got != want {
		t.Errorf("limits %s\nwant %s", got, want)
	}
	if s := v["slowed"].(map[string]any); s["held_ms"] != 1500.0 || s["refused"] != 2.0 || s["limit"] != "messages" {
		t.Errorf("slowed %v", s)
	}
	v = b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"limits":{"messages":50,"bytes":20000}}`).want(200).json()
	if got := limits(v); !strings.HasPrefix(got, "messages=50 device, bytes=20000 device, ") {
		t.Errorf("limits %s", got)
	}
	v = b.ask("PATCH", "/api/v1/devices/d1", "op_admin", `{"limits":{"messages":0,"bytes":null}}`).want(200).json()
	if got := limits(v); !strings.HasPrefix(got, "messages=0 device, bytes=0 default, ") {
		t.Errorf("limits %s", got)
	}
	for body, want := range map[string]string{
		`{"limits":{"speed":1}}`:        "limits.speed: there is no such limit; there are burst_ms, bytes, connects, fields, max_frame, messages",
		`{"limits":{"messages":-5}}`:    "limits.messages: -5 is not from 1 to 1000000, nor 0, which is none",
		`{"limits":{"bytes":2000}}`:     "limits: at 2000 bytes a second a frame of max_frame, 65536 bytes, would hold its sender up for longer than 5 s",
		`{"limits":{"messages":"5/s"}}`: "body.limits.messages",
	} {
		p := b.ask("PATCH", "/api/v1/devices/d1", "op_admin", body).wantProblem(422, "invalid")
		if !strings.HasPrefix(p.Detail, want) {
			t.Errorf("%s: %s", body, p.Detail)
		}
	}
	b.ask("PATCH", "/api/v1/devices/d1", "op_operator", `{"limits":{"messages":50}}`).wantProblem(403, "role")
}

// What a device says of its units counts before what its type says; why shows where they differ.
func TestUnitsAreTheDevicesElseItsTypes(t *testing.T) {
	b := newBench(t, api.Config{})
	b.devices["d1"] = devices.Device{ID: "d1", Type: "meter", Enabled: true}
	b.units = map[string]string{"Temp": "K"}
	v := b.ask("GET", "/api/v1/devices/d1", "op_viewer", "").want(200).json()
	if got := v["units"].(map[string]any); got["Temp"] != "K" || got["RelH"] != "%RH" {
		t.Errorf("units %v", got)
	}
	values := b.ask("GET", "/api/v1/devices/d1/latest", "op_viewer", "").want(200).json()["values"].(map[string]any)
	if unit := values["RelH"].(map[string]any)["unit"]; unit != "%RH" {
		t.Errorf("latest %v", values)
	}
	if text := string(b.ask("GET", "/api/v1/devices/d1/why", "op_viewer", "").want(200).body); !strings.Contains(text, "It says that Temp is in K; its type meter has Cel.") || !strings.Contains(text, "held it for 1.5s") {
		t.Errorf("why %s", text)
	}
	if len(b.units) != 1 {
		t.Errorf("what the device said was changed: %v", b.units)
	}
}
