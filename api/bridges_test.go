package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices"
)

type fakeBridges struct{}

func (fakeBridges) Bridges() []api.Bridge {
	example := api.ShownMessage(time.Now(), "attic/thing", []byte{0xff}, 1)
	example.Reason = "unmapped"
	return []api.Bridge{
		{Name: "embedded", Kind: "embedded", Connected: true, Refused: map[string]uint64{}},
		{
			Name: "home", Kind: "external", Failure: "connection refused", Received: 7, Stored: 5, Unmapped: 1, Refused: map[string]uint64{"unmapped": 1},
			AckMs: api.AckMs{P50: 1.5}, Examples: []api.RefusedMessage{example},
		},
		{Name: "yard", Kind: "external", Connected: true, Unmapped: 4, Refused: map[string]uint64{"unmapped": 4}},
		{Name: "full", Kind: "external", Connected: true, Full: true, Refused: map[string]uint64{}},
	}
}

func (fakeBridges) Try(bridge, topic string, payload []byte, retained bool) (api.TriedMessage, bool) {
	if topic == "none" {
		return api.TriedMessage{Reason: "unmapped", Message: "no map is for the topic"}, true
	}
	ts := int64(5)
	o := api.TriedOutcome{As: "telemetry", Device: "d", TS: &ts, Values: map[string]any{"payload": string(payload), "retained": retained}}
	return api.TriedMessage{Outcomes: []api.TriedOutcome{o}}, bridge == "home"
}

func TestAMessageIsTried(t *testing.T) {
	b := newBench(t, api.Config{})
	const path = "/api/v1/bridges/home/try"
	for body, want := range map[string]string{
		`{"topic":"a/b","payload":"{\"t\":1}"}`:                   `{"outcomes":[{"as":"telemetry","device":"d","registered":false,"ts":5,"values":{"payload":"{\"t\":1}","retained":false}}]}`,
		`{"topic":"a/b","payload_base64":"eA==","retained":true}`: `"values":{"payload":"x","retained":true}`,
		`{"topic":"none"}`: `{"outcomes":[],"reason":"unmapped","message":"no map is for the topic"}`,
	} {
		if got := string(b.ask("POST", path, "op_viewer", body).want(200).body); !strings.Contains(got, want) {
			t.Errorf("%s\nhas no %s", got, want)
		}
	}
	if len(b.acts) != 0 {
		t.Errorf("nothing was changed, and the audit log has %q", b.recorded())
	}
	b.ask("POST", path, "op_viewer", `{"topic":"a","payload_base64":"?"}`).wantProblem(422, "invalid")
	b.ask("POST", path, "op_viewer", `{"topic":"a","payload":"x","payload_base64":"eA=="}`).wantProblem(422, "invalid")
	b.ask("POST", "/api/v1/bridges/attic/try", "op_viewer", `{"topic":"a"}`).wantProblem(404, "bridge_not_found")
}

func TestBridgesAreListedAndOneIsShownWithExamples(t *testing.T) {
	b := newBench(t, api.Config{})
	list := string(b.ask("GET", "/api/v1/bridges", "op_viewer", "").want(200).body)
	if strings.Index(list, `"embedded"`) > strings.Index(list, `"home"`) || strings.Contains(list, "attic") || !strings.Contains(list, `"stored":5`) {
		t.Errorf("%s", list)
	}
	one := string(b.ask("GET", "/api/v1/bridges/home", "op_viewer", "").want(200).body)
	for _, want := range []string{`"failure":"connection refused"`, `"refused":{"unmapped":1}`, `"topic":"attic/thing"`, `"payload_base64":"/w=="`, `"ack_ms":{"p50":1.5,"p99":0,"max":0}`} {
		if !strings.Contains(one, want) {
			t.Errorf("no %s in %s", want, one)
		}
	}
	b.ask("GET", "/api/v1/bridges/attic", "op_viewer", "").wantProblem(404, "bridge_not_found")
}

func TestWhyOfADeviceBehindABroker(t *testing.T) {
	b := newBench(t, api.Config{})
	now := time.Now()
	why := func(p devices.Presence, events ...devices.Event) string {
		t.Helper()
		b.presence["d2"], b.noted["d2"] = p, events
		lines, _ := b.ask("GET", "/api/v1/devices/d2/why", "op_viewer", "").want(200).json()["diagnosis"].([]any)
		return fmt.Sprint(lines...)
	}
	for name, c := range map[string]struct {
		presence devices.Presence
		want     string
	}{
		"its broker is away":       {devices.Presence{Transport: "bridge:home", DisconnectedAt: now, Cause: "lost"}, "The bridge home has not been connected since"},
		"and says why":             {devices.Presence{Transport: "bridge:home", DisconnectedAt: now, Cause: "lost"}, "connection refused. None of the devices behind it"},
		"its bridge is gone":       {devices.Presence{Transport: "bridge:attic", DisconnectedAt: now}, "not in the hub's configuration any more"},
		"it is silent":             {devices.Presence{Transport: "bridge:yard", DisconnectedAt: now}, "The bridge yard is connected: the device is silent"},
		"perhaps it is unmapped":   {devices.Presence{Transport: "bridge:yard", DisconnectedAt: now}, "refused 4 messages on topics"},
		"its bridge reads no more": {devices.Presence{Transport: "bridge:full", Online: true}, "reads nothing at the moment"},
	} {
		if text := why(c.presence); !strings.Contains(text, c.want) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if text := why(devices.Presence{Transport: "bridge:yard", Online: true}); strings.Contains(text, "silent") {
		t.Errorf("of one that is online: %s", text)
	}
	if text := why(devices.Presence{Transport: "wss", DisconnectedAt: now}); strings.Contains(text, "bridge") {
		t.Errorf("of one without a bridge: %s", text)
	}
	unknown := devices.Event{Kind: devices.EventCommand, Reason: "unknown", Message: "relay, command C1: no answer", Count: 1, First: now, Last: now}
	if text := why(devices.Presence{Transport: "bridge:yard", Online: true}, unknown); !strings.Contains(text, "does the device subscribe") {
		t.Errorf("of a command that was not answered: %s", text)
	}
	if text := why(devices.Presence{Transport: "wss", Online: true}, unknown); strings.Contains(text, "does the device subscribe") {
		t.Errorf("of one by wss: %s", text)
	}
	d := b.devices["d2"]
	d.Admitted = &devices.Admitted{Bridge: "home"}
	b.devices["d2"] = d
	if text := why(devices.Presence{}); !strings.Contains(text, "Never connected.") || !strings.Contains(text, "The bridge home has not been connected") {
		t.Errorf("of one that was just admitted: %s", text)
	}
}
