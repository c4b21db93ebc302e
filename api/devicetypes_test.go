package api_test

import (
	"testing"

	"telemetryhub/api"
	"telemetryhub/devices"
)

func TestWhatADeviceTakes(t *testing.T) {
	b := newBench(t, api.Config{})
	b.presence["d1"] = devices.Presence{Methods: []string{"set", "fly"}}
	const profile = `,"fields":{"on":{"type":"boolean"}},"keepalive":{"interval_s":120,"min_s":10,"max_s":900},"limits":{"burst_ms":{"value":10000,"from":"default"},` +
		`"bytes":{"value":0,"from":"default"},"connects":{"value":30,"from":"type"},"fields":{"value":1024,"from":"default"},` +
		`"max_frame":{"value":65536,"from":"default"},"messages":{"value":0,"from":"default"}}`
	for path, want := range map[string]string{
		"/api/v1/device-types": `{"types":[{"name":"node","methods":[{"name":"ping","timeout_ms":2000,"role":"operator"},` +
			`{"name":"set","description":"Set it.","params":{"type":"object"},"delivery":"at-least-once","role":"admin"}],"other_methods":"refuse"` + profile + `}]}`,
		"/api/v1/device-types/node": `{"name":"node","methods":[{"name":"ping","timeout_ms":2000,"role":"operator"},` +
			`{"name":"set","description":"Set it.","params":{"type":"object"},"delivery":"at-least-once","role":"admin"}],"other_methods":"refuse"` + profile + `}`,
		"/api/v1/devices/d1/methods": `{"type":"node","methods":[{"name":"fly","role":"operator","listed":false,"announced":true,"taken":false},` +
			`{"name":"ping","timeout_ms":2000,"role":"operator","listed":true,"announced":false,"taken":true},` +
			`{"name":"set","description":"Set it.","params":{"type":"object"},"delivery":"at-least-once","role":"admin","listed":true,"announced":true,"taken":true}],"other_methods":"refuse"}`,
		"/api/v1/devices/d2/methods": `{"type":"Pump","methods":[],"other_methods":"allow"}`,
	} {
		if got := string(b.ask("GET", path, "op_viewer", "").want(200).body); got != want+"\n" {
			t.Errorf("%s\n%s\nwant\n%s", path, got, want)
		}
	}
	b.ask("GET", "/api/v1/device-types/Pump", "op_viewer", "").wantProblem(404, "no_such_type")
	b.ask("GET", "/api/v1/devices/none/methods", "op_viewer", "").wantProblem(404, "device_not_found")
}
