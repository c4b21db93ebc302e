package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"telemetryhub/wire"
)

var asCBOR = wire.Dialect{CBOR: true}

// toCBOR encodes a JSON text by a library of others. Numbers become whole numbers where they are written so, and
// floats of 64 bits else.
func toCBOR(t testing.TB, text []byte) []byte {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	data, err := cbor.Marshal(exactly(value))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func exactly(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return n
		}
		f, _ := strconv.ParseFloat(v.String(), 64) // infinite beyond its range
		return f
	case []any:
		for i := range v {
			v[i] = exactly(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = exactly(v[name])
		}
	}
	return value
}

func TestFieldsOfCBORAreThoseOfJSON(t *testing.T) {
	const rounds = 10_000
	w := writer{Rand: rand.New(rand.NewPCG(3, 4))}
	var d wire.Decoder
	var out wire.Telemetry
	good := 0
	for round := range rounds {
		w.Reset()
		w.values(3, round%2 == 0)
		values := bytes.Clone(w.Bytes())
		frame := toCBOR(t, []byte(`{"method":"telemetry","params":{"readings":[{"values":`+string(values)+`}]}}`))
		if err := decodeAs(&d, &out, frame, asCBOR); err != nil {
			t.Fatalf("%q: %v", values, err)
		}
		wantFields(t, out.Readings[0], values)
		if out.Readings[0].Flaw == "" {
			good++
		}
	}
	if good < rounds/4 || good > rounds*3/4 {
		t.Errorf("%d of %d were sound: the writer is not a fair one", good, rounds)
	}
}

// decodeAs decodes a frame that is telemetry.
func decodeAs(d *wire.Decoder, out *wire.Telemetry, data []byte, as wire.Dialect) error {
	f, err := d.Decode(data, as)
	switch {
	case err != nil:
		return err
	case f.Kind == wire.KindPack:
		return d.DecodePack(f.Params, goldenDevice, out)
	case f.Kind == wire.KindTelemetry:
		return d.DecodeBare(f.Params, out)
	}
	return d.DecodeTelemetry(f.Params, out)
}

// value returns {"a": VALUE}, where the value is given in hex.
func value(t testing.TB, text string) []byte { return fromHex(t, "a1 6161"+text) }

