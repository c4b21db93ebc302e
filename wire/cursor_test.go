package wire

import (
	"bytes"
	"encoding/json"
	"testing"
)

// This file is inside the package, as nobody outside can hand a cursor text that no checker has passed.

// walk takes data apart as the decoders do and fails when the cursor stands still or hands out bytes that are not data's.
func walk(t *testing.T, data []byte) {
	t.Helper()
	inside := func(view []byte, what string) {
		if len(view) > 0 && !bytes.Contains(data, view) && string(view) != "null" {
			t.Fatalf("%s %q is no part of %q", what, view, data)
		}
	}
	budget := 4*len(data) + 16
	var scratch []byte
	var object func(text []byte, depth int)
	object = func(text []byte, depth int) {
		c := cursor{text: text}
		for c.enter(); c.more(); {
			if budget--; budget < 0 {
				t.Fatalf("no end in %q", data)
			}
			quoted := c.quoted()
			inside(quoted, "name")
			_, scratch = unquote(scratch[:0], quoted)
			value := c.value()
			inside(value, "value")
			if len(value) == 0 {
				t.Fatalf("an empty value in %q", data)
			}
			if value[0] == '{' && depth < MaxDepth && len(value) < len(text) {
				object(value, depth+1)
			}
		}
		c.enter() // the end is an end, however often it is passed
		c.more()
		c.quoted()
		c.value()
	}
	object(data, 0)
	c := cursor{text: data}
	for c.enter(); c.more(); {
		if budget--; budget < 0 {
			t.Fatalf("no end in the list %q", data)
		}
		inside(c.value(), "element")
	}
}

// decodeAll hands data to whatever takes text that a decoder has passed.
func decodeAll(data []byte) {
	var d Decoder
	var out Telemetry
	_ = d.DecodeTelemetry(data, &out)
	_ = d.DecodeBare(data, &out)
	_, _, _ = d.members(data)
	if len(data) > 0 {
		out.addOne(data, ClockNone, 0, "")
		_ = out.addAll(data, ClockNone, 0, "")
	}
}

var uncheckedTexts = []string{
	``, `{`, `}`, `[`, `]`, `"`, `\`, `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":}`, `{"a"}`, `{"a":"`, `{"a":"\`, `{"a":{`, `{"a":{"b`, `[1`, `[}`, `{]`, `{a:1}`, `{:::`, `{,,,`, `{"ts"`, `{"ts":"`, `{"values"`, `{"values":`,
	`{"readings":[`, `{"readings":[{`, `{"readings":[{"ts"`, `{"seq":`, `{"boot"`, `{"measurement"}`, `{"id"`, `{"id"}`, `{"method"`, `{"\`, `{"\u`, `{"\ud800":"\ud800"}`, `null`, ` `, "\x00", "{\xff:\xff}", `{"a":1}}`, `]]]]`, `{"a":{]}`,
}

func TestCursorSurvivesUncheckedText(t *testing.T) {
	for _, text := range uncheckedTexts {
		walk(t, []byte(text))
		decodeAll([]byte(text))
	}
}

func FuzzCursor(f *testing.F) {
	for _, text := range uncheckedTexts {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"telemetry","params":{"seq":1,"readings":[{"ts":1,"values":{"a\u0062":1,"c":{"d":"x\ny"}}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		walk(t, data)
		decodeAll(data)
	})
}

// On checked text the cursor finds what encoding/json finds, byte for byte.
func TestCursorFindsWhatStandsThere(t *testing.T) {
	text := []byte(" { \"a\" : 1 ,\t\"b\\\"\" : [ 1 , { \"c\" : \"]}\" } ] ,\n\"d\" : \"x\\\\\" , \"e\" : { } , \"f\":null,\"g\":-1.5e+3 } ")
	var want map[string]json.RawMessage
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	c := cursor{text: text}
	found := 0
	for c.enter(); c.more(); found++ {
		name, _ := unquote(nil, c.quoted())
		if got := c.value(); string(got) != string(want[string(name)]) {
			t.Errorf("%s is %q, want %q", name, got, want[string(name)])
		}
	}
	if found != len(want) {
		t.Errorf("%d members, want %d", found, len(want))
	}
}
