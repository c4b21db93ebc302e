package main

import (
	"encoding/json"
	"errors"
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
	mapped, err := cfg.Bridge.mappedTypes()
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
		mapped, err := cfg.Bridge.mappedTypes()
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
