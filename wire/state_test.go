package wire_test

import (
	"errors"
	"strings"
	"testing"

	"telemetryhub/wire"
)

func TestDecodeState(t *testing.T) {
	var d wire.Decoder
	for _, test := range []struct{ name, payload, want, fault string }{
		{"params", `{"reported":{"a":1}}`, `{"a":1}`, ""},
		{"params with other members", ` {"x":[1,{"reported":2}],"reported" : { "a" : null } , "y":1}`, `{ "a" : null }`, ""},
		{"escaped", `{"\u0072eported":{}}`, `{}`, ""},
		{"the members themselves", `{"a":{"reported":1}}`, `{"a":{"reported":1}}`, ""},
		{"nothing", `{}`, `{}`, ""},
		{"a member reported that is none", `{"reported":null}`, "", "/reported is an object"},
		{"a list", `[1]`, "", "state is an object"},
		{"a text", `"x"`, "", "state is an object"},
		{"twice", `{"reported":{},"reported":{}}`, "", "duplicate"},
		{"not JSON", `{"reported":`, "", "not JSON"},
		{"empty", ``, "", "an empty frame"},
	} {
		got, err := d.DecodeStatePayload([]byte(test.payload), wire.Dialect{})
		var refused *wire.Error
		switch {
		case test.fault == "" && (err != nil || string(got) != test.want):
			t.Errorf("%s: %s, %v; want %s", test.name, got, err, test.want)
		case test.fault != "" && (!errors.As(err, &refused) || !strings.Contains(refused.Message, test.fault)):
			t.Errorf("%s: %v, want %q", test.name, err, test.fault)
		}
	}
	if got, err := d.DecodeStatePayload([]byte{0xa1, 0x61, 'a', 0x18, 20}, wire.Dialect{CBOR: true}); err != nil || string(got) != `{"a":20}` {
		t.Errorf("CBOR gives %s, %v", got, err)
	}
	if got, err := d.DecodeStatePayload([]byte{0xa1, 0x61, 'a', 0x42, 1, 2}, wire.Dialect{CBOR: true}); err != nil || string(got) != `{"a":"AQI"}` {
		t.Errorf("bytes in CBOR give %s, %v", got, err)
	}
	// In a frame the members themselves are no params.
	for _, params := range []string{``, `{}`, `{"a":1}`, `[]`, `{"reported":[]}`} {
		if got, err := wire.DecodeState([]byte(params)); err == nil {
			t.Errorf("%s gives %s", params, got)
		}
	}
	if got, err := wire.DecodeState([]byte(`{"reported":{"a":{}}}`)); err != nil || string(got) != `{"a":{}}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestAppendState(t *testing.T) {
	for want, st := range map[string]wire.State{
		`{"desired":{},"version":0}`:                      {Desired: []byte(`{}`)},
		`{"desired":{"a":1},"version":7,"delta":{"a":1}}`: {Desired: []byte(`{"a":1}`), Version: 7, Delta: []byte(`{"a":1}`)},
		`{"version":7,"delta":{"a":1}}`:                   {Version: 7, Delta: []byte(`{"a":1}`)},
	} {
		if got := string(wire.AppendStateParams(nil, st)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := string(wire.AppendState(nil, st)); got != `{"jsonrpc":"2.0","method":"hub.state","params":`+want+`}` {
			t.Errorf("%s", got)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	seed(f, same)
	f.Add([]byte(`{"reported":{"a":null},"b":1}`))
	var d wire.Decoder
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := d.DecodeStatePayload(data, wire.Dialect{})
		agree(t, data, err)
		if err == nil && (len(got) == 0 || got[0] != '{' || !within(data, got)) {
			t.Fatalf("%q gives %q", data, got)
		}
		_, _ = wire.DecodeState(data) // of unchecked text too
	})
}
