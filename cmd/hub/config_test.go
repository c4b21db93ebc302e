package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

const samples = "../../configs"

// noEnvironment is the environment of a test that sets nothing.
func noEnvironment(string) string { return "" }

func environment(variables map[string]string) func(string) string {
	return func(name string) string { return variables[name] }
}

// writeConfig puts a configuration into a file named hub.yaml.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantFaults loads a configuration that must be refused, with these faults and no other, by line and key.
func wantFaults(t *testing.T, text string, want ...string) {
	t.Helper()
	path := writeConfig(t, text)
	_, err := LoadConfig(path, noEnvironment)
	if _, ok := errors.AsType[*ConfigError](err); !ok {
		t.Fatalf("error = %v, want a *ConfigError", err)
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), path, "hub.yaml"), "\n")
	if !slices.Equal(got, want) {
		t.Errorf("faults:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestEverySampleIsValid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(samples, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	for _, file := range files {
		if _, err := LoadConfig(file, noEnvironment); err != nil {
			t.Error(err)
		}
	}
}

func TestHubYAMLIsTheDefaults(t *testing.T) {
	got, err := LoadConfig(filepath.Join(samples, "hub.yaml"), noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	if want := defaultConfig(); !reflect.DeepEqual(got, want) {
		t.Errorf("configs/hub.yaml:\n%+v\ndefaults:\n%+v", got, want)
	}
	none, err := LoadConfig("", noEnvironment)
	if err != nil || !reflect.DeepEqual(none, defaultConfig()) {
		t.Errorf("no file: %+v, %v", none, err)
	}
}

// TestSamplesShowEveryKey looks that each key stands in a sample, with a comment before it or beside it.
func TestSamplesShowEveryKey(t *testing.T) {
	shown := map[string]bool{}
	for _, name := range []string{"hub.yaml", "bridge.yaml", "grants.yaml", "maps.yaml", "types.yaml"} {
		data, err := os.ReadFile(filepath.Join(samples, name))
		if err != nil {
			t.Fatal(err)
		}
		var document yaml.Node
		if err := yaml.Load(data, &document); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(data), "\n")
		commented := func(line int) bool { // from 1
			return line >= 2 && strings.Contains(lines[line-2], "#")
		}
		var walk func(node *yaml.Node, path string)
		walk = func(node *yaml.Node, path string) {
			switch node.Kind {
			case yaml.SequenceNode:
				for _, item := range node.Content {
					walk(item, path)
				}
			case yaml.MappingNode:
				for i := 0; i+1 < len(node.Content); i += 2 {
					key, value := node.Content[i], node.Content[i+1]
					full := joinKey(path, key.Value)
					if slices.Contains(namedByOperator(), path) {
						full = joinKey(path, anyName)
					}
					shown[full] = true
					if value.Kind == yaml.ScalarNode && !commented(key.Line) {
						t.Errorf("%s:%d: %s has no comment above it", name, key.Line, full)
					}
					if !slices.Contains(withoutKeys(), full) {
						walk(value, full)
					}
				}
			}
		}
		walk(document.Content[0], "")
	}
	// The keys of maps are shown once, in maps.yaml.
	want := slices.DeleteFunc(configKeys(reflect.TypeFor[Config](), ""), func(key string) bool {
		return strings.HasPrefix(key, "mqtt.maps.") || strings.HasPrefix(key, "mqtt.commands.") || strings.HasPrefix(key, "mqtt.presets.")
	})
	for _, key := range want {
		if !shown[key] {
			t.Errorf("%s is in no sample", key)
		}
	}
	if len(shown) != len(want) {
		t.Errorf("the samples show %d keys, there are %d: %v", len(shown), len(want), slices.Sorted(maps.Keys(shown)))
	}
}

// namedByOperator are the sections whose keys are names of the operator's choice.
func namedByOperator() []string {
	return []string{
		"types.fields", "types.methods", "bridge.brokers.presets.options", "bridge.brokers.maps.fields", "bridge.brokers.maps.units", "bridge.brokers.maps.report",
		"bridge.brokers.commands.done_when.fields", "bridge.brokers.commands.examples.levels",
	}
}

