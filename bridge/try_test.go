package bridge_test

import (
	"strings"
	"testing"

	"telemetryhub/bridge"
	"telemetryhub/bridge/maps"
)

func TestAMessageIsTriedWithoutAnyEffect(t *testing.T) {
	h := newHub(t)
	h.device("plug-1")
	cfg := externalConfig("mqtt://127.0.0.1:1")
	cfg.Maps = []maps.Group{plugs()}
	e, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	defer closeExternal(t, e)
	for _, test := range []struct {
		topic, payload string
		retained       bool
		want           string // map as device reason, of each outcome; or reason: message
	}{
		{"tele/plug-1/SENSOR", `{"Temp":1,"POWER":"ON"}`, false, "plugs/sensor telemetry plug-1 ; plugs/sensor state plug-1 "},
		{"tele/plug-1/SENSOR", `{"Temp":1}`, true, "plugs/sensor telemetry plug-1 retained_without_time"},
		{"tele/plug-9/SENSOR", `{"Temp":1}`, false, "plugs/sensor telemetry plug-9 unknown_device"},
		{"gateway/list", `[{"id":"plug-9"}]`, true, "plugs/list announce plug-9 "},
		{"tele/plug-1/SENSOR", `{"Temp":`, false, "bad_json: map plugs/sensor: not JSON at byte 8"},
		{"tele/plug-1/STATE", `{}`, false, `unmapped: no map is for the topic; the nearest is map plugs/sensor`},
		{"tele/+/SENSOR", `{}`, false, "bad_topic: "},
		{"devices/plug-1/telemetry", `{"T":1}`, false, "hub telemetry plug-1 "},
		{"devices/plug-1/event", `{"name":"x"}`, false, "hub event plug-1 "},
		{"devices/plug-1/state", `{"a":1}`, true, "hub state plug-1 retained_without_time"},
		{"devices/plug-1/response", `{"id":"c","result":1}`, false, "hub answer plug-1 "},
		{"devices/plug-1/response", `{}`, false, "bad_frame: "},
		{"tele/plug-1/SENSOR", strings.Repeat("x", 2<<20), false, "frame_too_large: "},
	} {
		tried := e.Try(maps.Message{Topic: test.topic, Payload: []byte(test.payload), Retained: test.retained})
		var parts []string
		for _, o := range tried.Outcomes {
			parts = append(parts, o.Map+" "+string(o.As)+" "+o.Device+" "+o.Reason)
		}
		if tried.Reason != "" {
			parts = append(parts, tried.Reason+": "+tried.Message)
		}
		if got := strings.Join(parts, "; "); !strings.HasPrefix(got, test.want) || test.want == "" {
			t.Errorf("%s %.40s\ngives %s\nwant %s", test.topic, test.payload, got, test.want)
		}
	}
	if len(h.journal.durable)+len(h.journal.refused) > 0 || h.sessions.Presence("plug-1").Online || e.Stats().Received > 0 {
		t.Error("a message that was tried had an effect")
	}
}