func TestCBORValues(t *testing.T) {
	tests := []struct{ name, hex, want, raw string }{
		{"the largest whole number", "1b ffffffffffffffff", `[a=1.8446744073709552e+19]`, `{"a":18446744073709551615}`},
		{"the smallest whole number", "3b ffffffffffffffff", `[a=-1.8446744073709552e+19]`, `{"a":-18446744073709551616}`},
		{"beyond 2^53 it is rounded, as in JSON", "1b 0020000000000001", `[a=9.007199254740992e+15]`, `{"a":9007199254740993}`},
		{"not in the shortest form", "1b 0000000000000001", `[a=1]`, `{"a":1}`},
		{"float of 64 bits", "fb 40347ae147ae147b", `[a=20.48]`, `{"a":20.48}`},
		{"float of 32 bits is the decimal that was meant", "fa 41a3d70a", `[a=20.48]`, `{"a":20.48}`},
		{"0.1 of 32 bits", "fa 3dcccccd", `[a=0.1]`, `{"a":0.1}`},
		{"a whole float of 32 bits is exact", "fa 4d000008", `[a=1.34217856e+08]`, `{"a":134217856}`},
		{"2^27 of 32 bits", "fa 4d000000", `[a=1.34217728e+08]`, `{"a":134217728}`},
		{"float of 16 bits is exact", "f9 4d04", `[a=20.0625]`, `{"a":20.0625}`},
		{"the smallest float of 16 bits", "f9 0001", `[a=5.960464477539063e-08]`, `{"a":5.960464477539063e-08}`},
		{"the largest of 16 bits, negative", "f9 fbff", `[a=-65504]`, `{"a":-65504}`},
		{"negative zero", "f9 8000", `[a=-0]`, `{"a":-0}`},
		{"decimal fraction", "c4 82 21 19 0800", `[a=20.48]`, `{"a":2048e-2}`},
		{"decimal fraction without a fraction", "c4 82 00 38 63", `[a=-100]`, `{"a":-100}`},
		{"decimal fraction beyond a float", "c4 82 19 03e8 01", `!number_out_of_range`, `{"a":1e1000}`},
		{"true, in an object of indefinite length", "bf 6162 f5 ff", `[a.b=true]`, `{"a":{"b":true}}`},
		{"text in pieces", "7f 6178 60 6179 ff", `[a="xy"]`, `{"a":"xy"}`},
		{"text with escapes", "64 0a 22 5c 7f", `[a="\n\"\\\x7f"]`, "{\"a\":\"\\n\\\"\\\\\x7f\"}"},

		{"null", "f6", `!no_values`, `{"a":null}`},
		{"undefined", "f7", `!no_values`, `{"a":null}`},
		{"NaN", "f9 7e00", `!number_out_of_range`, `{"a":NaN}`},
		{"infinite", "fa 7f800000", `!number_out_of_range`, `{"a":Infinity}`},
		{"negative infinite", "fb fff0000000000000", `!number_out_of_range`, `{"a":-Infinity}`},
		{"bytes", "43 010203", `!bad_value`, `{"a":h'010203'}`},
		{"no bytes", "40", `!bad_value`, `{"a":h''}`},
		{"bytes in pieces", "5f 4101 42 0203 ff", `!bad_value`, `{"a":h'010203'}`},
		{"a list", "82 01 02", `!bad_value`, `{"a":[1,2]}`},
		{"a large number", "c2 49 010000000000000000", `!bad_value`, `{"a":2(h'010000000000000000')}`},
		{"a time", "c1 1a 56e7d0e0", `!bad_value`, `{"a":1(1458032864)}`},
		{"a tag around an object", "d8 25 a2 6162 82 01 02 6163 62 7d29", `!bad_value`, `{"a":37({"b":[1,2],"c":"})"})}`},
		{"a decimal fraction that is none", "c4 82 c2 41 01 01", `!bad_value`, `{"a":4([2(h'01'),1])}`},
		{"a decimal fraction of three", "c4 83 01 02 03", `!bad_value`, `{"a":4([1,2,3])}`},
		{"a simple value", "f0", `!bad_value`, `{"a":simple(16)}`},
		{"a simple value in two bytes", "f8 ff", `!bad_value`, `{"a":simple(255)}`},
		{"objects within objects", strings.Repeat("a1 6162", wire.MaxDepth) + "01", `!too_deep`, ""},
	}
	var d wire.Decoder
	var out wire.Telemetry
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := decodeAs(&d, &out, value(t, test.hex), asCBOR); err != nil {
				t.Fatal(err)
			}
			if got := show(&out); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if raw := string(out.Readings[0].Raw); test.raw != "" && raw != test.raw {
				t.Errorf("raw is %s, want %s", raw, test.raw)
			}
		})
	}
}

func TestCBORTimes(t *testing.T) {
	for text, want := range map[string]string{
		"1b 0000015379755f21":                            `[ts=1458031648545 a=1]`,
		"c1 1a 56e7cb60":                                 `[ts=1458031456000 a=1]`,
		"c1 fb 41d5b9f2d822e148":                         `[ts=1458031456545 a=1]`,
		"c0 74 323031362d30332d31355430383a34373a32385a": `[ts=1458031648000 a=1]`,
		"74 323031362d30332d31355430383a34373a32385a":    `[ts=1458031648000 a=1]`,
		"c1 f97e00": `!bad_time`, "f97c00": `!bad_time`, "c1 c1 01": `!bad_time`, "c0 01": `!bad_time`, "c2 4101": `!bad_time`, "4101": `!bad_time`,
	} {
		var d wire.Decoder
		var out wire.Telemetry
		if err := decodeAs(&d, &out, fromHex(t, "a2 627473 "+text+" 6676616c756573 a1 6161 01"), asCBOR); err != nil || show(&out) != want {
			t.Errorf("%s gives %s, %v; want %s", text, show(&out), err, want)
		}
	}
	var d wire.Decoder
	var out wire.Telemetry
	// What is set aside for another reason keeps its time, so that it can be retried.
	if err := decodeAs(&d, &out, fromHex(t, "a2 627473 c1 fb 41d5b9f2d822e148 6676616c756573 a1 6161 80"), asCBOR); err != nil || string(out.Readings[0].Raw) != `{"ts":1458031456545,"values":{"a":[]}}` {
		t.Errorf("kept as %s, %v", out.Readings[0].Raw, err)
	}
	if err := decodeAs(&d, &out, fromHex(t, "a2 666167655f6d73 f97e00 6676616c756573 a1 6161 01"), asCBOR); err != nil || show(&out) != "!bad_time" {
		t.Errorf("an age that is no number gives %s, %v", show(&out), err)
	}
}