// withoutKeys are those whose values have members, not keys: a JSON Schema and what JSON is.
func withoutKeys() []string {
	return []string{
		"types.methods.NAME.params", "bridge.brokers.maps.examples.payload", "bridge.brokers.maps.examples.gives",
		"bridge.brokers.commands.params", "bridge.brokers.commands.examples.params", "bridge.brokers.commands.examples.gives",
	}
}

func TestAllFaultsAtOnceWithLines(t *testing.T) {
	wantFaults(t, `# a comment
data: ""
liste: ":8443"
devices:
  keepalive: fast
  max_frame: 64 lightyears
  max_handshake: 5
  write_timeout: [1s]
keepalive: 10s
ingest:
  batch_lines: 5000.5
  past_limit: yesterday
  keep: 1s
store:
  kind: oracle
  influxdb: http://localhost
mqtt: {listen: "8883", plain_anywhere: yes}
bridge:
  brokers:
    - name: plant
      url: tcp://localhost
      qos: 3
      passwort: x
    - name: plant
      url: file:///etc/passwd
log:
  level: loud
  format: text
  format: json
`,
		`hub.yaml:2: data: must name a folder`,
		`hub.yaml:3: liste: unknown key; did you mean listen?`,
		`hub.yaml:5: devices.keepalive: "fast" is not a duration; write it like 250ms, 45s, 10m or 24h`,
		`hub.yaml:6: devices.max_frame: "64 lightyears" is not a size; write it like 64KiB, 4GiB or as a number of bytes`,
		`hub.yaml:7: devices.max_handshake: unknown key; did you mean devices.max_handshakes?`,
		`hub.yaml:8: devices.write_timeout: must be one value, not a list`,
		`hub.yaml:9: keepalive: unknown key; did you mean devices.keepalive?`,
		`hub.yaml:11: ingest.batch_lines: "5000.5" is not a whole number`,
		`hub.yaml:12: ingest.past_limit: "yesterday" is not a date; write it like 2000-01-01 or 2000-01-01T00:00:00Z`,
		`hub.yaml:13: ingest.keep: 1s is too small: at least 1m0s`,
		`hub.yaml:15: store.kind: "oracle" is not one of embedded, influxdb`,
		`hub.yaml:16: store.influxdb: must be a section with keys of its own, not the value "http://localhost"`,
		`hub.yaml:17: mqtt.plain_anywhere: "yes" is neither true nor false`,
		`hub.yaml:17: mqtt.listen: "8883" is not HOST:PORT; write it like :8443 or 127.0.0.1:8443`,
		`hub.yaml:22: bridge.brokers[0].qos: 3 is too large: at most 2`,
		`hub.yaml:23: bridge.brokers[0].passwort: unknown key; did you mean bridge.brokers.password?`,
		`hub.yaml:24: bridge.brokers[1].name: "plant" is already the name of bridge.brokers[0]`,
		`hub.yaml:25: bridge.brokers[1].url: is not a URL of the form mqtt://HOST:PORT (schemes: mqtt, mqtts, ws, wss, tcp, ssl)`,
		`hub.yaml:27: log.level: "loud" is not one of debug, info, warn, error`,
		`hub.yaml:29: log.format: is set twice; the first is on line 28`,
	)
}

