package maps_test

import (
	"strings"
	"testing"
	"time"

	"telemetryhub/bridge/maps"
)

func TestFaults(t *testing.T) {
	named := func(name, topic string, change func(*maps.Map)) maps.Map {
		m := maps.Map{Name: name, Topic: topic}
		if change != nil {
			change(&m)
		}
		return m
	}
	one := func(change func(*maps.Map)) maps.Group {
		return maps.Group{Maps: []maps.Map{named("a", "a/{device}/b", change)}}
	}
	command := func(c maps.Command) maps.Group {
		g := one(nil)
		g.Commands = []maps.Command{c}
		return g
	}
	for name, test := range map[string]struct {
		g    maps.Group
		want string
	}{
		"no topic":            {maps.Group{Maps: []maps.Map{named("a", "", nil)}}, `maps[0].topic: is needed`},
		"wildcard within":     {maps.Group{Maps: []maps.Map{named("a", "a/x+/{device}", nil)}}, `level "x+" has a wildcard`},
		"# within":            {maps.Group{Maps: []maps.Map{named("a", "a/#/{device}", nil)}}, `can only be the last level`},
		"a name twice":        {maps.Group{Maps: []maps.Map{named("a", "{device}/{device}", nil)}}, `{device} stands there twice`},
		"reserved name":       {maps.Group{Maps: []maps.Map{named("a", "{device}/{params}", nil)}}, `"params", which means something else`},
		"no device":           {maps.Group{Maps: []maps.Map{named("a", "a/{x}", nil)}}, `maps[0].device: {device} is no level of the topic "a/{x}"`},
		"nothing left":        {one(func(m *maps.Map) { m.Except = []string{"a/#"} }), `matches nothing: except has all of it, by "a/#"`},
		"no name":             {maps.Group{Maps: []maps.Map{named("", "{device}", nil)}}, `maps[0].name: is needed`},
		"as":                  {one(func(m *maps.Map) { m.As = "telemetri" }), `maps[0].as: "telemetri" is not one of`},
		"payload":             {one(func(m *maps.Map) { m.Payload = "xml" }), `maps[0].payload: "xml" is not one of`},
		"filter":              {one(func(m *maps.Map) { m.Device = "{device|lowr}" }), `no filter is called "lowr"`},
		"path":                {one(func(m *maps.Map) { m.Fields = map[string]string{"t": "$.a["} }), `maps[0].fields.t:`},
		"index":               {one(func(m *maps.Map) { m.Fields = map[string]string{"t": "$.a[-1]"} }), `[-1] is not an index`},
		"zone":                {one(func(m *maps.Map) { m.Time, m.TimeZone = "$.t", "Europe/Berlni" }), `maps[0].time_zone: "Europe/Berlni" is not a time zone`},
		"format":              {one(func(m *maps.Map) { m.Time, m.TimeFormat = "$.t", "15:04" }), `maps[0].time_format: "15:04" is not`},
		"expression":          {one(func(m *maps.Map) { m.Expr = "jsn.t" }), `maps[0].expr: expression: unknown name jsn`},
		"meter":               {one(func(m *maps.Map) { m.Expr = "_meter" }), `maps[0].expr: expression: unknown name _meter`},
		"long expression":     {one(func(m *maps.Map) { m.Expr = strings.Repeat("(", 5000) }), `has 5000 bytes; at most 4096`},
		"deep expression":     {one(func(m *maps.Map) { m.Expr = strings.Repeat("-", 2000) + "1" }), `maps[0].expr: expression:`},
		"pattern of payload":  {one(func(m *maps.Map) { m.Expr = "payload matches payload" }), `what stands after matches is a text in quotes`},
		"of no use":           {one(func(m *maps.Map) { m.As, m.Units = "state", map[string]string{"a": "V"} }), `maps[0].units: is of no use with as: state`},
		"event":               {one(func(m *maps.Map) { m.As = "event" }), `maps[0].event: is needed`},
		"two maps":            {maps.Group{Maps: []maps.Map{named("a", "x/{device}/+", nil), named("b", "x/{device}/state", nil)}}, `maps[1].topic: "x/{device}/state" and the topic "x/{device}/+" of map a are both for x/+/state`},
		"two maps, rest":      {maps.Group{Maps: []maps.Map{named("a", "x/{device}/#", nil), named("b", "{device}/{rest...}", nil)}}, `of map a are both for x/+/#`},
		"method":              {command(maps.Command{Topic: "a/{device}"}), `commands[0].method: is needed`},
		"hub's method":        {command(maps.Command{Method: "hub.x", Topic: "a/{device}"}), `hub. is the hub's own`},
		"command's topic":     {command(maps.Command{Method: "m", Topic: "a/{devise}"}), `{devise} is no level of the topic of any map`},
		"command's wildcard":  {command(maps.Command{Method: "m", Topic: "a/+"}), `has a wildcard; a message has one topic`},
		"command's $":         {command(maps.Command{Method: "m", Topic: "a/{device}", Payload: "{$.a}"}), `a command has no $`},
		"answer and done":     {command(maps.Command{Method: "m", Topic: "a", Answer: &maps.Answer{Topic: "b/{device}"}, DoneWhen: &maps.Done{When: "true", Within: time.Second}}), `two ways to know an outcome`},
		"done without within": {command(maps.Command{Method: "m", Topic: "a", DoneWhen: &maps.Done{When: "true"}}), `commands[0].done_when.within: 0s is not from`},
		"method twice":        {maps.Group{Maps: []maps.Map{named("a", "a/{device}", nil)}, Commands: []maps.Command{{Method: "m", Topic: "a"}, {Method: "m", Topic: "b"}}}, `commands[1].method: "m" is the method of commands[0]`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := maps.Compile([]maps.Group{test.g})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v\nhas no %s", err, test.want)
			}
		})
	}
}

