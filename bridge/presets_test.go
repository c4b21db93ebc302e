package bridge_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/bridge"
	"telemetryhub/bridge/presets"
	"telemetryhub/devices/discovery"
	"telemetryhub/wire"
)

// spoken is a message in the golden files of presets, and the readings that it becomes.
type spoken struct {
	topic, payload string
	readings       []string // their devices
}

// goldenMessages reads what devices say in the golden files of a preset that has no options set.
func goldenMessages(t *testing.T, preset string) []spoken {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("presets", "testdata", preset, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files of %s: %v", preset, err)
	}
	var all []spoken
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\noption ") {
			continue
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			kind, rest, _ := strings.Cut(line, " ")
			switch {
			case kind == ">" || kind == ">r":
				topic, payload, _ := strings.Cut(rest, " ")
				if strings.HasPrefix(rest, `"`) {
					quoted, err := strconv.QuotedPrefix(rest)
					if err != nil {
						t.Fatal(err)
					}
					topic, err = strconv.Unquote(quoted)
					if err != nil {
						t.Fatal(err)
					}
					payload = rest[len(quoted)+1:]
				}
				all = append(all, spoken{topic: topic, payload: payload})
			case strings.HasPrefix(line, `  = {`):
				var outcome struct{ As, Device string }
				if err := json.Unmarshal([]byte(line[4:]), &outcome); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				if outcome.As == "telemetry" || outcome.As == "event" {
					last := &all[len(all)-1]
					last.readings = append(last.readings, outcome.Device)
				}
			}
		}
	}
	return all
}

func presetConfig(t *testing.T, m *mosquitto, preset string) bridge.ExternalConfig {
	t.Helper()
	cfg := externalConfig(m.url())
	var err error
	if cfg.Maps, err = presets.LoadAll([]presets.Use{{Name: preset}}); err != nil {
		t.Fatal(err)
	}
	cfg.Foreign = true
	return cfg
}

// TestPresetsTakeWhatDevicesSay publishes all golden messages to a real broker: the devices are admitted by a rule, with the type
// that the preset gives them, and each reading comes to the journal.
func TestPresetsTakeWhatDevicesSay(t *testing.T) {
	for _, preset := range presets.Names() {
		t.Run(preset, func(t *testing.T) {
			m := newMosquitto(t, "max_queued_messages 0\nmax_inflight_messages 0")
			h := newHub(t)
			h.discover(discovery.Rule{Bridge: "field"})
			e := openExternal(t, h, presetConfig(t, m, preset))
			device := m.client("device")
			defer device.Disconnect(100)
			want := map[string]int{}
			total := 0
			for _, one := range goldenMessages(t, preset) {
				wantToken(t, device.Publish(one.topic, 1, false, one.payload))
				for _, of := range one.readings {
					want[of]++
					total++
				}
			}
			h.journal.until(t, strconv.Itoa(total)+" readings", func() bool { return len(h.journal.durable) == total })
			got := map[string]int{}
			h.journal.mu.Lock()
			for _, reading := range h.journal.durable {
				got[reading.device]++
			}
			h.journal.mu.Unlock()
			if !maps.Equal(got, want) {
				t.Errorf("readings by device: %v, want %v", got, want)
			}
			for id := range want {
				if d, ok := h.registry.Get(id); !ok || d.Type == "" {
					t.Errorf("%s in the registry: %+v", id, d)
				}
			}
			wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool { return s.InFlight == 0 && s.Acked == s.Received })
		})
	}
}

// script is a device of a preset: what it says first, and what it does when it is sent a command.
type script struct {
	preset, device, deviceType, model string

	says           [][2]string
	method, params string
	hears          string // the topic of the command
	wants          string // its payload; {id} is the command's id
	answers        [][2]string
	result         string
}