func TestFaultsOfMeaning(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for name, test := range map[string]struct{ text, want string }{
		"plain HTTP for all":       {"http:\n  listen: 0.0.0.0:80", `hub.yaml:2: http.listen: "0.0.0.0:80" is not a loopback address: this listener has no TLS and is for a proxy on the same machine; write it like 127.0.0.1:8080`},
		"plain HTTP without host":  {"http:\n  listen: :80", `hub.yaml:2: http.listen: ":80" is not a loopback address: this listener has no TLS and is for a proxy on the same machine; write it like 127.0.0.1:8080`},
		"plain MQTT for all":       {"mqtt:\n  plain_listen: :1883", `hub.yaml:2: mqtt.plain_listen: ":1883" is not a loopback address: devices would send their tokens unencrypted; if that is meant, set mqtt.plain_anywhere: true`},
		"one address twice":        {"listen: :1\nmqtt:\n  listen: :1", `hub.yaml:3: mqtt.listen: :1 is already the address of listen`},
		"port out of range":        {"listen: :65536", `hub.yaml:1: listen: ":65536" is not HOST:PORT; write it like :8443 or 127.0.0.1:8443`},
		"frame too small":          {"devices:\n  max_frame: 1023", `hub.yaml:2: devices.max_frame: 1023 is too small: at least 1KiB`},
		"frame too large":          {"devices:\n  max_frame: 17MiB", `hub.yaml:2: devices.max_frame: 17MiB is too large: at most 16MiB`},
		"influx without url":       {"store:\n  kind: influxdb\n  influxdb:\n    bucket: b", `hub.yaml:3: store.influxdb.url: is needed with store.kind: influxdb; write it like http://127.0.0.1:8086`},
		"influx without bucket":    {"store:\n  kind: influxdb\n  influxdb:\n    url: http://a:1", `hub.yaml:3: store.influxdb.bucket: is needed with store.kind: influxdb`},
		"key without certificate":  {"tls:\n  key_file: /dev/null", `hub.yaml:1: tls.cert_file: is needed with tls.key_file`},
		"certificate missing":      {"tls:\n  cert_file: " + missing + "\n  key_file: /dev/null", `hub.yaml:2: tls.cert_file: open ` + missing + `: no such file or directory`},
		"impossible name":          {"tls:\n  names:\n    - ok.example\n    - a b", `hub.yaml:4: tls.names[1]: "a b" is neither a DNS name nor an IP address`},
		"token twice":              {"store:\n  influxdb:\n    token: a\n    token_file: b", `hub.yaml:4: store.influxdb.token_file: is set beside store.influxdb.token: only one of them can count`},
		"token file missing":       {"store:\n  influxdb:\n    token_file: " + missing, `hub.yaml:3: store.influxdb.token_file: open ` + missing + `: no such file or directory`},
		"token file empty":         {"store:\n  influxdb:\n    token_file: /dev/null", `hub.yaml:3: store.influxdb.token_file: /dev/null is empty`},
		"password without user":    {"bridge:\n  brokers:\n    - {name: a, url: 'tcp://b', password: c}", `hub.yaml:3: bridge.brokers[0].password: needs a username: MQTT 3.1.1 allows no password without one`},
		"broker without url":       {"bridge:\n  brokers:\n    - name: a", `hub.yaml:3: bridge.brokers[0].url: is needed; write it like mqtt://HOST:PORT`},
		"user in the url":          {"bridge:\n  brokers:\n    - {name: a, url: 'mqtt://u:p@b'}", `hub.yaml:3: bridge.brokers[0].url: holds a user: it belongs into username, its password into password_file or the environment`},
		"path without WebSocket":   {"bridge:\n  brokers:\n    - {name: a, url: 'mqtt://b/mqtt'}", `hub.yaml:3: bridge.brokers[0].url: has a path, which only ws:// and wss:// have`},
		"headers without path":     {"bridge:\n  brokers:\n    - {name: a, url: 'mqtt://b', headers: ['A: b']}", `hub.yaml:3: bridge.brokers[0].headers: are sent with ws:// and wss:// only`},
		"headers of the handshake": {"bridge:\n  brokers:\n    - {name: a, url: 'ws://b', headers: ['Upgrade: b']}", `hub.yaml:3: bridge.brokers[0].headers[0]: Upgrade is set by the WebSocket's handshake itself`},
		"broker's TLS without TLS": {"bridge:\n  brokers:\n    - {name: a, url: 'ws://b', server_name: c}", `hub.yaml:3: bridge.brokers[0].server_name: is of no use with ws://, which has no TLS; write mqtts:// or wss://`},
		"half a pair":              {"bridge:\n  brokers:\n    - {name: a, url: 'wss://b', cert_file: /dev/null}", `hub.yaml:3: bridge.brokers[0].key_file: is needed with cert_file`},
		"group with a slash":       {"bridge:\n  brokers:\n    - {name: a, url: 'wss://b', share: a/b}", `hub.yaml:3: bridge.brokers[0].share: "a/b" is not the name of a group: no /, + or #; write it like hubs`},
		"status of a device":       {"bridge:\n  brokers:\n    - {name: a, url: 'wss://b', status_topic: devices/d/state}", `hub.yaml:3: bridge.brokers[0].status_topic: "devices/d/state" is a topic of devices: the hub would take its own word for theirs`},
		"short keepalive":          {"bridge:\n  brokers:\n    - {name: a, url: 'wss://b', keepalive: 10ms}", `hub.yaml:3: bridge.brokers[0].keepalive: 10ms is too small: at least 1s`},
		"waits that shrink":        {"bridge:\n  brokers:\n    - {name: a, url: 'wss://b', retry_min: 2m}", `hub.yaml:3: bridge.brokers[0].retry_max: 1m0s is too small: at least 2m0s`},
		"one client id twice":      {"bridge:\n  brokers:\n    - {name: a, url: 'wss://b', client_id: c}\n    - {name: b, url: 'wss://b', client_id: c}", `hub.yaml:4: bridge.brokers[1].client_id: "c" is already that of bridge.brokers[0] at the same broker, which would end one connection for the other`},
		"retention of a server":    {"store:\n  kind: influxdb\n  retention: 24h\n  influxdb: {url: 'http://a', bucket: b}", `hub.yaml:3: store.retention: is for the embedded store; with InfluxDB the bucket has its own retention`},
		"nats over http":           {"nats:\n  url: nats://a,http://b", `hub.yaml:2: nats.url: is not a URL of the form nats://HOST:PORT (schemes: nats, tls, ws, wss)`},
		"no list of names":         {"tls:\n  names: a", `hub.yaml:2: tls.names: must be a list, not the value "a"`},
		"a list for a section":     {"tls: [a]", `hub.yaml:1: tls: must be a section with keys of its own, not a list`},
		"not a map at all":         {"- a", `hub.yaml:1: must be a section with keys of its own, not a list`},
		"a size beyond 64 bits":    {"ingest:\n  keep_bytes: 99999999TiB", `hub.yaml:2: ingest.keep_bytes: "99999999TiB" is not a size; write it like 64KiB, 4GiB or as a number of bytes`},
		"a number beyond 64 bits":  {"devices:\n  max_handshakes: 99999999999999999999", `hub.yaml:2: devices.max_handshakes: 99999999999999999999 is out of range`},
		"negative duration":        {"devices:\n  keepalive: -1s", `hub.yaml:2: devices.keepalive: -1s is too small: at least 1s`},
		"duration without unit":    {"devices:\n  keepalive: 45", `hub.yaml:2: devices.keepalive: "45" is not a duration; write it like 250ms, 45s, 10m or 24h`},
		"no suggestion fits":       {"zzzzzzzz: 1", `hub.yaml:1: zzzzzzzz: unknown key`},
		"a second document":        {"listen: :1\n---\nlisten: :2", `hub.yaml:2: a second document begins here; a configuration is one document`},
		"a file that is not YAML":  {"listen: :1\ndata: 'x", `hub.yaml:2: is not YAML: while scanning a quoted scalar: found unexpected end of stream`},
		"tabs":                     {"devices:\n\tkeepalive: 1s", `hub.yaml:2: is not YAML: while scanning for the next token: found character that cannot start any token`},
		"time beyond what a store": {"ingest:\n  past_limit: 1500-01-01", `hub.yaml:2: ingest.past_limit: 1500-01-01 is outside of what a store can hold, 1680 to 2261`},
		"timeout of a command":     {"commands:\n  timeout: 2h", `hub.yaml:2: commands.timeout: 2h0m0s is too large: at most 1h0m0s`},
		"ledger without memory":    {"commands:\n  keep: 10m", `hub.yaml:2: commands.keep: 10m0s is too small: at least 1h0m0s`},
		"ledger shorter than wait": {"commands:\n  keep: 48h\n  expires: 49h", `hub.yaml:3: commands.expires: 49h0m0s is longer than commands.keep, 48h0m0s`},
		"keep below the default":   {"commands:\n  keep: 12h", `hub.yaml:1: commands.expires: 24h0m0s is longer than commands.keep, 12h0m0s`},
		"params beyond a record":   {"commands:\n  max_params: 1MiB", `hub.yaml:2: commands.max_params: 1MiB is too large: at most 512KiB`},
		"no queue":                 {"commands:\n  queue: 0", `hub.yaml:2: commands.queue: 0 is too small: at least 1`},
		"all at once":              {"commands:\n  outstanding: 101", `hub.yaml:2: commands.outstanding: 101 is too large: at most 100`},
		"a grant of all topics":    {"mqtt:\n  grants:\n    - {devices: all, subscribe: ['#']}", `hub.yaml:3: mqtt.grants[0]: subscribe[0]: "#": its first level must be written out, so that it cannot reach the topics of devices`},
		"session of years":         {"mqtt:\n  session_expiry: 8761h", `hub.yaml:2: mqtt.session_expiry: 8761h0m0s is too large: at most 8760h0m0s`},
		"user in the store's URL":  {"store:\n  kind: influxdb\n  influxdb:\n    url: http://u:p@h:1\n    bucket: b", `hub.yaml:4: store.influxdb.url: is more than http://HOST:PORT: a user belongs into store.influxdb.token, as USER:PASSWORD`},
		"bucket without database":  {"store:\n  kind: influxdb\n  influxdb:\n    url: http://h:1\n    bucket: /b", `hub.yaml:5: store.influxdb.bucket: is needed with store.kind: influxdb`},
		"type without a name":      {"types:\n  - fields: {Wh: {type: integer}}", `hub.yaml:2: types[0].name: must be a type that devices have in the registry`},
		"type named twice":         {"types:\n  - {name: a}\n  - {name: a}", `hub.yaml:3: types[1].name: "a" is already the name of types[0]`},
		"type of no field":         {"types:\n  - name: a\n    fields:\n      x.y: {type: int}", `hub.yaml:4: types[0].fields.x.y.type: "int" is not one of float, integer, string, boolean`},
		"field without a type":     {"types:\n  - name: a\n    fields:\n      Wh: {}", `hub.yaml:4: types[0].fields.Wh.type: "" is not one of float, integer, string, boolean`},
		"field twice":              {"types:\n  - name: a\n    fields:\n      Wh: {type: float}\n      Wh: {type: float}", `hub.yaml:5: types[0].fields.Wh: is set twice; the first is on line 4`},
		"fields that are a list":   {"types:\n  - name: a\n    fields: [Wh]", `hub.yaml:3: types[0].fields: must be a section with keys of its own, not a list`},
		"unit of a book":           {"types:\n  - name: a\n    fields:\n      Wh: {unit: " + strings.Repeat("x", 65) + "}", `hub.yaml:4: types[0].fields.Wh.unit: "` + strings.Repeat("x", 65) + `" is not a unit: at most 64 bytes without control characters`},
		"messages below none":      {"devices:\n  limits: {messages: -1}", `hub.yaml:2: devices.limits.messages: -1 is not from 1 to 1000000, nor 0, which is none`},
		"no burst":                 {"devices:\n  limits:\n    burst: 0s", `hub.yaml:3: devices.limits.burst: 0s is too small: at least 1s`},
		"bytes below a frame":      {"devices:\n  limits: {bytes: 10KiB}", `hub.yaml:2: devices.limits.bytes: at 10240 bytes a second a frame of max_frame, 65536 bytes, would hold its sender up for longer than 5 s, within which pings wait: at least 13108 bytes a second, or a smaller max_frame`},
		"frame beyond a type's":    {"devices:\n  limits: {bytes: 20KiB}\ntypes:\n  - name: a\n    limits:\n      max_frame: 1MiB", `hub.yaml:6: types[0].limits.max_frame: at 20480 bytes a second a frame of max_frame, 1048576 bytes, would hold its sender up for longer than 5 s, within which pings wait: at least 209716 bytes a second, or a smaller max_frame`},
		"fields of a type":         {"types:\n  - name: a\n    limits: {fields: 0}", `hub.yaml:3: types[0].limits.fields: 0 is not from 1 to 100000`},
		"limit misspelt":           {"types:\n  - name: a\n    limits: {mesages: 5}", `hub.yaml:3: types[0].limits.mesages: unknown key; did you mean types.limits.messages?`},
		"keepalive of a type":      {"types:\n  - name: a\n    keepalive: {min: 20m}", `hub.yaml:3: types[0].keepalive.min: 20m0s is longer than the longest that a device may ask for, 15m0s`},
		"keepalive the wrong way":  {"devices:\n  keepalive_min: 2m\n  keepalive_max: 1m", `hub.yaml:2: devices.keepalive_min: 2m0s is longer than the longest that a device may ask for, 1m0s`},
		"clones of one":            {"devices:\n  clones:\n    count: 1", `hub.yaml:3: devices.clones.count: 1 is too small: at least 2`},
		"clones let be":            {"devices:\n  clones: {policy: ignore}", `hub.yaml:2: devices.clones.policy: "ignore" is not one of freeze, newest`},
		"method of no name":        {"types:\n  - name: a\n    methods:\n      hub.x: {}", `hub.yaml:4: types[0].methods.hub.x: is no name of a method: names that begin with hub. are the hub's own`},
		"terms of a method":        {"types:\n  - name: a\n    methods:\n      set: {delivery: twice}", `hub.yaml:4: types[0].methods.set.delivery: "twice" is not one of at-most-once, at-least-once`},
		"timeout of a method":      {"types:\n  - name: a\n    methods:\n      set: {timeout: 2h}", `hub.yaml:4: types[0].methods.set.timeout: 2h0m0s is too large: at most 1h0m0s`},
		"role of a method":         {"types:\n  - name: a\n    methods:\n      set: {role: viewer}", `hub.yaml:4: types[0].methods.set.role: "viewer" is not one of operator, admin`},
		"policy for other methods": {"types:\n  - name: a\n    other_methods: maybe", `hub.yaml:3: types[0].other_methods: "maybe" is not one of allow, refuse, announced`},
		"schema of a wrong type":   {"types:\n  - name: a\n    methods:\n      set:\n        params:\n          properties:\n            speed: {type: integer,\n              minimum: fast}", `hub.yaml:8: types[0].methods.set.params.properties.speed.minimum: must be of type number, not string`},
		"schema misspelt":          {"types:\n  - name: a\n    methods:\n      set:\n        params:\n          properties:\n            speed:\n              maximun: 5", `hub.yaml:8: types[0].methods.set.params.properties.speed.maximun: is no keyword of JSON Schema (what is free begins with x-)`},
		"schema from elsewhere":    {"types:\n  - name: a\n    methods:\n      set:\n        params:\n          allOf:\n            - {type: object}\n            - {$ref: 'file:///etc/passwd'}", `hub.yaml:8: types[0].methods.set.params.allOf.1.$ref: "file:///etc/passwd" leads out of the schema; only references within the schema itself are followed`},
		"schema without an end":    {"types:\n  - name: a\n    methods:\n      set:\n        params: &p {not: *p}", `hub.yaml:5: types[0].methods.set.params: is nested deeper than 64`},
		"schema as a list":         {"types:\n  - name: a\n    methods:\n      set:\n        params: [a]", `hub.yaml:5: types[0].methods.set.params: must be of type boolean or object, not array`},
		"schema with a key twice":  {"types:\n  - name: a\n    methods:\n      set:\n        params:\n          type: object\n          type: array", `hub.yaml:7: types[0].methods.set.params.type: is set twice; the first is on line 6`},
		"wildcard in the prefix":   {"bridge:\n  brokers:\n    - {name: a, url: 'tcp://b', topics_prefix: '#'}", `hub.yaml:3: bridge.brokers[0].topics_prefix: "#" is not a beginning of topics: no + or #, no / at its ends; write it like devices`},
	} {
		t.Run(name, func(t *testing.T) { wantFaults(t, test.text, test.want) })
	}
}

