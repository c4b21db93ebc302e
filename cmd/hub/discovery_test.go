package main

import (
	"reflect"
	"strings"
	"testing"

	"telemetryhub/devices/discovery"
)

const admitConfig = `
bridge:
  brokers:
    - {name: home, url: 'tcp://b'}
    - {name: lab, url: 'tcp://c', admit: always, admit_max: 5}
  admit:
    - {bridge: home, device: "tasmota-*", type: tasmota, tags: [plug], max: 20}
    - {device: "sensor-?"}
`

func TestRulesOfAdmissionAreReadInTheirOrder(t *testing.T) {
	cfg, err := LoadConfig(writeConfig(t, admitConfig), noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	want := []discovery.Rule{
		{Bridge: "home", Device: "tasmota-*", Type: "tasmota", Tags: []string{"plug"}, Max: 20},
		{Device: "sensor-?", Max: discovery.DefaultMax},
		{Bridge: "lab", Device: "*", Max: 5},
	}
	if got := cfg.Bridge.rules(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestFaultsOfRulesOfAdmissionAreSaid(t *testing.T) {
	for name, c := range map[string][3]string{
		"unknown bridge": {"bridge: home", "bridge: attic", `bridge.admit[0].bridge: "attic" is not the name of one of bridge.brokers`},
		"no pattern":     {`{device: "sensor-?"}`, `{bridge: home}`, `bridge.admit[1].device: is needed`},
		"bad pattern":    {"sensor-?", "sensor/#", `bridge.admit[1].device: "sensor/#" is not a pattern`},
		"empty tag":      {"tags: [plug]", `tags: [plug, ""]`, `bridge.admit[0].tags[1]:`},
		"no room":        {"max: 20", "max: 0", "bridge.admit[0].max: 0 is too small: at least 1"},
		"twice":          {`{device: "sensor-?"}`, `{bridge: home, device: "tasmota-*"}`, "bridge.admit[1]: is for the same devices as bridge.admit[0], which comes first"},
		"neither":        {"admit: always", "admit: never", `bridge.brokers[1].admit: "never" is not one of ask, always`},
		"taken name":     {"name: lab", "name: embedded", "bridge.brokers[1].name: embedded is what the hub's own broker is called"},
		"twice always":   {`{device: "sensor-?"}`, `{bridge: lab, device: "*"}`, "bridge.brokers[1].admit: always is said by bridge.admit[1] already"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(admitConfig, c[0], c[1], 1)
			if _, err := LoadConfig(writeConfig(t, text), noEnvironment); err == nil || !strings.Contains(err.Error(), c[2]) {
				t.Errorf("%v, want %s", err, c[2])
			}
		})
	}
}
