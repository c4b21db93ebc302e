package api_test

import (
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices"
)

func TestAFrozenDeviceIsShownAndLetInAgain(t *testing.T) {
	b := newBench(t, api.Config{})
	since := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	b.presence["d2"] = devices.Presence{DisconnectedAt: since, Cause: "frozen", Frozen: &devices.Freeze{
		Since: since, Until: since.Add(time.Minute), Count: 4, Sides: []devices.Side{{Remote: "10.0.0.7:1", Boot: "one", Transport: "wss"}, {Remote: "10.0.0.8:2", Boot: "two", Transport: "mqtt"}},
	}}
	v := b.ask("GET", "/api/v1/devices/d2", "op_viewer", "").want(200).json()
	frozen := v["frozen"].(map[string]any)
	if sides := frozen["sides"].([]any); len(sides) != 2 || sides[1].(map[string]any)["remote"] != "10.0.0.8:2" || frozen["until"] != "2026-03-04T05:07:07Z" {
		t.Errorf("frozen %v", frozen)
	}
	why := b.ask("GET", "/api/v1/devices/d2/why", "op_viewer", "").want(200).json()
	text := ""
	for _, line := range why["diagnosis"].([]any) {
		text += line.(string) + "\n"
	}
	for _, want := range []string{"Frozen as a clone since 2026-03-04 05:06:07Z, until 2026-03-04 05:07:07Z", "10.0.0.7:1 by wss, boot one", "10.0.0.8:2 by mqtt, boot two", "hubctl devices unfreeze d2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the diagnosis does not say %q:\n%s", want, text)
		}
	}
	v = b.ask("POST", "/api/v1/devices/d2/unfreeze", "op_operator", "").want(200).json()
	if v["frozen"] != nil {
		t.Errorf("still frozen: %v", v)
	}
	b.ask("POST", "/api/v1/devices/d2/unfreeze", "op_operator", "").wantProblem(409, "not_frozen")
	b.ask("POST", "/api/v1/devices/d9/unfreeze", "op_operator", "").wantProblem(404, "device_not_found")
}

func TestAProbeTellsItsOutcome(t *testing.T) {
	b := newBench(t, api.Config{})
	since := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	b.probed = devices.Probed{Outcome: devices.ProbeUnresponsive, Took: 1500 * time.Millisecond}
	b.presence["d1"] = devices.Presence{Online: true, Transport: "wss", Unresponsive: since.UnixMilli()}
	if v := b.ask("POST", "/api/v1/devices/d1/probe", "op_operator", "").want(200).json(); v["outcome"] != "unresponsive" || v["took_ms"] != 1500.0 || v["device"] != "d1" {
		t.Errorf("answer %v", v)
	}
	if v := b.ask("GET", "/api/v1/devices/d1", "op_viewer", "").want(200).json(); v["unresponsive_since"] != "2026-03-04T05:06:07Z" {
		t.Errorf("device %v", v)
	}
	why := b.ask("GET", "/api/v1/devices/d1/why", "op_viewer", "").want(200)
	if !strings.Contains(string(why.body), "said nothing since 2026-03-04 05:06:07Z") {
		t.Errorf("why %s", why.body)
	}
	b.ask("POST", "/api/v1/devices/d2/probe", "op_operator", "").wantProblem(409, "device_offline")
	b.probeErr = devices.ErrNoProber
	b.ask("POST", "/api/v1/devices/d1/probe", "op_operator", "").wantProblem(409, "not_probed")
}