// What is accepted here is accepted by the parts: they would refuse it at the start, without key and line.
func TestBoundsAreThoseOfTheParts(t *testing.T) {
	for _, text := range []string{
		"",
		"commands: {timeout: 100ms, expires: 1s, keep: 1h, max_params: 1KiB, queue: 1, outstanding: 1}",
		"commands: {timeout: 1h, expires: 8760h, keep: 8760h, max_params: 512KiB, queue: 10000, outstanding: 100}",
		"mqtt: {session_expiry: 0s}\ndevices: {max_frame: 1KiB}",
		"mqtt: {session_expiry: 8760h, listen: off, plain_listen: ':1883', plain_anywhere: true}\ndevices: {max_frame: 16MiB}",
		"mqtt: {plain_listen: '[::1]:1883'}",
		"bridge: {brokers: [{name: a, url: 'ws://h', qos: 0}, {name: " + strings.Repeat("x", 32) + ", url: 'ssl://h:1', qos: 2, topics_prefix: a/b, username: u, password: p}]}",
		"bridge: {brokers: [{name: a, url: 'wss://h/mqtt', headers: ['A: b'], server_name: s, share: g, status_topic: hubs/a, max_inflight: 1, max_inflight_bytes: 64KiB, max_payload: 1KiB, idle: 1s, connect_timeout: 100ms, keepalive: 1s, retry_min: 1ms, retry_max: 1ms}]}",
		"bridge: {brokers: [{name: a, url: 'mqtts://h', max_inflight: 65535, max_inflight_bytes: 1GiB, max_payload: 16MiB, idle: 24h, connect_timeout: 10m, keepalive: 12h, retry_min: 1h, retry_max: 24h}]}",
	} {
		cfg, err := LoadConfig(writeConfig(t, text), noEnvironment)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		faults := []error{cfg.Commands.ledger().Validate(), cfg.broker().Validate()}
		for _, b := range cfg.Bridge.Brokers {
			faults = append(faults, cfg.external(b).Validate())
		}
		if err := errors.Join(faults...); err != nil {
			t.Errorf("%s: accepted, but %v", text, err)
		}
	}
}

