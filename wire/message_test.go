package wire_test

import (
	"reflect"
	"strings"
	"testing"

	"telemetryhub/wire"
)

func TestCheckDeviceID(t *testing.T) {
	for _, id := range []string{"a", "Z", "0", "node-01", "AC:DE:48:00:11:22", "a.b_c", strings.Repeat("x", wire.MaxDeviceID)} {
		if err := wire.CheckDeviceID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", strings.Repeat("x", wire.MaxDeviceID+1), "a b", "a/b", "a+b", "a#", "ä", "a\n", "a*", "a>", "a$b", "a\x00", "a@", "a[", "a`", "a{"} {
		if err := wire.CheckDeviceID(id); err == nil {
			t.Errorf("%q passes", id)
		}
	}
}

func TestDecodeHello(t *testing.T) {
	tests := []struct {
		name, params string
		want         wire.Hello
	}{
		{"no params", ``, wire.Hello{}},
		{"nothing in it", `{}`, wire.Hello{}},
		{"null", `null`, wire.Hello{}},
		{"members that are null", `{"boot":null,"time":null,"methods":null}`, wire.Hello{}},
		{"unknown members", `{"colour":"red","boot":"b"}`, wire.Hello{Boot: "b"}},
		{"names are taken as they are written", `{"BOOT":"b","Time":"noon"}`, wire.Hello{}},
		{"a clock with a fraction", `{"time":1.4580316485456e12}`, wire.Hello{Time: 1458031648546}},
		{
			"all of it", `{"boot":"k\u0033","time":1458031648545,"firmware":"1.2","model":"m","attributes":{"room":"A","floor":2},"methods":["ping","set"],"keepalive_s":60,"max_frame":4096,"ack":true}`,
			wire.Hello{Boot: "k3", Time: 1458031648545, Firmware: "1.2", Model: "m", Attributes: map[string]any{"room": "A", "floor": 2.0}, Methods: []string{"ping", "set"}, KeepaliveS: 60, MaxFrame: 4096, Ack: true},
		},
		{"the longest texts", `{"boot":"` + strings.Repeat("b", 64) + `","firmware":"` + strings.Repeat("f", 256) + `"}`, wire.Hello{Boot: strings.Repeat("b", 64), Firmware: strings.Repeat("f", 256)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h, err := wire.DecodeHello([]byte(test.params))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(h, test.want) {
				t.Errorf("got %+v\nwant %+v", h, test.want)
			}
		})
	}
	for _, params := range []string{
		`[]`, `"x"`, `7`, `{"boot":7}`, `{"boot":"` + strings.Repeat("b", 65) + `"}`, `{"boot":"a\nb"}`, `{"time":"noon"}`, `{"time":1e999}`, `{"time":1e300}`, `{"firmware":"` + strings.Repeat("f", 257) + `"}`,
		`{"model":"` + strings.Repeat("m", 257) + `"}`, `{"attributes":[]}`, `{"methods":{}}`, `{"methods":[1]}`, `{"keepalive_s":-1}`, `{"max_frame":-1}`, `{"keepalive_s":1e99}`, `{"ack":1}`,
		`{"keepalive_s":1` + strings.Repeat("0", 10_000) + `}`,
	} {
		_, err := wire.DecodeHello([]byte(params))
		if e := wantError(t, err, wire.CodeInvalidParams, wire.ReasonBadParams); len(e.Message) > 400 {
			t.Errorf("%.100s: the message has %d bytes", params, len(e.Message))
		}
	}
}

