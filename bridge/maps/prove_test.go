package maps_test

import (
	"strings"
	"testing"

	"telemetryhub/bridge/maps"
)

// TestProve holds that each example that does not hold is told with what came out, and that those that hold are not.
func TestProve(t *testing.T) {
	example := func(payload any, gives any) maps.Example {
		return maps.Example{Topic: "a/d1", Payload: payload, Gives: gives}
	}
	values := func(v any) any { return map[string]any{"device": "d1", "values": v} }
	m := maps.Map{Name: "m", Topic: "a/{device}", When: "!retained", Examples: []maps.Example{
		example(`{"t":21.5}`, values(map[string]any{"t": 21.5})),
		example(map[string]any{"t": 1}, []any{values(map[string]any{"t": 1})}),
		{Topic: "a/d1", Hex: "7b7d", Gives: nil},
		{Topic: "a/d1", Payload: "{}", Retained: true, Gives: "nothing"},
		{Topic: "a/d1", Payload: "x", Refused: "bad_json"},
		// These do not hold.
		example(`{"t":21.5}`, values(map[string]any{"t": 21})),
		example(`{"t":21.5}`, map[string]any{"measurement": "climate"}),
		example(`{"t":21.5}`, []any{}),
		example(`{"t":21.5}`, "nothing"),
		example(`{`, values(nil)),
		{Topic: "b/d1", Payload: "{}"},
		{Topic: "a/d1", Payload: "{}", Refused: "bad_json"},
		{Topic: "a/d1", Hex: "7"},
	}}
	g := maps.Group{Name: "p", Maps: []maps.Map{m}, Commands: []maps.Command{{
		Method: "power", Topic: "c/{device}", Payload: `{"on": {params.on}}`, Examples: []maps.CommandExample{
			{Device: "d1", Params: map[string]any{"on": true}, Gives: map[string]any{"topic": "c/d1", "payload": map[string]any{"on": true}, "qos": 0}},
			{Device: "d1", Refused: "bad_params"},
			{Device: "d1", Params: map[string]any{"on": false}, Gives: map[string]any{"topic": "c/d2"}},
			{Device: "d1"},
		},
	}}}
	groups := []maps.Group{g}
	s := compile(t, g)
	var got []string
	for _, d := range s.Prove(groups) {
		got = append(got, d.Path+" "+d.Error())
	}
	for i, want := range []string{
		`maps[0].examples[5] example 6 of p/m: values should be {"t":21}, and is {"t":21.5}; all that came out: [{"map":"p/m","as":"telemetry","device":"d1","values":{"t":21.5}}]`,
		`maps[0].examples[6] example 7 of p/m: measurement should be "climate", and is nothing`,
		`maps[0].examples[7] example 8 of p/m: it should give 0 outcomes, and gives 1`,
		`should give nothing, and gives [{"map":"p/m"`,
		`is refused: map p/m: not JSON`,
		`is refused: no map is for the topic; the nearest is map p/m`,
		`should be refused as bad_json, and gives`,
		`hex: encoding/hex: odd length`,
		`commands[0].examples[2] example 3 of p/power: topic should be "c/d2", and is "c/d1"`,
		`commands[0].examples[3] example 4 of p/power: the command is refused: bad_params: method power: payload`,
	} {
		if i >= len(got) || !strings.Contains(got[i], want) {
			t.Errorf("%d: %v\nhas no %s", i, got, want)
			break
		}
	}
	if len(got) != 10 {
		t.Errorf("%d do not hold:\n%s", len(got), strings.Join(got, "\n"))
	}
}
