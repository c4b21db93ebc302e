package maps_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"telemetryhub/bridge/maps"
	"telemetryhub/wire"
)

// lamp is a group with each way of sending and of knowing the outcome.
func lamp() maps.Group {
	tele := maps.Map{Name: "tele", Topic: "tele/{room}/{device}/STATE"}
	tele.Device = "{device|id}"
	return maps.Group{
		Name: "lamp",
		Maps: []maps.Map{tele},
		Commands: []maps.Command{
			{Method: "power", Topic: "cmnd/{room}/{device}/POWER", Payload: "{params.state|upper}", Answer: &maps.Answer{
				Topic: "stat/{room}/{device}/RESULT", Device: "{device|id}", When: `"POWER" in (json ?? {})`, Result: "$.POWER",
			}},
			{Method: "rpc", Topic: "{device}/rpc", Payload: `{"id": "{command}", "method": "{params.do}", "params": {params.with}}`, Answer: &maps.Answer{
				Topic: "hub/rpc", Device: "{$.src}", Correlation: "$.id", Result: "$.result", Error: "$.error",
			}},
			{Method: "dim", Topic: "cmnd/{device}/dim", Expr: `params.level * 2.55`, When: "params.level <= 100", DoneWhen: &maps.Done{
				Fields: map[string]string{"dimmer": "{params.level}"}, Within: 5 * time.Second,
			}},
			{Method: "wait", Topic: "cmnd/{device}/wait", DoneWhen: &maps.Done{When: `(values["t"] ?? 0) > params.t`, Within: time.Second}},
			{Method: "beep", Topic: "cmnd/{device}/beep", QoS: "0", Types: []string{"loud"}},
			{Method: "two", Publish: []maps.Publish{{Topic: "a/{device}", Payload: "1"}, {Topic: "b/{device}", Payload: "{params}"}}},
		},
	}
}

