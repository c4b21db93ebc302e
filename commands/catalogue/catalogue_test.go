package catalogue_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"telemetryhub/commands/catalogue"
)

const valve = `{
	"type": "object", "required": ["angle"], "additionalProperties": false,
	"properties": {
		"angle": {"type": "integer", "minimum": 0, "maximum": 90},
		"mode": {"enum": ["slow", "fast"], "default": "slow"},
		"name": {"type": "string", "maxLength": 8, "pattern": "^[a-z]+$"},
		"to": {"type": "string", "format": "ipv4"},
		"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "uniqueItems": true, "maxItems": 3},
		"a/b~c": {"type": "boolean"}
	},
	"$defs": {"step": {"type": "object", "properties": {"ms": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5, "default": 10}}}}
}`

const wifi = `{
	"type": "object", "required": ["ssid", "psk"],
	"properties": {
		"ssid": {"type": "string"},
		"psk": {"type": "string", "minLength": 8, "writeOnly": true},
		"pins": {"type": "array", "items": {"type": "integer", "x-secret": true}},
		"eap": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/eap"}]},
		"notes": {}
	},
	"$defs": {"eap": {"type": "object", "properties": {"user": {"type": "string"}, "password": {"x-secret": true}}}}
}`

func types(t *testing.T) *catalogue.Catalogue {
	t.Helper()
	c, err := catalogue.New([]catalogue.Type{
		{Name: "valve", Methods: map[string]catalogue.Method{"turn": {Params: json.RawMessage(valve)}, "wifi": {Params: json.RawMessage(wifi)}, "ping": {}}},
		{Name: "open", OtherMethods: catalogue.Allow, Methods: map[string]catalogue.Method{"ping": {}}},
		{Name: "asked", OtherMethods: catalogue.Announced, Methods: map[string]catalogue.Method{"ping": {}}},
		{Name: "fields only"},
		{Name: "mute", OtherMethods: catalogue.Refuse},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// check returns the refusal of a command, nil if it is taken.
func check(t *testing.T, c *catalogue.Catalogue, call catalogue.Call) (catalogue.Terms, *catalogue.Refusal) {
	t.Helper()
	terms, err := c.Check(call)
	var refusal *catalogue.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatalf("%+v: %v", call, err)
	}
	return terms, refusal
}

func TestWhichMethodsATypeTakes(t *testing.T) {
	c := types(t)
	for _, test := range []struct {
		kind, method string
		announced    []string
		says         string // of the refusal; empty: taken
	}{
		{"valve", "ping", nil, ""},
		{"valve", "png", nil, `the type valve has no method "png"; it has ping, turn, wifi`},
		{"valve", "png", []string{"png"}, `has no method "png"`}, // what is announced does not open a closed type
		{"open", "png", nil, ""},
		{"asked", "png", nil, `neither the type asked (ping) nor the device's hello (nothing announced) has a method "png"`},
		{"asked", "png", []string{"set", "png"}, ""},
		{"asked", "ping", []string{"set"}, ""}, // listed
		{"fields only", "png", nil, ""},
		{"mute", "ping", nil, `the type mute has no method "ping"; it has none`},
		{"", "png", nil, ""},
		{"unheard of", "png", []string{"set"}, ""}, // announced methods alone refuse nothing
	} {
		_, refusal := check(t, c, catalogue.Call{Type: test.kind, Method: test.method, Announced: test.announced})
		switch {
		case test.says == "" && refusal != nil:
			t.Errorf("%s, %s: refused: %v", test.kind, test.method, refusal)
		case test.says != "" && (refusal == nil || refusal.Reason != catalogue.ReasonMethod || !strings.Contains(refusal.Message, test.says)):
			t.Errorf("%s, %s: %+v, want %q", test.kind, test.method, refusal, test.says)
		}
	}
}

func TestAllFaultsOfParamsAreToldByPointer(t *testing.T) {
	c := types(t)
	for _, test := range []struct {
		params string
		want   []string // "pointer message"
	}{
		{``, []string{"/angle is missing"}},
		{`{}`, []string{"/angle is missing"}},
		{`[1]`, []string{" must be of type object, not array"}},
		{`{"angle":91,"mode":"quick","name":"TOO-LONG-A-NAME","to":"10.0.0","x":1}`, []string{
			"/angle must be at most 90", `/mode must be one of "slow", "fast"`, "/name must have at most 8 characters, not 15",
			"/name must match the pattern ^[a-z]+$", "/to must have the format ipv4", "/x is not known here",
		}},
		{`{"angle":"5"}`, []string{"/angle must be of type integer, not string"}},
		{`{"angle":5.5}`, []string{"/angle must be of type integer, not number"}},
		{`{"angle":5.0}`, nil}, // whole, by the draft
		{`{"angle":5,"steps":[{"ms":0},{"ms":0.7},{"ms":1},{"ms":1}]}`, []string{
			"/steps items 2 and 3 must not be equal", "/steps must have at most 3 items, not 4", "/steps/0/ms must be more than 0", "/steps/1/ms must be a multiple of 0.5",
		}},
		{`{"angle":5,"a/b~c":1}`, []string{"/a~1b~0c must be of type boolean, not number"}},
		{`{"angle":1e999999}`, []string{"/angle is a number that no 64-bit float holds"}},
		{`{"angle":1e-999999}`, []string{"/angle is a number that no 64-bit float holds"}},
		{`{"angle":0e5}`, nil},
	} {
		_, refusal := check(t, c, catalogue.Call{Type: "valve", Method: "turn", Params: json.RawMessage(test.params)})
		var got []string
		if refusal != nil {
			for _, f := range refusal.Faults {
				got = append(got, f.Pointer+" "+f.Message)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s:\n%s\nwant\n%s", test.params, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var params []string
	for i := range 5000 {
		params = append(params, fmt.Sprintf(`"x%d":1`, i))
	}
	_, refusal := check(t, types(t), catalogue.Call{Type: "valve", Method: "turn", Params: json.RawMessage("{" + strings.Join(params, ",") + "}")})
	if refusal == nil || len(refusal.Faults) != 101 || refusal.Faults[100].Message != "and 4901 faults more" {
		t.Errorf("%d faults, the last %+v", len(refusal.Faults), refusal.Faults[len(refusal.Faults)-1])
	}
}

func TestWhatIsSentIsWhatWasChecked(t *testing.T) {
	c := types(t)
	for params, want := range map[string]string{
		`{"angle":7}`:                                         `{"angle":7,"mode":"slow"}`,
		`{"angle":99,"angle":7,"mode":"fast"}`:                `{"angle":7,"mode":"fast"}`, // a device might take the first
		`{"angle":7,"mode":"fast","steps":[{},{"ms":2}]}`:     `{"angle":7,"mode":"fast","steps":[{},{"ms":2}]}`,
		`{"angle":7,"mode":"fast","name":"\u003c\u003e"}`:     "", // refused, by its pattern
		`{"angle":7.000,"mode":"slow","steps":[{"ms":12e2}]}`: `{"angle":7.000,"mode":"slow","steps":[{"ms":12e2}]}`,
	} {
		terms, refusal := check(t, c, catalogue.Call{Type: "valve", Method: "turn", Params: json.RawMessage(params)})
		if got := string(terms.Params); got != want || (want == "") != (refusal != nil) {
			t.Errorf("%s became %s (%v), want %s", params, got, refusal, want)
		}
		if terms.Masked != nil {
			t.Errorf("%s: masked %s, though nothing is secret", params, terms.Masked)
		}
	}
	if terms, refusal := check(t, c, catalogue.Call{Type: "valve", Method: "ping", Params: json.RawMessage(`{"n":1}`)}); refusal != nil || string(terms.Params) != `{"n":1}` {
		t.Errorf("a method without a schema: %s, %v", terms.Params, refusal)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	c := types(t)
	for params, want := range map[string]string{
		`{"ssid":"hall","psk":"hunter2hunter2"}`:                                `{"psk":"[secret]","ssid":"hall"}`,
		`{"ssid":"hall","psk":"hunter2hunter2","pins":[1234,5678]}`:             `{"pins":["[secret]","[secret]"],"psk":"[secret]","ssid":"hall"}`,
		`{"ssid":"a","psk":"hunter2hunter2","eap":{"user":"u","password":[1]}}`: `{"eap":{"password":"[secret]","user":"u"},"psk":"[secret]","ssid":"a"}`,
		// A name that the schema does not know may be a secret's, misspelt.
		`{"ssid":"a","psk":"hunter2hunter2","pks":"x","notes":{"any":"thing"}}`: `{"notes":{"any":"thing"},"pks":"[secret]","psk":"[secret]","ssid":"a"}`,
		`{"ssid":"a","psk":"hunter2hunter2","eap":{"passwort":"hunter3"}}`:      `{"eap":{"passwort":"[secret]"},"psk":"[secret]","ssid":"a"}`,
	} {
		terms, refusal := check(t, c, catalogue.Call{Type: "valve", Method: "wifi", Params: json.RawMessage(params)})
		if refusal != nil || string(terms.Masked) != want || !strings.Contains(string(terms.Params), "hunter2hunter2") {
			t.Errorf("%s is shown as\n%s (%v), want\n%s", params, terms.Masked, refusal, want)
		}
	}
	_, refusal := check(t, c, catalogue.Call{Type: "valve", Method: "wifi", Params: json.RawMessage(`{"ssid":1,"psk":"hunter2","pins":["swordfish"]}`)})
	if refusal == nil || len(refusal.Faults) != 3 {
		t.Fatalf("%+v, want 3 faults", refusal)
	}
	if text := fmt.Sprintf("%v %+v", refusal, refusal.Faults); strings.Contains(text, "hunter2") || strings.Contains(text, "swordfish") {
		t.Errorf("a refusal shows what was given: %s", text)
	}
}

func TestWhatIsWrongWithASchema(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type":"object","properties":{"a":{"type":"integer","minimum":"0"}}}`: "/properties/a/minimum must be of type number, not string",
		`{"type":"objekt"}`:                            `/type fits none of the alternatives`,
		`{"properties":{"a":{"reqired":true}}}`:        "/properties/a/reqired is no keyword of JSON Schema (what is free begins with x-)",
		`{"allOf":[{"$ref":"https://example.com/s"}]}`: `/allOf/0/$ref "https://example.com/s" leads out of the schema; only references within the schema itself are followed`,
		`{"$ref":"file:///etc/passwd"}`:                `/$ref "file:///etc/passwd" leads out of the schema; only references within the schema itself are followed`,
		`{"properties":{"a":{"$ref":"#/$defs/b"}}}`:    `/properties/a/$ref "#/$defs/b" leads nowhere`,
		`{"properties":{"a":{"$ref":"#b"}}}`:           `/properties/a/$ref "#b" leads nowhere`,
		`{"properties":{"a":{"pattern":"("}}}`:         "/properties/a/pattern must have the format regex",
		`{"$schema":"https://example.com/own"}`:        ` failing loading "https://example.com/own": only references within the schema itself are followed`,
		`5`:                                            " must be of type boolean or object, not number",
		`{`:                                            " is not JSON: unexpected EOF",
		`{"type":"object","x-unit":{"any":"thing"}}`:   "",
		`true`: "",
		`{"properties":{"default":{"type":"string"}}}`: "",
		`{"enum":[{"reqired":1}],"default":{"x":{}}}`:  "",
		`{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{"type":"string"}},"items":[{"$ref":"#/definitions/a"}]}`: "",
	} {
		var got []string
		for _, f := range catalogue.CheckSchema(json.RawMessage(schema)) {
			got = append(got, f.Pointer+" "+f.Message)
		}
		if text := strings.Join(got, "\n"); text != want {
			t.Errorf("%s:\n%s\nwant\n%s", schema, text, want)
		}
	}
	if _, err := catalogue.New([]catalogue.Type{{Name: "a", Methods: map[string]catalogue.Method{"b": {Params: json.RawMessage(`{"x":1}`)}}}}); err == nil || !strings.Contains(err.Error(), "type a: method b") {
		t.Errorf("New: %v", err)
	}
}

func TestASchemaThatLeadsInACircleEnds(t *testing.T) {
	c, err := catalogue.New([]catalogue.Type{{Name: "a", Methods: map[string]catalogue.Method{
		"tree": {Params: json.RawMessage(`{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"n":{"$ref":"#/$defs/n"},"s":{"writeOnly":true}}}}}`)},
		"loop": {Params: json.RawMessage(`{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}`)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	terms, refusal := check(t, c, catalogue.Call{Type: "a", Method: "tree", Params: json.RawMessage(`{"n":{"n":{"s":"x"}}}`)})
	if refusal != nil || string(terms.Masked) != `{"n":{"n":{"s":"[secret]"}}}` {
		t.Errorf("tree: %s, %v", terms.Masked, refusal)
	}
	if _, refusal := check(t, c, catalogue.Call{Type: "a", Method: "loop", Params: json.RawMessage(`{}`)}); refusal == nil {
		t.Error("a circle of references refuses nothing")
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(`{"angle":5}`)
	f.Add(`{"ssid":"a","psk":"hunter2hunter2","eap":{"password":"x"}}`)
	f.Add(`[1e400,{"a":null}]`)
	c, err := catalogue.New([]catalogue.Type{{Name: "t", Methods: map[string]catalogue.Method{"m": {Params: json.RawMessage(valve)}, "w": {Params: json.RawMessage(wifi)}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, params string) {
		if !json.Valid([]byte(params)) {
			return // the ledger has looked before
		}
		for _, method := range []string{"m", "w"} {
			terms, err := c.Check(catalogue.Call{Type: "t", Method: method, Params: json.RawMessage(params)})
			if err != nil {
				continue
			}
			again, err := c.Check(catalogue.Call{Type: "t", Method: method, Params: terms.Params})
			if err != nil || string(again.Params) != string(terms.Params) || string(again.Masked) != string(terms.Masked) {
				t.Errorf("%s: what was taken is taken otherwise the next time: %s, %s, %v", params, terms.Params, again.Params, err)
			}
		}
	})
}
