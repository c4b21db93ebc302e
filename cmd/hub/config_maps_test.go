package main

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"telemetryhub/bridge"
	"telemetryhub/commands"
	"telemetryhub/commands/catalogue"
)

// TestMapFaults holds that what is wrong with maps is told with its line, whether it stands in the file or in a preset.
func TestMapFaults(t *testing.T) {
	const broker = "bridge:\n  brokers:\n    - name: a\n      url: mqtt://b\n"
	for name, test := range map[string][2]string{
		"two maps for a topic": {
			"      maps:\n        - {name: one, topic: 'a/{device}'}\n        - name: two\n          topic: '{device}/b'",
			`hub.yaml:8: bridge.brokers[0].maps[1].topic: "{device}/b" and the topic "a/{device}" of map one are both for a/b; a message is for one map (except: leaves topics out)`,
		},
		"a map and a preset": {
			"      presets: [tasmota]\n      maps:\n        - {name: one, topic: 'tele/{device}/SENSOR'}",
			`hub.yaml:7: bridge.brokers[0].maps[0].topic: "tele/{device}/SENSOR" and the topic`,
		},
		"an example": {
			"      maps:\n        - name: one\n          topic: 'a/{device}'\n          examples:\n            - {topic: a/d, payload: '{\"t\":1}', gives: {values: {t: 2}}}",
			`hub.yaml:9: bridge.brokers[0].maps[0].examples[0]: values should be {"t":2}, and is {"t":1}; all that came out: [{"map":"one","as":"telemetry","device":"d","values":{"t":1}}]`,
		},
		"an example of another topic": {
			"      maps:\n        - name: one\n          topic: 'a/{device}'\n          examples:\n            - {topic: b/d, payload: '{\"t\":1}'}",
			`hub.yaml:9: bridge.brokers[0].maps[0].examples[0]: the message on b/d is refused: no map is for the topic; the nearest is map one, "a/{device}": level 1 is "b", and the pattern has "a"`,
		},
		"a field's path":      {"      maps:\n        - name: one\n          topic: '{device}'\n          fields:\n            t: $.a[", `hub.yaml:9: bridge.brokers[0].maps[0].fields.t: "$.a[": "[" is not .member, ["member"] or [index]`},
		"a key misspelt":      {"      maps:\n        - {name: one, topic: '{device}', measurment: x}", `hub.yaml:6: bridge.brokers[0].maps[0].measurment: unknown key; did you mean bridge.brokers.maps.measurement?`},
		"no preset":           {"      presets: [tasmotta]", `hub.yaml:5: bridge.brokers[0].presets[0]: "tasmotta" is no preset: there are`},
		"no option":           {"      presets:\n        - {name: tasmota, options: {bse: x}}", `hub.yaml:6: bridge.brokers[0].presets[0]: preset tasmota: options.bse: there is no such option`},
		"a preset twice":      {"      presets: [tasmota, tasmota]", `hub.yaml:5: bridge.brokers[0].presets[1]: the preset tasmota stands there twice with the same options`},
		"commands by the way": {"      commands:\n        - {method: m, topic: t}", `hub.yaml:5: bridge.brokers[0].commands: are for devices that maps beside them have made: there are none`},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeConfig(t, broker+test[0])
			_, err := LoadConfig(path, noEnvironment)
			if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), path, "hub.yaml"), test[1]) {
				t.Errorf("%v\nhas no %s", err, test[1])
			}
		})
	}
}

// TestMapsAskForTheHubsOwnTopics holds when the hub's own topics are subscribed to.
func TestMapsAskForTheHubsOwnTopics(t *testing.T) {
	for words, foreign := range map[string]bool{
		"": false, "presets: [tasmota]": true, "presets: [hub, tasmota]": false, "presets: [hub]": false, "maps: [{name: a, topic: 'x/{device}'}]": true,
	} {
		cfg, err := LoadConfig(writeConfig(t, "bridge:\n  brokers:\n    - name: a\n      url: mqtt://b\n      "+words), noEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Bridge.Brokers[0].external(); got.Foreign != foreign || foreign && len(got.Maps) != 1 {
			t.Errorf("%q: foreign %v, %d groups", words, got.Foreign, len(got.Maps))
		}
	}
}

func TestCheckConfigAsACommand(t *testing.T) {
	f, err := parseFlags([]string{"check-config", "FILE", "--data", "D"}, io.Discard)
	if want := (flags{CheckConfig: true, Config: "FILE", Data: "D"}); err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("%+v, %v", f, err)
	}
}

// taken is a device that has one method.
type taken struct{ methods []string }

func (m taken) Commands(device, _ string) (bridge.MappedCommands, bool) {
	schema := json.RawMessage(`{"type":"object","required":["on"]}`)
	return bridge.MappedCommands{Methods: m.methods, Within: 5 * time.Second, Params: schema}, device == "plug"
}

func TestMappedDevicesTakeTheirMethodsOnly(t *testing.T) {
	var m mappedDevices
	m.add("bridge:home", taken{[]string{"power"}})
	m.add("bridge:any", taken{[]string{"*"}})
	for _, test := range []struct {
		device, transport, method string
		within                    time.Duration
		refused                   bool
	}{
		{"plug", "bridge:home", "power", 5 * time.Second, false},
		{"plug", "bridge:home", "explode", 0, true},
		{"plug", "bridge:any", "explode", 5 * time.Second, false},
		{"other", "bridge:home", "explode", 0, false},
		{"plug", "wss", "explode", 0, false},
	} {
		within, err := m.check(test.device, test.transport, test.method, json.RawMessage(`{"on":true}`))
		of, refused := errors.AsType[*commands.InvalidError](err)
		if within != test.within || refused != test.refused {
			t.Errorf("%+v: %s, %v", test, within, err)
		}
		if refused && (of.Reason != catalogue.ReasonMethod || of.Message != `no map of bridge:home says how "explode" goes to the device; it has power`) {
			t.Error(of)
		}
	}
	_, err := m.check("plug", "bridge:home", "power", json.RawMessage(`{}`))
	if of, refused := errors.AsType[*commands.InvalidError](err); !refused || of.Reason != catalogue.ReasonParams || len(of.Faults) != 1 {
		t.Errorf("params that do not fit: %v", err)
	}
}
