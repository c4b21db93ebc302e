package maps_test

import (
	"encoding/json"
	"strings"
	"testing"

	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// named is a map of this topic, changed.
func named(name, topic string, change func(*maps.Map)) maps.Map {
	m := maps.Map{Name: name, Topic: topic}
	m.Device = "{name|id}"
	change(&m)
	return m
}

func TestNamesOfManyLevels(t *testing.T) {
	s := compile(t, maps.Group{Maps: []maps.Map{
		named("state", "z/{name...}", func(m *maps.Map) {
			m.Except = []string{"z/bridge/#", "z/{name...}/here", "z/{name...}/set/+"}
		}),
		named("here", "z/{name...}/here", func(m *maps.Map) { m.As, m.Except = "presence", []string{"z/bridge/#"} }),
	}})
	for _, test := range []struct{ topic, payload, want string }{
		{"z/lamp", `{"a":1}`, `"device":"lamp","values":{"a":1}`},
		{"z/kitchen/lamp", `{"a":1}`, `"device":"kitchen:2Flamp","values":{"a":1}`},
		{"z/lamp/here", "online", `"as":"presence","device":"lamp","online":true`},
		{"z/kitchen/floor/lamp/here", "offline", `"device":"kitchen:2Ffloor:2Flamp","online":false`},
		{"z/here", `{"a":1}`, `"map":"state","as":"telemetry","device":"here"`}, // {name...} before others is one level or more
		{"z/kitchen/lamp/set/color", "1", "! unmapped"},
		{"z/bridge/here", "online", "! unmapped"},
	} {
		if got := up(t, s, test.topic, test.payload); !strings.Contains(got, test.want) {
			t.Errorf("%s: %s, want %s", test.topic, got, test.want)
		}
	}
	if filters := strings.Join(s.Filters(), " "); filters != "z/#" {
		t.Errorf("filters %s", filters)
	}
}

// TestNamesOfManyLevelsMeet compiles pairs of topics: those that have one in common are a fault, unless it is excepted.
func TestNamesOfManyLevelsMeet(t *testing.T) {
	for _, test := range []struct {
		one, other string
		except     string // of the second
		meet       string // "" where they do not
	}{
		{"z/{name...}/a", "z/{name...}/b", "", ""},
		{"z/{name...}/a", "z/{name...}/a", "", "z/#/a"},
		{"z/{name...}/a", "z/{name...}/b/a", "", "z/#/b/a"},
		{"z/{name...}/+/a", "z/{name...}/b/a", "", "z/#/b/a"},
		{"z/{name...}/a", "z/{name}/+/a", "", "z/+/+/a"},
		{"z/{name...}/a", "z/{name}/a/b", "", ""},
		{"z/{name...}/a", "z/{name}", "", ""},
		{"z/{name...}/a", "y/{name}/a", "", ""},
		{"z/{name...}/a", "{name}/b/{x}", "", "z/b/a"},
		{"z/{name...}/a", "{name}/b/{x}", "z/#", ""},
		{"z/{name...}/a/b", "z/{name...}", "z/{n...}/b", ""},
		{"z/{name...}/a/b", "z/{name...}", "z/{n...}/a", "z/#/a/b"},
		{"z/{name...}/b", "z/{name...}", "z/{n...}/a/b", "z/#/b"},
	} {
		_, err := maps.Compile([]maps.Group{{Maps: []maps.Map{
			named("one", test.one, func(*maps.Map) {}),
			named("other", test.other, func(m *maps.Map) {
				if test.except != "" {
					m.Except = []string{test.except}
				}
			}),
		}}})
		switch {
		case test.meet == "" && err != nil:
			t.Errorf("%s and %s: %v", test.one, test.other, err)
		case test.meet != "" && (err == nil || !strings.Contains(err.Error(), "both for "+test.meet+";")):
			t.Errorf("%s and %s: %v, want them both to be for %s", test.one, test.other, err, test.meet)
		}
	}
}

// TestMapsOfOneTopic: the first whose condition holds takes the message.
func TestMapsOfOneTopic(t *testing.T) {
	events := named("events", "{name}/rpc", func(m *maps.Map) {
		m.As, m.When, m.Expr, m.Event = "event", `json.method == "NotifyEvent"`, "json.events", "{$.event}"
	})
	rest := named("rest", "{name}/rpc", func(*maps.Map) {})
	s := compile(t, maps.Group{Maps: []maps.Map{events, rest}})
	if got := up(t, s, "a/rpc", `{"method":"NotifyEvent","events":[{"event":"push"}]}`); !strings.Contains(got, `"map":"events","as":"event"`) || strings.Contains(got, "rest") {
		t.Error(got)
	}
	if got := up(t, s, "a/rpc", `{"method":"x"}`); !strings.Contains(got, `"map":"rest"`) {
		t.Error(got)
	}
	if _, err := maps.Compile([]maps.Group{{Maps: []maps.Map{rest, events}}}); err == nil || !strings.Contains(err.Error(), "both for") {
		t.Errorf("a map behind one that takes all: %v", err)
	}
}

func TestTextsThatAreNoValues(t *testing.T) {
	s := compile(t, maps.Group{
		Ignore: []string{"+/log", "x/{rest...}"},
		Maps: []maps.Map{
			named("json", "{name}/json", func(m *maps.Map) {
				m.Absent, m.Omit, m.Time = []string{"NaN", ""}, []string{"$.*.id"}, "$.t"
				m.Units = map[string]string{"*.temp": "{$.unit|replace:C:Cel}", "b.*": "W", "none": "{$.gone}"}
			}),
			named("number", "{name}/number", func(m *maps.Map) { m.Payload, m.Absent = "number", []string{"nan"} }),
		},
	})
	for _, test := range []struct{ topic, payload, want string }{
		{"a/json", `{"a":{"temp":"NaN","id":7,"x":1},"b":{"id":2,"y":""},"t":"2020-01-01T00:00:00Z"}`, `"ts":1577836800000,"values":{"a.x":1}`},
		{"a/json", `{"a":{"temp":21.5},"b":{"p":3},"unit":"C"}`, `"values":{"a.temp":21.5,"b.p":3,"unit":"C"},"units":{"a.temp":"Cel","b.p":"W"}`},
		{"a/json", `{"a":{"temp":"NaN"}}`, "null"},
		{"a/json", `{"t":"2020-01-01T00:00:00Z"}`, "null"},
		{"a/number", " nan ", "null"},
		{"a/number", "1.5", `"values":{"value":1.5}`},
		{"a/number", "inf", "! bad_frame"},
		{"a/log", "\xff", "null"},
		{"x/y/z", "", "null"},
		{"a/other", "1", "! unmapped"},
	} {
		if got := up(t, s, test.topic, test.payload); !strings.Contains(got, test.want) {
			t.Errorf("%s %s: %s, want %s", test.topic, test.payload, got, test.want)
		}
	}
}

func TestClocksThatNobodySet(t *testing.T) {
	with := func(format, zone, orElse string) *maps.Set {
		return compile(t, maps.Group{Maps: []maps.Map{named("m", "{name}", func(m *maps.Map) {
			m.Time, m.TimeFormat, m.TimeZone, m.TimeElse = "$.t", format, zone, orElse
		})}})
	}
	for _, test := range []struct{ format, zone, orElse, t, want string }{
		{"", "none", "receipt", `"2019-10-31T18:55:09"`, `"device":"d","values"`},
		{"", "none", "receipt", `"2019-10-31T18:55:09+02:00"`, `"ts":1572540909000`},
		{"", "none", "", `"2019-10-31T18:55:09"`, `"quarantined":"bad_time`},
		{"", "", "receipt", `"1970-01-01T00:00:09"`, `"device":"d","values"`},
		{"", "Europe/Paris", "receipt", `"2021-03-28T02:30:00"`, `"device":"d","values"`},
		{"", "Europe/Paris", "", `"2021-03-28T02:30:00"`, `"quarantined":"bad_time`},
		{"s", "", "receipt", "1.61", `"device":"d","values"`},
		{"s", "", "receipt", "1661517385.44", `"ts":1661517385440`},
		{"s", "", "", "1.61", `"ts":1610`},
		{"age_s", "", "receipt", "1.5", `"age_ms":1500`},
		{"", "none", "receipt", "17", `"device":"d","values"`},
	} {
		if got := up(t, with(test.format, test.zone, test.orElse), "d", `{"t":`+test.t+`,"x":1}`); !strings.Contains(got, test.want) {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

func TestAnnouncementsReport(t *testing.T) {
	s := compile(t, maps.Group{Maps: []maps.Map{named("m", "{name}/info", func(m *maps.Map) {
		m.As, m.Model, m.Firmware, m.Report = "announce", "{$.model}", "{$.version}", map[string]string{"firmware": "$.version", "mac": "$.mac"}
	})}})
	want := `[{"map":"m","as":"announce","device":"a","model":"X","firmware":"1.2","state":{"firmware":"1.2"}}]`
	if got := up(t, s, "a/info", `{"model":"X","version":"1.2"}`); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// rpc is a group that passes any method on, and tells two answers without correlation apart.
func rpc(t *testing.T) *maps.Set {
	t.Helper()
	return compile(t, maps.Group{
		Maps: []maps.Map{named("m", "stat/{name}", func(*maps.Map) {})},
		Commands: []maps.Command{
			{
				Method: "power", Topic: "cmnd/{name}/POWER{params.relay|default:}", Payload: "{params.state}",
				Answer: &maps.Answer{Topic: "stat/{name}/{leaf}", Device: "{name|id}", Match: `any(keys(result), # == "POWER" + string(params.relay ?? "")) && vars.leaf == "RESULT"`},
			},
			{Method: "*", Topic: "{id}/rpc", Expr: `{"method": method, "params": params}`},
		},
	})
}

func TestAnyMethod(t *testing.T) {
	s := rpc(t)
	order, err := s.Down("", maps.Target{Device: "d"}, wire.Command{ID: "1", Method: "Switch.Set", Params: json.RawMessage(`{"id":0}`)})
	if err != nil || string(order.Publications[0].Payload) != `{"method":"Switch.Set","params":{"id":0}}` {
		t.Errorf("%+v, %v", order, err)
	}
	order, err = s.Down("", maps.Target{Device: "d"}, wire.Command{ID: "1", Method: "power", Params: json.RawMessage(`{"state":"ON"}`)})
	if err != nil || order.Publications[0].Topic != "cmnd/d/POWER" {
		t.Errorf("a method of its own: %+v, %v", order, err)
	}
}

func TestAnswersAreMatched(t *testing.T) {
	s := rpc(t)
	order, err := s.Down("", maps.Target{Device: "d"}, wire.Command{ID: "1", Method: "power", Params: json.RawMessage(`{"state":"ON","relay":2}`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		topic, payload string
		want           bool
	}{
		{"stat/d/RESULT", `{"POWER2":"ON"}`, true},
		{"stat/d/RESULT", `{"POWER1":"ON"}`, false},
		{"stat/d/OTHER", `{"POWER2":"ON"}`, false},
		{"stat/d/RESULT", "ON", false}, // the expression cannot be computed
	} {
		var w maps.Scratch
		outcomes, err := s.Up(&w, maps.Message{Topic: test.topic, Payload: []byte(test.payload)})
		if err != nil || len(outcomes) != 1 {
			t.Fatalf("%+v: %v, %v", test, outcomes, err)
		}
		if got := order.Expect.Answers(&outcomes[0]); got != test.want {
			t.Errorf("%+v answers: %t", test, got)
		}
	}
}