func TestDecodeEvent(t *testing.T) {
	tests := []struct{ name, params, want string }{
		{"only a name", `{"name":"door"}`, `event [name="door" severity="info"]`},
		{"all of it", `{"name":"door","severity":"warning","data":{"open":true,"by":{"id":7}},"ts":1458031648545}`, `event [ts=1458031648545 name="door" severity="warning" data.open=true data.by.id=7]`},
		{"age_ms", `{"name":"door","age_ms":5}`, `event [age=5 name="door" severity="info"]`},
		{"escaped names and texts", `{"n\u0061me":"d\u006for\n","severit\u0079":"a\"b","d\u0061ta":{"\u0061":1}}`, `event [name="door\n" severity="a\"b" data.a=1]`},
		{"data null, severity null", `{"name":"door","data":null,"severity":null}`, `event [name="door" severity="info"]`},
		{"unknown members", `{"name":"door","seq":7,"boot":"x","values":{"a":1}}`, `event [name="door" severity="info"]`},
		{"a name of data that would be another member", `{"name":"door","data":{"name":"x","severity":"y"}}`, `event [name="door" severity="info" data.name="x" data.severity="y"]`},
		{"white space", "\n{ \"name\" : \"door\" , \"data\" : { \"a\" : 1 } }\n", `event [name="door" severity="info" data.a=1]`},
		{"a flaw in data", `{"name":"door","data":{"a":[1]}}`, `event !bad_value`},
		{"a flaw in ts", `{"name":"door","ts":"noon"}`, `event !bad_time`},
	}
	var d wire.Decoder
	var out wire.Telemetry
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := d.DecodeEvent([]byte(test.params), &out); err != nil {
				t.Fatal(err)
			}
			if got := show(&out); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := string(out.Readings[0].Raw); got != strings.TrimSpace(test.params) {
				t.Errorf("raw is %s", got)
			}
		})
	}
	for _, params := range []string{
		``, `{}`, `[]`, `"door"`, `null`, `{"name":""}`, `{"name":null}`, `{"name":7}`, `{"name":["door"]}`, `{"severity":"info"}`,
		// A severity of another type would fix the type of the field for all events that follow.
		`{"name":"door","severity":7}`, `{"name":"door","severity":{"a":1}}`, `{"name":"door","severity":true}`,
		`{"name":"door","data":7}`, `{"name":"door","data":"x"}`, `{"name":"door","data":[1]}`,
	} {
		wantError(t, d.DecodeEvent([]byte(params), &out), wire.CodeInvalidParams, wire.ReasonBadParams)
	}
	wantError(t, d.DecodeEvent([]byte(`{"name":"door"`), &out), wire.CodeParse, wire.ReasonBadJSON)
	wantError(t, d.DecodeEvent([]byte(`{"name":"door"}{}`), &out), wire.CodeParse, wire.ReasonBadJSON)
	wantError(t, d.DecodeEvent([]byte("{\"name\":\"\xff\"}"), &out), wire.CodeParse, wire.ReasonBadUTF8)
}