func TestCBORThatIsNone(t *testing.T) {
	for _, test := range []struct{ name, hex, message string }{
		{"nothing", "", "empty"},
		{"half a head", "1a 0000", "byte 0: it ends within a number of 4 bytes"},
		{"a map that ends", "a1 6161", "byte 3: it ends"},
		{"a map of a billion", "ba 40000000 6161 01", "byte 8: it ends"},
		{"a text that ends", "a1 6161 65 6162", "byte 3: a text or bytes of 5 bytes, of which 2 follow"},
		{"a text longer than memory", "a1 6161 7b ffffffffffffffff", "byte 3: a text or bytes of 18446744073709551615 bytes, of which 0 follow"},
		{"bytes after the end", "a1 6161 01 00", "byte 4: 1 bytes follow the end"},
		{"not UTF-8", "a1 6161 61 ff", "byte 3: a text is not UTF-8"},
		{"a rune in two pieces", "a1 6161 7f 61c3 61a4 ff", "byte 4: a text is not UTF-8"},
		{"a piece of another kind", "a1 6161 7f 4161 ff", "byte 4: a text or bytes in pieces"},
		{"a piece in pieces", "a1 6161 7f 7f ff ff", "byte 4: a text or bytes in pieces"},
		{"a break that ends nothing", "a1 6161 ff", "byte 3: a break"},
		{"a break as a name's value", "bf 6161 ff", "byte 3: a break"},
		{"reserved", "a1 6161 1c", "byte 3: 0x1c begins no value"},
		{"a number of indefinite length", "a1 6161 1f", "byte 3: 0x1f begins no value"},
		{"a small simple value in two bytes", "a1 6161 f81f", "byte 3: a simple value"},
		{"a name twice", "a2 6161 01 6161 02", `byte 4: the name "a" is given twice`},
		{"a name twice, once in pieces", "a2 6161 01 7f 6161 ff 02", `byte 4: the name "a" is given twice`},
		{"a name twice among many", "aa 6161 01 6162 01 6163 01 6164 01 6165 01 6166 01 6167 01 6168 01 6169 01 6163 01", `byte 28: the name "c" is given twice`},
		{"a name that is a number", "a1 01 01", "byte 1: the name of a member is not a text"},
		{"a name that is bytes", "a1 4161 01", "byte 1: the name of a member is not a text"},
		{"a name with a tag", "a1 c0 6161 01", "byte 1: the name of a member is not a text"},
		{"nested too deeply", "a1 6161" + strings.Repeat("81", wire.MaxNesting) + "01", "byte 258: it is nested more than 256 deep"},
		{"tags nested too deeply", "a1 6161" + strings.Repeat("c6", wire.MaxNesting) + "01", "byte 258: it is nested more than 256 deep"},
	} {
		var d wire.Decoder
		_, err := d.Decode(fromHex(t, test.hex), asCBOR)
		e := wantError(t, err, wire.CodeParse, wire.ReasonBadCBOR)
		if e == nil || !strings.Contains(e.Message, test.message) {
			t.Errorf("%s: %v, want %s", test.name, err, test.message)
		}
	}
	for _, text := range []string{"01", "6161", "81a1616101", "f6", "80"} {
		var d wire.Decoder
		_, err := d.Decode(fromHex(t, text), asCBOR)
		wantError(t, err, wire.CodeInvalidRequest, wire.ReasonBadFrame)
	}
}

// What is kept as JSON, as results of commands are, has JSON's words only (RFC 8949 section 6.1).
func TestCBORKeptAsJSON(t *testing.T) {
	for text, want := range map[string]string{
		"43 fbfffe":                       `"-__-"`,
		"f9 7e00":                         `null`,
		"fa ff800000":                     `null`,
		"f0":                              `null`,
		"c1 1a 56e7cb60":                  `1458031456`,
		"c0 6178":                         `"x"`,
		"c2 49 010000000000000000":        `"AQAAAAAAAAAA"`,
		"c3 49 010000000000000000":        `"~AQAAAAAAAAAA"`,
		"82 a1 6162 d8 20 6178 c48221 05": `[{"b":"x"},5e-2]`,
		"a0":                              `{}`,
	} {
		// {"id":"01J","result":{"a":VALUE}}
		data := fromHex(t, "a2 626964 6330314a 66726573756c74 a1 6161"+text)
		var d wire.Decoder
		a, err := d.DecodeAnswerAs(data, asCBOR)
		if err != nil || a.ID != "01J" || string(a.Result) != `{"a":`+want+`}` {
			t.Errorf("%s is %s, %v; want %s", text, a.Result, err, want)
		}
	}
}