func TestDown(t *testing.T) {
	s := compile(t, lamp())
	known := maps.Target{Device: "hall:20lamp", Type: "loud", Vars: maps.Vars{{Name: "room", Value: "north"}, {Name: "device", Value: "hall lamp"}}}
	for name, test := range map[string]struct {
		target         maps.Target
		method, params string
		want           string
	}{
		"template":           {known, "power", `{"state":"on"}`, `cmnd/north/hall lamp/POWER=ON`},
		"escaped":            {known, "rpc", `{"do":"a\"b","with":{"x":[1]}}`, `hall lamp/rpc={"id": "c1", "method": "a\"b", "params": {"x":[1]}}`},
		"expr":               {known, "dim", `{"level":20}`, `cmnd/hall lamp/dim=51`},
		"condition":          {known, "dim", `{"level":200}`, `! bad_params: method dim: its params do not hold what the map wants of them: params.level <= 100`},
		"param is not there": {known, "power", `{}`, `! bad_params: method power: payload "{params.state|upper}": {params.state|upper} is not there`},
		"id tells the level": {maps.Target{Device: "a:20b"}, "dim", `{"level":0}`, `cmnd/a b/dim=0`},
		"no message yet":     {maps.Target{Device: "a"}, "power", `{"state":"on"}`, `! bad_params: method power: topic "cmnd/{room}/{device}/POWER": {room} is not there`},
		"of its type":        {known, "beep", ``, `cmnd/hall lamp/beep=`},
		"of another type":    {maps.Target{Device: "a"}, "beep", ``, `! unknown_method: no map says how "beep" goes to this device; it has power, rpc, dim, wait, two`},
		"several":            {known, "two", `{"a":1}`, `a/hall lamp=1 b/hall lamp={"a":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			order, err := s.Down("lamp", test.target, wire.Command{ID: "c1", Method: test.method, Params: json.RawMessage(test.params)})
			var got []string
			if refused, ok := errors.AsType[*wire.Error](err); ok {
				got = append(got, "! "+refused.Error())
			} else if err != nil {
				t.Fatalf("%v is no *wire.Error", err)
			} else {
				for _, p := range order.Publications {
					got = append(got, p.Topic+"="+string(p.Payload))
				}
			}
			if all := strings.Join(got, " "); all != test.want {
				t.Errorf("%s\nis not %s", all, test.want)
			}
		})
	}
	if _, err := s.Down("other", known, wire.Command{Method: "power"}); err == nil || !strings.Contains(err.Error(), "there are none for it") {
		t.Error(err)
	}
	if got := strings.Join(s.Methods("lamp", "loud"), " "); got != "beep dim power rpc two wait" {
		t.Error(got)
	}
	if got := strings.Join(s.Methods("lamp", ""), " "); got != "dim power rpc two wait" || s.Methods("other", "") != nil {
		t.Error(got)
	}
}

// TestDelivery holds that the delivery says the QoS, unless the map does.
func TestDelivery(t *testing.T) {
	s := compile(t, lamp())
	for _, test := range []struct {
		method string
		again  bool
		want   byte
	}{{"wait", false, 0}, {"wait", true, 1}, {"beep", true, 0}} {
		order, err := s.Down("lamp", maps.Target{Device: "a", Type: "loud"}, wire.Command{ID: "1", Method: test.method, AtLeastOnce: test.again})
		if err != nil || order.Publications[0].QoS != test.want {
			t.Errorf("%s: %v, %v", test.method, order, err)
		}
	}
}

// expect sends a command and returns what is expected of it.
func expect(t *testing.T, s *maps.Set, id, method, params string) *maps.Expectation {
	t.Helper()
	target := maps.Target{Device: "lamp1", Vars: maps.Vars{{Name: "room", Value: "north"}, {Name: "device", Value: "lamp1"}}}
	order, err := s.Down("lamp", target, wire.Command{ID: id, Method: method, Params: json.RawMessage(params)})
	if err != nil {
		t.Fatal(err)
	}
	return order.Expect
}

func TestAnswer(t *testing.T) {
	s := compile(t, lamp())
	power, rpc := expect(t, s, "c1", "power", `{"state":"on"}`), expect(t, s, "c2", "rpc", `{"do":"x","with":{}}`)
	for name, test := range map[string]struct {
		topic, payload string
		power, rpc     bool
		want           string
	}{
		"answer":          {"stat/north/lamp1/RESULT", `{"POWER":"ON"}`, true, false, `"method":"power","result":"ON"`},
		"something else":  {"stat/north/lamp1/RESULT", `{"Dimmer":3}`, false, false, "null"},
		"not JSON":        {"stat/north/lamp1/RESULT", "OK", false, false, "! expression"},
		"correlated":      {"hub/rpc", `{"src":"lamp1","id":"c2","result":{"a":1}}`, false, true, `"correlation":"c2","result":{"a":1}`},
		"another command": {"hub/rpc", `{"src":"lamp1","id":"c3","result":{}}`, false, false, `"correlation":"c3"`},
		"failed":          {"hub/rpc", `{"src":"lamp1","id":"c2","error":{"code":-103,"message":"no"}}`, false, true, `"error":{"code":-32000,"message":"no","data":{"code":-103,"message":"no"}}`},
		"none's":          {"hub/rpc", `{"src":"lamp1","id":"","result":{}}`, false, false, `"result":{}`},
		"a notification":  {"hub/rpc", `{"src":"lamp1","method":"NotifyStatus"}`, false, false, "null"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := up(t, s, test.topic, test.payload); !strings.Contains(got, test.want) {
				t.Errorf("%s has no %s", got, test.want)
			}
			var w maps.Scratch
			outcomes, _ := s.Up(&w, maps.Message{Topic: test.topic, Payload: []byte(test.payload)})
			p, r := false, false
			for i := range outcomes {
				p, r = p || power.Answers(&outcomes[i]), r || rpc.Answers(&outcomes[i])
			}
			if p != test.power || r != test.rpc {
				t.Errorf("answers power: %v, rpc: %v", p, r)
			}
		})
	}
}

func TestDoneWhen(t *testing.T) {
	s := compile(t, lamp())
	dim, wait := expect(t, s, "c1", "dim", `{"level":20}`), expect(t, s, "c2", "wait", `{"t":5}`)
	if dim.Within() != 5*time.Second {
		t.Error(dim.Within())
	}
	for payload, want := range map[string][2]bool{
		`{"dimmer":20}`:           {true, false},
		`{"dimmer":"20"}`:         {true, false},
		`{"dimmer":21,"t":6}`:     {false, true},
		`{"other":20,"t":5}`:      {false, false},
		`{"dimmer":20.0,"t":5.5}`: {true, true},
	} {
		var w maps.Scratch
		outcomes, err := s.Up(&w, maps.Message{Topic: "tele/north/lamp1/STATE", Payload: []byte(payload)})
		if err != nil {
			t.Fatal(err)
		}
		first, err := dim.Met(&outcomes[0])
		second, err2 := wait.Met(&outcomes[0])
		if err != nil || err2 != nil || first != want[0] || second != want[1] {
			t.Errorf("%s: %v %v, %v %v", payload, first, second, err, err2)
		}
	}
}
