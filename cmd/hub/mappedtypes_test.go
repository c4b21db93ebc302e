package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"telemetryhub/bridge/presets"
	"telemetryhub/commands/catalogue"
)

// presetBrokers is a configuration with a broker for each preset, and types.
func presetBrokers(t *testing.T, types string) *catalogue.Catalogue {
	t.Helper()
	text := "bridge:\n  brokers:\n"
	for _, name := range presets.Names() {
		text += "    - {name: " + name + ", url: 'mqtt://b', presets: [" + name + "]}\n"
	}
	cfg, err := LoadConfig(writeConfig(t, text+types), noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := cfg.mappedTypes()
	if err != nil {
		t.Fatal(err)
	}
	all, err := deviceTypes(cfg.Types, mapped)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPresetsSayWhatMethodsTheirDevicesHave holds that a preset's types are known as if they stood in the file.
func TestPresetsSayWhatMethodsTheirDevicesHave(t *testing.T) {
	all := presetBrokers(t, "")
	for _, test := range []struct{ kind, method, params, reason string }{
		{"tasmota", "power", `{"state":"ON"}`, ""},
		{"tasmota", "power", `{"state":"on fire"}`, catalogue.ReasonParams},
		{"tasmota", "power", `{}`, catalogue.ReasonParams},
		{"tasmota", "explode", `{}`, catalogue.ReasonMethod},
		{"zigbee", "set", `{"state":"ON","brightness":10}`, ""},
		{"zigbee", "permit_join", `{"time":1}`, catalogue.ReasonMethod},
		{"zigbee2mqtt", "permit_join", `{"time":1}`, ""},
		{"shelly-gen1", "relay", `{"turn":"on"}`, ""},
		{"shelly-gen2", "Switch.Set", `{"id":0,"on":true}`, ""},
		{"esphome", "switch", `{"name":"relay","state":"ON"}`, ""},
		{"esphome", "switch", `{"name":"a/b","state":"ON"}`, catalogue.ReasonParams},
	} {
		terms, err := all.Check(catalogue.Call{Type: test.kind, Method: test.method, Params: json.RawMessage(test.params)})
		refusal, refused := errors.AsType[*catalogue.Refusal](err)
		if refused != (test.reason != "") || refused && refusal.Reason != test.reason {
			t.Errorf("%+v: %v", test, err)
		}
		if test.kind == "shelly-gen1" && (terms.Method.Timeout != 5*time.Second || string(terms.Params) != `{"channel":0,"turn":"on"}`) {
			t.Errorf("terms %v, %s", terms.Method.Timeout, terms.Params)
		}
	}
}

func TestATypeInTheFileWinsOverAPreset(t *testing.T) {
	all := presetBrokers(t, "types:\n  - {name: tasmota, methods: {ping: {}}}\n  - {name: esphome, fields: {sensor.t: {unit: Cel}}}\n")
	if kind, _ := all.Type("tasmota"); len(kind.Methods) != 1 {
		t.Errorf("tasmota: %+v", kind.Methods)
	}
	if kind, _ := all.Type("esphome"); len(kind.Methods) < 5 {
		t.Errorf("esphome, of which the file says only a unit: %+v", kind.Methods)
	}
}

func TestTwoGatewaysAtOneBroker(t *testing.T) {
	const text = "bridge:\n  brokers:\n    - name: a\n      url: mqtt://b\n      presets:\n        - zigbee2mqtt\n        - {name: zigbee2mqtt, options: {base: z2m/east, prefix: east-, gateway: east}}\n"
	cfg, err := LoadConfig(writeConfig(t, text), noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	if e := cfg.Bridge.Brokers[0].external(); len(e.Maps) != 2 || e.Maps[0].Name != "zigbee2mqtt" || e.Maps[1].Name != "zigbee2mqtt 2" {
		t.Errorf("groups: %+v", e.Maps)
	}
}

func TestSchemasOfMapsAreChecked(t *testing.T) {
	const text = "bridge:\n  brokers:\n    - name: a\n      url: mqtt://b\n      maps: [{name: m, topic: 'x/{device}'}]\n      commands:\n        - method: set\n          topic: x/{device}/set\n          params:\n            type: objekt\n"
	_, err := LoadConfig(writeConfig(t, text), noEnvironment)
	if err == nil || !strings.Contains(err.Error(), ":10: bridge.brokers[0].commands[0].params.type") {
		t.Errorf("%v", err)
	}
}

// TestReadingsOfAMappedTypeAreLookedForWhereTheyStand holds that who names no measurement gets that of the device's type.
func TestReadingsOfAMappedTypeAreLookedForWhereTheyStand(t *testing.T) {
	const brokers = "bridge: {brokers: [{name: b, url: 'mqtt://b', presets: [tasmota, zigbee2mqtt]}]}\n"
	for text, want := range map[string]string{
		brokers: "tasmota zigbee ",
		brokers + "types: [{name: tasmota, measurement: plugs}, {name: zigbee}, {name: meter, measurement: power}]": "plugs zigbee power",
	} {
		cfg, err := LoadConfig(writeConfig(t, text), noEnvironment)
		if err != nil {
			t.Fatal(err)
		}
		mapped, err := cfg.mappedTypes()
		if err != nil {
			t.Fatal(err)
		}
		profiles := cfg.profiles(nil, mapped)
		homes := make([]string, 3)
		for i, name := range []string{"tasmota", "zigbee", "meter"} {
			of, _ := profiles.OfType(name)
			homes[i] = of.Home
		}
		if got := strings.Join(homes, " "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if _, err := LoadConfig(writeConfig(t, "types: [{name: a, measurement: '#b'}]"), noEnvironment); err == nil || !strings.Contains(err.Error(), "types[0].measurement") {
		t.Errorf("a measurement that cannot be: %v", err)
	}
}

// TestAPresetCanBeCopied puts what hub --preset prints into the section of a broker: it means what the preset means.
func TestAPresetCanBeCopied(t *testing.T) {
	for _, name := range presets.Names() {
		var text strings.Builder
		if err := run(t.Context(), []string{"--preset", name}, noEnvironment, &text, io.Discard); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), "maps:\n") || strings.Contains(text.String(), "${") {
			t.Errorf("%s: %s", name, text.String())
		}
		copied := "bridge:\n  brokers:\n    - name: a\n      url: mqtt://b\n"
		for line := range strings.Lines(text.String()) {
			copied += "      " + line
		}
		cfg, err := LoadConfig(writeConfig(t, copied), noEnvironment)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, err := presets.Load(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := cfg.Bridge.Brokers[0].MapsConfig
		for what, pair := range map[string][2]any{"maps": {got.Maps, want.Maps}, "commands": {got.Commands, want.Commands}, "ignore": {got.Ignore, want.Ignore}} {
			if one, other := asJSON(t, pair[0]), asJSON(t, pair[1]); one != other {
				t.Errorf("%s: %s of the copy: %s\nof the preset: %s", name, what, one, other)
			}
		}
	}
	if err := run(t.Context(), []string{"--preset", "tasmato"}, noEnvironment, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "there are esphome") {
		t.Errorf("an unknown preset: %v", err)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