func TestOneLimitHoldsForEachDialect(t *testing.T) {
	cfg, err := LoadConfig(writeConfig(t, "devices: {max_frame: 100KiB}"), noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.broker().MaxFrame; got != 100<<10 {
		t.Errorf("the embedded broker takes %d bytes", got)
	}
	if got := cfg.profile().Limits.MaxFrame; got != 100<<10 {
		t.Errorf("a device may bring %d bytes", got)
	}
}

func TestValuesAreRead(t *testing.T) {
	cfg, err := LoadConfig(writeConfig(t, `
data: /var/lib/hub
devices:            # the whole section is commented out
  # keepalive: 5s
ingest: {keep_bytes: 2GB, past_limit: "2020-05-06T07:08:09Z", batch_age: 1s}
mqtt:
  listen: off
  plain_listen: localhost:1883
store: &store
  retention: 0
bridge:
  brokers:
    - name: plant-1
      url: ssl://broker.example:8883
      username: hub
      password: 0123
`), noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Data = "/var/lib/hub"
	want.Ingest.KeepBytes = 2_000_000_000
	want.Ingest.PastLimit = time.Date(2020, time.May, 6, 7, 8, 9, 0, time.UTC)
	want.Ingest.BatchAge = time.Second
	want.MQTT.Listen = ""
	want.MQTT.PlainListen = "localhost:1883"
	var broker BrokerConfig
	broker.defaults()
	broker.Name, broker.URL, broker.Username, broker.Password = "plant-1", "ssl://broker.example:8883", "hub", "0123"
	want.Bridge.Brokers = []BrokerConfig{broker}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("read %+v\nwant %+v", cfg, want)
	}
	if _, err := LoadConfig(writeConfig(t, "# nothing but a comment\n"), noEnvironment); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestSecretsFromFilesAndEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("file-secret \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := writeConfig(t, "store:\n  influxdb:\n    token_file: "+file+
		"\nbridge:\n  brokers:\n    - {name: plant-1, url: 'tcp://b', username: u, password: inline-secret}\n    - {name: b, url: 'tcp://b', username: u, password_file: "+file+"}\n")
	for name, test := range map[string]struct {
		env                 map[string]string
		token, plant, other string
	}{
		"files":       {nil, "file-secret ", "inline-secret", "file-secret "},
		"environment": {map[string]string{"HUB_INFLUX_TOKEN": "secret-t", "HUB_BRIDGE_PLANT_1_PASSWORD": "secret-p", "HUB_BRIDGE_B_PASSWORD": "secret-q"}, "secret-t", "secret-p", "secret-q"},
	} {
		cfg, err := LoadConfig(path, environment(test.env))
		if err != nil {
			t.Fatal(err)
		}
		got := []string{string(cfg.Store.InfluxDB.Token), string(cfg.Bridge.Brokers[0].Password), string(cfg.Bridge.Brokers[1].Password)}
		if want := []string{test.token, test.plant, test.other}; !slices.Equal(got, want) {
			t.Errorf("%s: secrets %q, want %q", name, got, want)
		}
		wantHidden(t, cfg, got)
	}
}

// wantHidden prints the configuration in every way a program may, and looks for its secrets.
func wantHidden(t *testing.T, cfg Config, secrets []string) {
	t.Helper()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q\n", cfg, cfg, cfg, cfg.Store.InfluxDB.Token, cfg.Store.InfluxDB.Token)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "cfg", cfg, "token", cfg.Store.InfluxDB.Token)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "cfg", cfg, "token", cfg.Store.InfluxDB.Token)
	if err := json.NewEncoder(&out).Encode(cfg); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if at := strings.Index(out.String(), secret); at >= 0 {
			t.Errorf("%q is printed: …%s", secret, out.String()[max(0, at-40):at+len(secret)])
		}
	}
}

func TestUnreadableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := LoadConfig(path, noEnvironment)
	if want := path + ": cannot be read: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	huge := writeConfig(t, strings.Repeat("#", maxConfigFile+1))
	if _, err := LoadConfig(huge, noEnvironment); err == nil || !strings.Contains(err.Error(), "larger than 1MiB") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestSizeIsReadAsItIsWritten(t *testing.T) {
	for _, size := range []Size{0, 1, 1023, 1 << 10, 64 << 10, 1500, 1 << 20, 3 << 30, 5 << 40} {
		if got, err := parseSize(size.String()); err != nil || got != size {
			t.Errorf("%d is written %s and read %d, %v", int64(size), size, got, err)
		}
	}
	for text, want := range map[string]Size{"0": 0, "12": 12, "12B": 12, "3 kB": 3000, "2TB": 2e12, "1TiB": 1 << 40} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "B", "-1", "1.5GiB", "1K", "1kib", "0x10", "9223372036854775808", "8388608TiB"} {
		if got, err := parseSize(bad); err == nil {
			t.Errorf("%q was read as %d", bad, got)
		}
	}
}

func FuzzDecodeConfig(f *testing.F) {
	for _, name := range []string{"hub.yaml", "bridge.yaml"} {
		data, err := os.ReadFile(filepath.Join(samples, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: &x [*x]"))
	f.Add([]byte("bridge: &b {brokers: [*b]}\n<<: *b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := defaultConfig()
		faults := &faultList{lines: map[string]int{}, flags: map[string]string{}}
		decodeConfig(data, &cfg, faults)
		cfg.normalize()
		_ = faults.err("fuzz")
	})
}
