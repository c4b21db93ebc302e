package api_test

import (
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices"
)

func TestWhyBeginsWithADiagnosis(t *testing.T) {
	b := newBench(t, api.Config{})
	now := time.Now()
	b.presence["d2"] = devices.Presence{DisconnectedAt: now, Cause: "no pong", Clock: devices.Clock{ClockOffsetMs: -60_000, ClockAt: now}}
	b.noted["d2"] = []devices.Event{
		{Kind: devices.EventRefused, Reason: "bad_credentials", Message: "no", Remote: "10.0.0.7:999", Status: 401, Count: 14, First: now.Add(-time.Minute), Last: now},
		{Kind: devices.EventLimit, Reason: "too_large", Limit: 10, Value: 20, Count: 1, First: now.Add(-time.Hour), Last: now.Add(-time.Hour)},
	}
	v := b.ask("GET", "/api/v1/devices/d2/why", "op_viewer", "").want(200).json()
	var lines []string
	for _, line := range v["diagnosis"].([]any) {
		lines = append(lines, line.(string))
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"Offline since", "no pong", "1m0s behind", "refused with 401 bad_credentials", "14 times", "hubctl devices token d2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the diagnosis does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "too_large") {
		t.Errorf("an hour ago is not now:\n%s", text)
	}
	if events := v["events"].([]any); len(events) != 2 || events[1].(map[string]any)["value"] != 20.0 {
		t.Errorf("events %v", events)
	}
	b.ask("GET", "/api/v1/devices/d9/why", "op_viewer", "").wantProblem(404, "device_not_found")
}

func TestARefusedPostIsNoted(t *testing.T) {
	b := newBench(t, api.Config{MaxFrame: 1000})
	b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_1", `{"temp":"`+strings.Repeat("x", 2000)+`"}`).wantProblem(413, "frame_too_large")
	e := b.noted["d1"]
	if len(e) != 1 || e[0].Kind != devices.EventLimit || e[0].Limit != 1000 || e[0].Reason != "frame_too_large" {
		t.Errorf("noted %+v", e)
	}
}

func TestRefusedCredentialsOfAPostAreNoted(t *testing.T) {
	b := newBench(t, api.Config{})
	b.ask("POST", "/api/v1/devices/d1/telemetry", "dev_wrong", `{"temp":1}`).wantProblem(401, "bad_credentials")
	b.ask("POST", "/api/v1/devices/d9/telemetry", "dev_wrong", `{"temp":1}`).wantProblem(401, "bad_credentials")
	e := b.noted["d1"]
	if len(e) != 1 || e[0].Kind != devices.EventRefused || e[0].Status != 401 || e[0].Reason != "bad_credentials" || e[0].Remote == "" {
		t.Errorf("noted %+v", e)
	}
	if len(b.noted["d9"]) > 0 {
		t.Errorf("of a device that does not exist: %+v", b.noted["d9"])
	}
}