func TestCBORFrames(t *testing.T) {
	var d wire.Decoder
	var out wire.Telemetry
	f, err := d.Decode(toCBOR(t, []byte(`{"jsonrpc":"2.0","id":7,"method":"hello","params":{"boot":"k3","time":1458031648545.5,"max_frame":4096}}`)), asCBOR)
	if err != nil || f.Kind != wire.KindRequest || string(f.ID) != "7" || string(f.Method) != "hello" {
		t.Fatalf("%+v, %v", f, err)
	}
	if h, err := wire.DecodeHello(f.Params); err != nil || h.Boot != "k3" || h.MaxFrame != 4096 || h.Time != 1458031648546 {
		t.Errorf("%+v, %v", h, err)
	}
	// d9d9f7 says that it is CBOR; {"method":"event","params":{"name":"door","data":{"key":h'01'}}}
	f, err = d.Decode(fromHex(t, "d9d9f7 a2 666d6574686f64 656576656e74 66706172616d73 a2 646e616d65 64646f6f72 6464617461 a1 636b6579 4101"), asCBOR)
	if err != nil || f.Kind != wire.KindNotification {
		t.Fatalf("%+v, %v", f, err)
	}
	if err := d.DecodeEventParams(f.Params, &out); err != nil || show(&out) != "event !bad_value" || string(out.Readings[0].Raw) != `{"name":"door","data":{"key":h'01'}}` {
		t.Errorf("%s of %s, %v", show(&out), out.Readings[0].Raw, err)
	}
	// {"id":VALUE,"method":"telemetry","params":{"values":{"a":NaN}}}
	for text, ok := range map[string]bool{"6178": true, "20": true, "c48221 05": true, "fa ff800000": false, "c1 01": false, "4101": false, "f6": false, "f97e00": false} {
		f, err := d.Decode(fromHex(t, "a3 626964"+text+"666d6574686f64 6974656c656d65747279 66706172616d73 a1 6676616c756573 a1 6161 f97e00"), asCBOR)
		if (err == nil) != ok || ok != json.Valid(f.ID) {
			t.Errorf("the id %s is %s, %v", text, f.ID, err)
		}
	}
}

func TestAppendCBOR(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "a0", `[]`: "80", ` [ 1 , -1 ] `: "820120", `"a\u00e4"`: "6361c3a4", `true`: "f5", `false`: "f4", `null`: "f6",
		`18446744073709551615`: "1bffffffffffffffff", `-9223372036854775808`: "3b7fffffffffffffff", `1.5`: "fa3fc00000", `0.1`: "fb3fb999999999999a", `-0`: "fa80000000", `1e999`: "fa7f800000",
		`{"a":{"b":[{}]}}`: "a16161a1616281a0", `"` + strings.Repeat("x", 24) + `"`: "7818" + strings.Repeat("78", 24),
		`[` + strings.Repeat("0,", 23) + `0]`: "9818" + strings.Repeat("00", 24), `["` + strings.Repeat(`\n`, 24) + `"]`: "817818" + strings.Repeat("0a", 24),
	} {
		if got := hex.EncodeToString(wire.AppendCBOR([]byte("x"), []byte(text))[1:]); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	for _, test := range encodings {
		sameValue(t, test.text)
	}
}

