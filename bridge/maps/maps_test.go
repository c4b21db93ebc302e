package maps_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"telemetryhub/bridge/maps"
)

// compile makes a set of one group.
func compile(t *testing.T, g maps.Group) *maps.Set {
	t.Helper()
	s, err := maps.Compile([]maps.Group{g})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// up returns what a message becomes, as JSON; of a refusal its reason and message.
func up(t *testing.T, s *maps.Set, topic, payload string) string {
	t.Helper()
	return upOf(s, topic, []byte(payload))
}

func upOf(s *maps.Set, topic string, payload []byte) string {
	var w maps.Scratch
	outcomes, err := s.Up(&w, maps.Message{Topic: topic, Payload: payload})
	if r, ok := errors.AsType[*maps.Refusal](err); ok {
		return "! " + r.Reason + ": " + r.Error()
	}
	text, failed := json.Marshal(maps.Show(outcomes))
	if err = errors.Join(err, failed); err != nil {
		return "? " + err.Error() // neither a refusal nor JSON: no test wants it
	}
	return string(text)
}

func TestUp(t *testing.T) {
	with := func(change func(*maps.Map)) maps.Map {
		m := maps.Map{Name: "m", Topic: "farm/{site}/{device}/{field}"}
		m.Device = "gh-{site}-{device}"
		change(&m)
		return m
	}
	for name, test := range map[string]struct {
		m       maps.Map
		payload string
		want    string // a part of what comes out
	}{
		"all of an object": {
			with(func(*maps.Map) {}), `{"t":21.5,"a":{"b":true},"n":null,"s":"x"}`,
			`[{"map":"m","as":"telemetry","device":"gh-north-7","values":{"a.b":true,"s":"x","t":21.5}}]`,
		},
		"chosen and renamed": {with(func(m *maps.Map) {
			m.Measurement = "{field}"
			m.Fields = map[string]string{"temperature": "$.t|times:0.1", "door": "$.sensors[0].open", "room": "{site}", "gone": "$.gone"}
			m.Units = map[string]string{"temperature": "Cel"}
		}), `{"t":215,"sensors":[{"open":true}]}`, `"measurement":"climate","values":{"door":true,"room":"north","temperature":21.5},"units":{"temperature":"Cel"}}]`},
		"nothing chosen is there": {with(func(m *maps.Map) { m.Fields = map[string]string{"x": "$.x"} }), `{"t":1}`, "! no_field"},
		"a number":                {with(func(m *maps.Map) { m.Payload, m.Field = "number", "{field}" }), " +021.50 ", `"values":{"climate":21.5}`},
		"NaN":                     {with(func(m *maps.Map) { m.Payload = "number" }), "nan", `! bad_frame: map m: the payload "nan" is not a finite number`},
		"infinity":                {with(func(m *maps.Map) { m.Payload = "number" }), "1e999", "out of the range"},
		"NaN in JSON":             {with(func(*maps.Map) {}), `{"t":NaN}`, "! bad_json: map m: not JSON at byte 5"},
		"a name twice":            {with(func(*maps.Map) {}), `{"t":1,"t":2}`, "duplicate"},
		"not UTF-8":               {with(func(m *maps.Map) { m.Payload = "text" }), "ab\xff", "! bad_utf8: map m: the payload is not UTF-8 at byte 2"},
		"text":                    {with(func(m *maps.Map) { m.Payload, m.Field = "text", "{field}" }), `ON "x"`, `"values":{"climate":"ON \"x\""}`},
		"auto":                    {with(func(m *maps.Map) { m.Payload = "auto" }), "1.5", `"values":{"value":1.5}`},
		"auto of text":            {with(func(m *maps.Map) { m.Payload = "auto" }), "nan", `"values":{"value":"nan"}`},
		"cbor":                    {with(func(m *maps.Map) { m.Payload = "cbor" }), "\xa1atd\x18\x15", "! "},
		"cbor well":               {with(func(m *maps.Map) { m.Payload = "cbor" }), "\xa1at\x18\x15", `"values":{"t":21}`},
		"senml":                   {with(func(m *maps.Map) { m.Payload = "senml" }), `[{"bn":"gh-north-7:","n":"t","u":"Cel","v":3,"t":1700000000}]`, `"ts":1700000000000,"values":{"t":3},"units":{"t":"Cel"}`},
		"line": {
			with(func(m *maps.Map) { m.Payload, m.Device = "line", "{$.tags.host}" }), "cpu,host=a load=1.5,n=2i,ok=t 1700000000000000000\nmem,host=b used=7",
			`[{"map":"m","as":"telemetry","device":"a","measurement":"cpu","ts":1700000000000,"values":{"host":"a","load":1.5,"n":2,"ok":true}},{"map":"m","as":"telemetry","device":"b","measurement":"mem","values":{"host":"b","used":7}}]`,
		},
		"line broken":       {with(func(m *maps.Map) { m.Payload = "line" }), "cpu,host=a", "line protocol"},
		"a list":            {with(func(*maps.Map) {}), `{"a":[1,2]}`, `"quarantined":"bad_value`},
		"a list by index":   {with(func(m *maps.Map) { m.Arrays = "index" }), `{"a":[1,{"b":[2]}]}`, `"values":{"a.0":1,"a.1.b.0":2}`},
		"a list left out":   {with(func(m *maps.Map) { m.Arrays = "omit" }), `{"a":[1,2],"b":{"c":1,"d":[]}}`, `"values":{"b.c":1}`},
		"omitted":           {with(func(m *maps.Map) { m.Omit = []string{"$.b.c", "$.x"} }), `{"b":{"c":1,"d":2},"x":1}`, `"values":{"b.d":2}`},
		"each":              {with(func(m *maps.Map) { m.Each, m.Device = "$.list", "{$.id}" }), `{"list":[{"id":"a","v":1},{"id":"b","v":2}]}`, `"device":"b","values":{"id":"b","v":2}`},
		"each, one bad":     {with(func(m *maps.Map) { m.Each, m.Device = "$.list", "{$.id}" }), `{"list":[{"id":"a","v":1},{"id":"b c","v":2}]}`, `! bad_device: map m: element 1: device "{$.id}"`},
		"time":              {with(func(m *maps.Map) { m.Time = "$.at" }), `{"at":"2026-03-01T12:00:00+01:00","t":1}`, `"ts":1772362800000,"values":{"t":1}`},
		"time in a zone":    {with(func(m *maps.Map) { m.Time, m.TimeZone = "$.at", "Europe/Berlin" }), `{"at":"2026-07-01T12:00:00","t":1}`, `"ts":1782900000000`},
		"time left out":     {with(func(m *maps.Map) { m.Time, m.TimeZone = "$.at", "Europe/Berlin" }), `{"at":"2026-03-29T02:30:00","t":1}`, `"quarantined":"bad_time`},
		"time twice":        {with(func(m *maps.Map) { m.Time, m.TimeZone = "$.at", "Europe/Berlin" }), `{"at":"2026-10-25T02:30:00","t":1}`, `"ts":1792888200000`},
		"seconds":           {with(func(m *maps.Map) { m.Time, m.TimeFormat = "$.at", "s" }), `{"at":1700000000.25,"t":1}`, `"ts":1700000000250`},
		"an age":            {with(func(m *maps.Map) { m.Time, m.TimeFormat = "$.at", "age_s" }), `{"at":3,"t":1}`, `"age_ms":3000`},
		"a layout":          {with(func(m *maps.Map) { m.Time, m.TimeFormat = "$.at", "02.01.2006 15:04" }), `{"at":"01.03.2026 12:00","t":1}`, `"ts":1772366400000`},
		"not a time":        {with(func(m *maps.Map) { m.Time = "$.at" }), `{"at":"yesterday","t":1}`, `"quarantined":"bad_time: {\"ts\":\"not a time: yesterday\"`},
		"boot and seq":      {with(func(m *maps.Map) { m.Boot, m.Seq = "$.b", "$.n" }), `{"b":"x1","n":7,"t":1}`, `"boot":"x1","seq":7,"values":{"t":1}`},
		"a bad seq":         {with(func(m *maps.Map) { m.Seq = "$.n" }), `{"n":0,"t":1}`, "! bad_params: map m: seq is 0"},
		"event":             {with(func(m *maps.Map) { m.As, m.Event, m.Severity = "event", "$.action", "$.level" }), `{"action":"press","level":"warning"}`, `"as":"event","device":"gh-north-7","measurement":"event","values":{"data.action":"press","data.level":"warning","name":"press","severity":"warning"}`},
		"state":             {with(func(m *maps.Map) { m.As = "state"; m.Fields = map[string]string{"power": "$.POWER|bool"} }), `{"POWER":"ON"}`, `"as":"state","device":"gh-north-7","state":{"power":true}`},
		"telemetry, report": {with(func(m *maps.Map) { m.Report = map[string]string{"power": "$.P"} }), `{"P":"ON"}`, `"values":{"P":"ON"}},{"map":"m","as":"state","device":"gh-north-7","state":{"power":"ON"}}]`},
		"presence":          {with(func(m *maps.Map) { m.As = "presence" }), `Online`, `"online":true`},
		"presence in JSON":  {with(func(m *maps.Map) { m.As, m.Value = "presence", "$.state" }), `{"state":"offline"}`, `"online":false`},
		"presence unknown":  {with(func(m *maps.Map) { m.As = "presence" }), `perhaps`, "! unknown_word"},
		"announce": {with(func(m *maps.Map) {
			m.As, m.Each, m.Device, m.Type, m.Model = "announce", "$", "{$.ieee}", "zigbee", "{$.def.model}"
		}), `[{"ieee":"0x1","def":{"model":"E27"}}]`, `[{"map":"m","as":"announce","device":"0x1","type":"zigbee","model":"E27"}]`},
		"when": {with(func(m *maps.Map) { m.When = `json.t > 5` }), `{"t":1}`, "null"},
		"expr": {
			with(func(m *maps.Map) {
				m.Payload, m.Expr = "text", `{"t": float(split(payload, ";")[0]) / 10, "site": levels[1]}`
			}), "215;x",
			`"values":{"site":"north","t":21.5}`,
		},
		"expr of several":     {with(func(m *maps.Map) { m.Device = "{$.id}"; m.Expr = `map(toPairs(json), {{"id": #[0], "v": #[1]}})` }), `{"a":1}`, `"device":"a","values":{"id":"a","v":1}`},
		"expr without result": {with(func(m *maps.Map) { m.Expr = `json.x` }), `{"a":1}`, "null"},
		"expr that fails":     {with(func(m *maps.Map) { m.Expr = `json.x.y` }), `{"a":1}`, "! expression: map m: expr: expression: cannot fetch y"},
		"expr of NaN":         {with(func(m *maps.Map) { m.Expr = `{"a": float("NaN")}` }), `{"a":1}`, "! expression"},
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, maps.Group{Maps: []maps.Map{test.m}})
			if got := up(t, s, "farm/north/7/climate", test.payload); !strings.Contains(got, test.want) {
				t.Errorf("%s\nhas no %s", got, test.want)
			}
		})
	}
}