func scripts() []script {
	return []script{
		{
			preset: "tasmota", device: "plug", deviceType: "tasmota", model: "Sonoff S31",
			says: [][2]string{
				{"tasmota/discovery/E0980680FF6D/config", `{"dn":"Plug","md":"Sonoff S31","sw":"13.3.0.1","t":"plug","ft":"%prefix%/%topic%/"}`},
				{"tele/plug/LWT", "Online"},
			},
			method: "power", params: `{"state":"ON"}`, hears: "cmnd/plug/POWER", wants: "ON",
			answers: [][2]string{{"stat/plug/RESULT", `{"POWER":"ON"}`}, {"stat/plug/POWER", "ON"}}, result: `{"POWER":"ON"}`,
		},
		{
			preset: "zigbee2mqtt", device: "kitchen:2Flamp", deviceType: "zigbee", model: "IKEA LED1624G9",
			says: [][2]string{
				{"zigbee2mqtt/bridge/devices", `[{"ieee_address":"0x90fd9ffffe6494fc","type":"Router","friendly_name":"kitchen/lamp","definition":{"model":"LED1624G9","vendor":"IKEA"}}]`},
				{"zigbee2mqtt/kitchen/lamp/availability", `{"state":"online"}`},
			},
			method: "set", params: `{"state":"ON"}`, hears: "zigbee2mqtt/kitchen/lamp/set", wants: `{"state":"ON"}`,
			answers: [][2]string{{"zigbee2mqtt/kitchen/lamp", `{"state":"ON","brightness":254}`}}, result: `{"seen":{"brightness":254,"state":"ON"}}`,
		},
		{
			preset: "shelly", device: "shelly1-B54B98", deviceType: "shelly-gen1", model: "SHSW-1",
			says: [][2]string{
				{"shellies/announce", `{"id":"shelly1-B54B98","model":"SHSW-1","mac":"8CAAB54B98DF","fw_ver":"20220809-123240/v1.12-g99f7e0b"}`},
				{"shellies/shelly1-B54B98/online", "true"},
			},
			method: "relay", params: `{"turn":"on"}`, hears: "shellies/shelly1-B54B98/relay/0/command", wants: "on",
			answers: [][2]string{{"shellies/shelly1-B54B98/relay/0", "on"}}, result: `{"seen":{"relay.0.on":true,"relay.0.overpower":false}}`,
		},
		{
			preset: "shelly", device: "shellyplus1pm-4417939341dc", deviceType: "shelly-gen2", model: "SNSW-001P16EU",
			says: [][2]string{
				{"shellyplus1pm-4417939341dc/announce", `{"id":"shellyplus1pm-4417939341dc","model":"SNSW-001P16EU","gen":2,"ver":"1.3.1"}`},
				{"shellyplus1pm-4417939341dc/online", "true"},
			},
			method: "Switch.Set", params: `{"id":0,"on":true}`, hears: "shellyplus1pm-4417939341dc/rpc",
			wants:   `{"id":"{id}","method":"Switch.Set","params":{"id":0,"on":true},"src":"telemetry-hub/shellyplus1pm-4417939341dc"}`,
			answers: [][2]string{{"telemetry-hub/shellyplus1pm-4417939341dc/rpc", `{"id":"{id}","src":"shellyplus1pm-4417939341dc","dst":"telemetry-hub/shellyplus1pm-4417939341dc","result":{"was_on":false}}`}},
			result:  `{"was_on":false}`,
		},
		{
			preset: "esphome", device: "kitchen", deviceType: "esphome", model: "nodemcu",
			says: [][2]string{
				{"homeassistant/switch/kitchen/relay/config", `{"cmd_t":"kitchen/switch/relay/command","avty_t":"kitchen/status","dev":{"name":"kitchen","sw":"esphome v2024.1.0 Jan  3 2024","mdl":"nodemcu"}}`},
				{"kitchen/status", "online"},
			},
			method: "switch", params: `{"name":"relay","state":"ON"}`, hears: "kitchen/switch/relay/command", wants: "ON",
			answers: [][2]string{{"kitchen/switch/relay/state", "ON"}}, result: `{"seen":{"switch.relay":true}}`,
		},
	}
}

// TestPresetsCommandDevices admits a device of each preset that has announced itself, and sends it a command.
func TestPresetsCommandDevices(t *testing.T) {
	for _, s := range scripts() {
		t.Run(s.device, func(t *testing.T) {
			m := newMosquitto(t, "")
			h := newHub(t)
			list := h.discover()
			e := openExternal(t, h, presetConfig(t, m, s.preset))
			device := m.client("device")
			defer device.Disconnect(100)
			heard := make(chan paho.Message, 10)
			wantToken(t, device.Subscribe(s.hears, 1, func(_ paho.Client, m paho.Message) { heard <- m }))

			wantToken(t, device.Publish(s.says[0][0], 1, true, s.says[0][1]))
			wantStats(t, e, "acknowledgement", func(s bridge.ExternalStats) bool { return s.Acked == 1 })
			if seen, ok := list.Get(s.device); !ok || seen.Type != s.deviceType || seen.Model != s.model || !seen.Announced {
				t.Fatalf("seen: %+v", seen)
			}
			if _, err := list.Admit(t.Context(), s.device, discovery.Admission{Type: s.deviceType}); err != nil {
				t.Fatal(err)
			}
			for _, say := range s.says {
				wantToken(t, device.Publish(say[0], 1, true, say[1]))
			}
			if got := next(t, "report", h.states.reported); !strings.HasPrefix(got, s.device+" {") || !strings.Contains(got, `"model":"`+s.model+`"`) {
				t.Errorf("reported %s", got)
			}
			h.wantOnline(s.device, true, "bridge:field")
			h.wantReady(s.device)

			if err := h.send(s.device, wire.Command{ID: "01J", Method: s.method, Params: json.RawMessage(s.params), Attempt: 1}); err != nil {
				t.Fatal(err)
			}
			command := next(t, "command", heard)
			if want := strings.ReplaceAll(s.wants, "{id}", "01J"); string(command.Payload()) != want || command.Retained() {
				t.Errorf("command %s, retained %v, want %s", command.Payload(), command.Retained(), want)
			}
			for _, answer := range s.answers {
				wantToken(t, device.Publish(answer[0], 1, false, strings.ReplaceAll(answer[1], "{id}", "01J")))
			}
			if a := next(t, "answer", h.answers.answered); a.ID != "01J" || string(a.Result) != s.result {
				t.Errorf("answer %s %s%s, want %s", a.ID, a.Result, a.Fault, s.result)
			}
			// A command may come back to the hub that has sent it: that is no refusal.
			wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool { return s.InFlight == 0 && s.Acked == s.Received })
			if got := e.Stats().Refused; got != 0 {
				t.Errorf("%d messages were refused", got)
			}
		})
	}
}