func TestDecodeAnswer(t *testing.T) {
	tests := []struct {
		name, text string
		want       wire.Answer
	}{
		{"result", `{"jsonrpc":"2.0","id":"01J","result":{"a":[1, 2]}}`, wire.Answer{ID: "01J", Result: []byte(`{"a":[1, 2]}`)}},
		{"result null is a result", `{"id":"01J","result":null}`, wire.Answer{ID: "01J", Result: []byte(`null`)}},
		{"escaped id", `{"\u0069d":"\u00301J","r\u0065sult":0}`, wire.Answer{ID: "01J", Result: []byte(`0`)}},
		{"error", `{"id":"01J","error":{"code":-32601,"message":"no such method","data":{"a":1}}}`, wire.Answer{ID: "01J", Fault: []byte(`{"code":-32601,"message":"no such method","data":{"a":1}}`), Code: -32601}},
		{"error without a message", `{"id":"01J","error":{"code":5}}`, wire.Answer{ID: "01J", Fault: []byte(`{"code":5}`), Code: 5}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d wire.Decoder
			data := []byte(test.text)
			got, err := d.DecodeAnswer(data)
			if err != nil {
				t.Fatal(err)
			}
			for i := range data {
				data[i] = '#' // the answer outlives the frame
			}
			if got.ID != test.want.ID || got.Code != test.want.Code || string(got.Result) != string(test.want.Result) || string(got.Fault) != string(test.want.Fault) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if got.Result != nil == (got.Fault != nil) {
				t.Errorf("result %q and error %q", got.Result, got.Fault)
			}
		})
	}
	refused := map[string]string{
		"no id": `{"result":1}`, "id alone": `{"id":"a"}`, "a request": `{"id":"a","method":"m"}`, "a notification": `{"method":"m"}`, "values": `{"a":1}`, "a batch": `[{"id":"a","result":1}]`,
		"result and error": `{"id":"a","result":1,"error":{"code":1,"message":""}}`, "id a number": `{"id":7,"result":1}`, "id null": `{"id":null,"result":1}`,
		"error a text": `{"id":"a","error":"x"}`, "error null": `{"id":"a","error":null}`, "error without code": `{"id":"a","error":{"message":"x"}}`, "error list": `{"id":"a","error":[1]}`,
		"code a text": `{"id":"a","error":{"code":"1"}}`, "code broken": `{"id":"a","error":{"code":1.5}}`, "code null": `{"id":"a","error":{"code":null}}`, "message a number": `{"id":"a","error":{"code":1,"message":2}}`,
		"code under another name": `{"id":"a","error":{"Code":1}}`,
	}
	for name, text := range refused {
		t.Run(name, func(t *testing.T) {
			var d wire.Decoder
			_, err := d.DecodeAnswer([]byte(text))
			wantError(t, err, wire.CodeInvalidRequest, wire.ReasonBadFrame)
		})
	}
	var d wire.Decoder
	_, err := d.DecodeAnswer([]byte(`{"id":"a","result":1`))
	wantError(t, err, wire.CodeParse, wire.ReasonBadJSON)
}

func TestDecodeProgress(t *testing.T) {
	tests := []struct {
		params string
		want   wire.Progress
	}{
		{`{"id":"01J"}`, wire.Progress{ID: "01J", Status: wire.ProgressRunning}},
		{`{"id":"01J","status":"received"}`, wire.Progress{ID: "01J", Status: wire.ProgressReceived}},
		{`{"id":"01J","status":"running","percent":12.5,"message":"half an eighth","x":1}`, wire.Progress{ID: "01J", Status: wire.ProgressRunning, Percent: 12.5, Message: "half an eighth"}},
		{`{"id":"01J","status":null,"percent":null,"message":null}`, wire.Progress{ID: "01J", Status: wire.ProgressRunning}},
		{`{"id":"01J","percent":0}`, wire.Progress{ID: "01J", Status: wire.ProgressRunning}},
		{`{"id":"01J","percent":100}`, wire.Progress{ID: "01J", Status: wire.ProgressRunning, Percent: 100}},
	}
	for _, test := range tests {
		got, err := wire.DecodeProgress([]byte(test.params))
		if err != nil || got != test.want {
			t.Errorf("%s gives %+v, %v; want %+v", test.params, got, err, test.want)
		}
	}
	for _, params := range []string{
		``, `null`, `{}`, `[]`, `"01J"`, `{"id":""}`, `{"id":7}`, `{"id":"a","status":"done"}`, `{"id":"a","status":7}`, `{"id":"a","percent":"5"}`, `{"id":"a","percent":1e999}`,
		`{"id":"a","percent":-1}`, `{"id":"a","percent":100.1}`, `{"id":"a","message":7}`, `{"id":"a","status":"` + strings.Repeat("s", 10_000) + `"}`,
	} {
		_, err := wire.DecodeProgress([]byte(params))
		if e := wantError(t, err, wire.CodeInvalidParams, wire.ReasonBadParams); len(e.Message) > 400 {
			t.Errorf("%.100s: the message has %d bytes", params, len(e.Message))
		}
	}
}