// sameValue fails unless a library of others reads text written as CBOR as encoding/json reads the text.
func sameValue(t *testing.T, text []byte) {
	t.Helper()
	mode, err := cbor.DecOptions{MaxNestedLevels: 10_000, DefaultMapType: reflect.TypeFor[map[string]any](), DupMapKey: cbor.DupMapKeyEnforcedAPF}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	data := wire.AppendCBOR(nil, text)
	var got, want any
	if err := mode.Unmarshal(data, &got); err != nil {
		t.Fatalf("%.500q is written as %x: %v", text, data, err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&want); err != nil {
		t.Fatal(err)
	}
	if got, want := inFloats(got), inFloats(exactly(want)); !reflect.DeepEqual(got, want) {
		t.Fatalf("%.500q is written as %x, which is %v, not %v", text, data, got, want)
	}
}

// inFloats makes every number a float64, since CBOR has many types for one number.
func inFloats(value any) any {
	switch v := value.(type) {
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	case []any:
		for i := range v {
			v[i] = inFloats(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = inFloats(v[name])
		}
	}
	return value
}

func FuzzDecodeCBOR(f *testing.F) {
	for _, text := range frameSeeds {
		if json.Valid([]byte(text)) {
			f.Add(toCBOR(f, []byte(text)))
		}
	}
	for _, text := range []string{"a16161f97e00", "a161614101", "bf61617f61626163ffff", "a16161d825a2616201616302", "d9d9f7a0", "a2616101616102", "9f", "a1c16101"} {
		f.Add(fromHex(f, text))
	}
	lenient, err := cbor.DecOptions{MaxNestedLevels: 1000, MaxMapPairs: 1 << 20, MaxArrayElements: 1 << 20}.DecMode()
	if err != nil {
		f.Fatal(err)
	}
	var d wire.Decoder
	var out wire.Telemetry
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		frame, err := d.Decode(data, asCBOR)
		if !bytes.Equal(before, data) {
			t.Fatalf("%x became %x", before, data)
		}
		var e *wire.Error
		if err != nil && (!errors.As(err, &e) || e.Message == "" || len(e.Message) > 1000) {
			t.Fatalf("%x: %v", data, err)
		}
		wellFormed := lenient.Wellformed(data) == nil
		if (e == nil || e.Code != wire.CodeParse) && !wellFormed {
			t.Fatalf("%x passes, %v", data, err)
		}
		if e != nil && e.Code == wire.CodeParse && wellFormed && !strings.Contains(e.Message, "UTF-8") && !strings.Contains(e.Message, "name") && !strings.Contains(e.Message, "nested") {
			t.Fatalf("%x is well-formed: %v", data, err)
		}
		if err != nil {
			return
		}
		if frame.ID != nil && !json.Valid(frame.ID) {
			t.Fatalf("%x has the id %s", data, frame.ID)
		}
		switch {
		case frame.Kind == wire.KindAnswer:
			if !json.Valid(append(append([]byte{}, frame.Result...), frame.Fault...)) {
				t.Fatalf("%x has the result %s and the error %s", data, frame.Result, frame.Fault)
			}
		case frame.Kind == wire.KindTelemetry:
			err = d.DecodeBare(frame.Params, &out)
		case string(frame.Method) == "telemetry":
			err = d.DecodeTelemetry(frame.Params, &out)
		case string(frame.Method) == "event":
			err = d.DecodeEventParams(frame.Params, &out)
		default:
			out.Reset()
			if frame.Params != nil && !json.Valid(frame.Params) {
				t.Fatalf("%x has the params %s", data, frame.Params)
			}
		}
		if err == nil {
			finiteFields(t, data, &out)
		}
	})
}

// finiteFields fails where a reading that is to be stored holds what no store takes.
func finiteFields(t *testing.T, data []byte, out *wire.Telemetry) {
	t.Helper()
	for _, r := range out.Readings {
		for _, f := range r.Fields {
			if r.Flaw == "" && (math.IsNaN(f.Number) || math.IsInf(f.Number, 0) || len(f.Name) == 0) {
				t.Fatalf("%x: field %s", data, showField(f))
			}
		}
		if r.Flaw == "" && len(r.Fields) == 0 || len(r.Raw) == 0 {
			t.Fatalf("%x: a reading without fields, of %q", data, r.Raw)
		}
	}
}

func FuzzAppendCBOR(f *testing.F) {
	seed(f, same)
	var d wire.Decoder
	f.Fuzz(func(t *testing.T, text []byte) {
		if !strictJSON(text) || deep(text) {
			return
		}
		sameValue(t, text)
		// And back: an object without JSON-RPC's members is decoded as it is.
		wrapped := append(append([]byte(`{"a":`), text...), '}')
		frame, err := d.Decode(wire.AppendCBOR(nil, wrapped), asCBOR)
		if e := (*wire.Error)(nil); err != nil && errors.As(err, &e) && strings.Contains(e.Message, "nested") {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var got, want any
		dec := json.NewDecoder(bytes.NewReader(wrapped))
		dec.UseNumber()
		if dec.Decode(&want) != nil {
			t.Fatal("it was JSON")
		}
		again := json.NewDecoder(bytes.NewReader(frame.Params))
		again.UseNumber()
		if again.Decode(&got) != nil {
			return // a number beyond a float became Infinity
		}
		if got, want := inFloats(exactly(got)), inFloats(exactly(want)); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q comes back as %s", text, frame.Params)
		}
	})
}