// TestTwoGroups names both maps where those of two presets are for one topic.
func TestTwoGroups(t *testing.T) {
	a := maps.Group{Name: "one", Maps: []maps.Map{{Name: "a", Topic: "x/{device}/+"}}}
	b := maps.Group{Name: "two", Maps: []maps.Map{{Name: "b", Topic: "x/y/{device}"}}}
	_, err := maps.Compile([]maps.Group{a, b})
	if err == nil || !strings.Contains(err.Error(), `"x/y/{device}" and the topic "x/{device}/+" of map one/a are both for x/y/+`) {
		t.Error(err)
	}
	b.Maps[0].Except = []string{"x/y/+"}
	b.Maps[0].Topic = "x/y/{device...}"
	if _, err = maps.Compile([]maps.Group{a, b}); err != nil {
		t.Error(err)
	}
}

// TestPatterns holds what patterns match, and that two meet exactly where a topic matches both.
func TestPatterns(t *testing.T) {
	topics := []string{"a", "a/b", "a/b/c", "a/bx/c", "a//c", "$SYS/b", "/a", "a/b/c/d", "shelly1-x/b", "shelly1pm-x/b", "z/b/c"}
	patterns := []string{"a/{device}", "{device}", "a/#", "#", "+/+", "a/{device}/c", "a/b{device}/c", "a/{device}x/c", "shelly1-{device}/b", "shelly1pm-{device}/b", "$SYS/{device}", "{device}/b", "a/b", "+/b/#", "{device}/{rest...}"}
	set := func(p string, except ...string) *maps.Set {
		m := maps.Map{Name: p, Topic: p, Except: except}
		m.Device = "d"
		s, err := maps.Compile([]maps.Group{{Maps: []maps.Map{m}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	matches := func(p, topic string) bool {
		var w maps.Scratch
		out, err := set(p).Up(&w, maps.Message{Topic: topic, Payload: []byte(`{"t":1}`)})
		return err == nil && len(out) == 1
	}
	for _, p := range patterns {
		for _, other := range patterns {
			_, meet := set(p).Meets(other)
			for _, topic := range topics {
				if matches(p, topic) && matches(other, topic) && !meet {
					t.Errorf("%s and %s are both for %s, and do not meet", p, other, topic)
				}
			}
		}
	}
	for _, pair := range [][2]string{{"shelly1-{device}/b", "shelly1pm-{device}/b"}, {"#", "$SYS/{device}"}, {"a/{device}/c", "a/{device}"}, {"{device}", "a/b"}} {
		if _, meet := set(pair[0]).Meets(pair[1]); meet {
			t.Errorf("%s and %s have no topic in common", pair[0], pair[1])
		}
	}
	if matches("#", "$SYS/b") || matches("+/+", "$SYS/b") || !matches("$SYS/{device}", "$SYS/b") || !matches("a/#", "a") || matches("a/b{device}/c", "a/c/c") {
		t.Error("a pattern matches what it should not, or the other way round")
	}
}

func TestFilters(t *testing.T) {
	s := compile(t, maps.Group{Maps: []maps.Map{
		{Name: "a", Topic: "tele/{device}/SENSOR"}, {Name: "b", Topic: "tele/{device}/STATE"}, {Name: "c", Topic: "stat/{device...}"},
	}, Commands: []maps.Command{{Method: "m", Topic: "cmnd/{device}/M", Answer: &maps.Answer{Topic: "stat/{device}/RESULT"}}}})
	if got := strings.Join(s.Filters(), " "); got != "stat/# tele/+/SENSOR tele/+/STATE" {
		t.Error(got)
	}
}

func TestUnmapped(t *testing.T) {
	s := compile(t, maps.Group{Maps: []maps.Map{
		{Name: "sensor", Topic: "tele/{device}/SENSOR"},
		{Name: "rest", Topic: "stat/{device}/{a...}", Except: []string{"stat/+/x"}},
		{Name: "any", Topic: "{device}/{a}/{b}/state", Except: []string{"tele/#", "stat/#"}},
	}})
	for topic, want := range map[string]string{
		"tele/x/STATE":    `! unmapped: no map is for the topic; the nearest is map sensor, "tele/{device}/SENSOR": level 3 is "STATE", and the pattern has "SENSOR"`,
		"hall/light/a":    `the nearest is map any, "{device}/{a}/{b}/state": the topic ends after level 3`,
		"tele/x":          `the topic ends after level 2, and the pattern goes on with "SENSOR"`,
		"tele/x/SENSOR/y": `the topic goes on with "y", and the pattern ends after level 3`,
		"stat/d/x":        `except leaves it out`,
		"tele/+/SENSOR":   "! bad_topic: the topic has the wildcard + at byte 5",
		"tele/\xff":       "! bad_topic: the topic is not UTF-8 at byte 5",
		"tele/a b/SENSOR": `! bad_device: map sensor: device "{device}": device id "a b" has ' ' at byte 1`,
		"":                "! bad_topic: the topic is empty",
	} {
		if got := up(t, s, topic, `{"t":1}`); !strings.Contains(got, want) {
			t.Errorf("%q: %s has no %s", topic, got, want)
		}
	}
}
