package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"telemetryhub/wire"
)

var (
	asSenML     = wire.Dialect{SenML: true}
	asSenMLCBOR = wire.Dialect{CBOR: true, SenML: true}
)

func TestSenML(t *testing.T) {
	many := strings.Repeat(`{"n":"a","v":1},`, 600)
	tests := []struct{ name, pack, want string }{
		{"base fields hold for what follows until others come", `[{"bn":"a/","bt":1458031648,"bu":"W","n":"x","v":1},{"n":"y","v":2},{"bn":"b/","n":"x","v":3},{"bt":1458031650,"n":"y","t":1,"v":4}]`, `[ts=1458031648000 a/x=1 a/y=2 b/x=3][ts=1458031651000 b/y=4]`},
		{"base value", `[{"bv":10,"n":"x","v":1.5},{"n":"y"},{"n":"z","v":-10},{"n":"s","vs":"t"},{"n":"b","vb":true}]`, `[x=11.5 y=10 z=0 s="t" b=true]`},
		{"base value of decimals", `[{"bv":0.1,"n":"x","v":0.2},{"bv":-0.3,"n":"y","v":0.1},{"bv":22.1,"n":"z","v":0.22}]`, `[x=0.3 y=-0.2 z=22.32]`},
		{"base value of whole numbers", `[{"bv":9007199254740000,"n":"x","v":991}]`, `[x=9.007199254740991e+15]`},
		{"base value beyond a float", `[{"bv":1e308,"n":"x","v":1e308}]`, `!number_out_of_range`},
		{"sums", `[{"n":"x","v":1,"s":5},{"n":"y","s":7},{"bs":100,"n":"z","v":2},{"n":"u","v":3,"s":0.5},{"n":"t","vs":"a"}]`, `[x=1 x_sum=5 y_sum=7 z=2 z_sum=100 u=3 u_sum=100.5 t="a"]`},
		{"a field that a sum is called as", `[{"n":"x_sum","v":1},{"n":"x","v":2,"s":3}]`, `[x_sum=1][x=2 x_sum=3]`},
		{"binary data", `[{"n":"x","vd":"_-8"},{"n":"y","vd":""},{"n":"z","vd":"aGk="}]`, `[x="_-8" y="" z="aGk="]`},
		{"an update time is not kept", `[{"n":"x","v":1,"ut":60}]`, `[x=1]`},
		{"unknown fields are left alone", `[{"n":"x","v":1,"foo":{"bar_":1},"l":"href"}]`, `[x=1]`},
		{"a record of base fields only", `[{"bn":"a/","bver":10},{"n":"x","v":1}]`, `[a/x=1]`},
		{"version 5", `[{"bver":5,"n":"x","v":1},{"bver":5,"n":"y","v":2}]`, `[x=1 y=2]`},

		{"time is now", `[{"n":"x","v":1},{"n":"y","t":0,"v":2},{"n":"z","bt":0.0001,"v":3}]`, `[x=1 y=2 z=3]`},
		{"time is relative to now", `[{"n":"x","t":-1.5,"v":1},{"n":"y","t":-1.5,"v":2}]`, `[age=1500 x=1 y=2]`},
		{"times are put together before they are looked at", `[{"bt":268435455,"n":"x","t":1,"v":1},{"bt":-10,"n":"y","t":5,"v":2}]`, `[ts=268435456000 x=1][age=5000 y=2]`},
		{"a relative time ahead is none", `[{"n":"x","t":5,"v":1},{"n":"y","t":268435455,"v":2}]`, `!bad_time!bad_time`},
		{"a time beyond all bounds", `[{"n":"x","t":1e300,"v":1},{"n":"y","t":-1e300,"v":1}]`, `!bad_time!bad_time`},
		{"records of one time are one reading, wherever they stand", `[{"bt":1458031648,"n":"x","v":1},{"n":"x","t":1,"v":2},{"n":"x","t":2,"v":3},{"n":"y","v":4},{"n":"y","t":1,"v":5}]`, `[ts=1458031648000 x=1 y=4][ts=1458031649000 x=2 y=5][ts=1458031650000 x=3]`},
		{"readings are in order", `[{"n":"a","v":3},{"n":"x","t":1458031650,"v":2},{"n":"a","t":-2,"v":2},{"n":"x","t":1458031649,"v":1},{"n":"a","t":-9,"v":1}]`, `[ts=1458031649000 x=1][ts=1458031650000 x=2][age=9000 a=1][age=2000 a=2][a=3]`},
		{"one name twice at one time are two readings", `[{"n":"x","t":1458031648,"v":1},{"n":"x","t":1458031648.0001,"v":2},{"n":"y","t":1458031648,"v":3}]`, `[ts=1458031648000 x=1][ts=1458031648000 x=2 y=3]`},

		{"names are cut", `[{"bn":"` + goldenDevice + `","n":":a","v":1},{"n":"/b","v":2},{"n":"_c","v":3},{"n":"d","v":4},{"n":"-e","v":5}]`, `[a=1 b=2 c=3 ` + goldenDevice + `d=4 ` + goldenDevice + `-e=5]`},
		{"names are cut behind a URN", `[{"bn":"urn:dev:ow:10E2073A01080063:","n":"a","v":1},{"bn":"urn:x-of-mine:10e2073a01080063/","n":"b/c","v":2},{"bn":"URN:DEV:OW:10e2073a01080063_","n":"d","v":3}]`, `[a=1 b/c=2 d=3]`},
		{"names of others are not cut", `[{"bn":"urn:dev:ow:10e2073a01080064:","n":"a","v":1},{"bn":"x:10e2073a01080063:","n":"b","v":2},{"bn":"","n":"urn:","v":3}]`, `[urn:dev:ow:10e2073a01080064:a=1 x:10e2073a01080063:b=2 urn:=3]`},
		{"without a name of its own", `[{"n":"10e2073a01080063","u":"Cel","v":1},{"n":"urn:dev:ow:10e2073a01080063:","u":"lat","v":2},{"u":"lon","v":3},{"v":4}]`, `[Cel=1 lat=2 lon=3 value=4]`},
		{"names with any characters", `[{"n":"Temp\u00e9rature \"1\"","v":1}]`, `[Température "1"=1]`},

		{"a record that cannot be used", `[{"n":"a","v":1},{"n":"b"},{"n":"c","v":1,"vs":"x"},{"n":"d","v":"1"},{"n":5,"v":1},{"n":"e","vb":1},{"n":"f","vd":"?"},{"n":"g","t":"x","v":1},{"n":"h","v":null},{"n":"i","v":1,"u":1},{"n":"j","v":1,"ut":"x"},{"n":"k","s":[]},{"n":"l","vs":1}]`, strings.Repeat("!bad_reading", 12) + `[a=1]`},
		{"flaws of the fields", `[{"n":"time","v":1},{"n":"a","v":2,"t":1458031648}]`, `[ts=1458031648000 a=2]!reserved_field_name`},
		{"too many fields", `[` + strings.Replace(many, `"a"`, `"b"`, 1) + `{"n":"c","v":1}]`, ``},
	}
	var d wire.Decoder
	var out wire.Telemetry
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := decodeAs(&d, &out, []byte(test.pack), asSenML); err != nil {
				t.Fatal(err)
			}
			if got := show(&out); got != test.want && test.want != "" {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			for _, r := range out.Readings {
				if !json.Valid(r.Raw) {
					t.Errorf("raw is %s", r.Raw)
				}
			}
		})
	}
}

func TestSenMLRefusesThePack(t *testing.T) {
	for _, test := range []struct{ name, pack, message string }{
		{"nothing", `[]`, "no record of the pack has a value"},
		{"a record that is no object", `[{"n":"x","v":1},7]`, "record 2 is 7; a SenML pack is a list of objects"},
		{"readings of the hub's own model", `[{"values":{"x":1}}]`, "no record of the pack has a value"},
		{"base fields only", `[{"bn":"x"},{}]`, "no record of the pack has a value"},
		{"a field that must be understood", `[{"n":"x","v":1},{"n":"y","v":1,"crit_":1}]`, `record 2 has the field "crit_"`},
		{"a newer version", `[{"bver":11,"n":"x","v":1}]`, "record 1: bver is 11; the hub understands SenML up to 10"},
		{"two versions", `[{"bver":5,"n":"x","v":1},{"bver":10,"n":"y","v":1}]`, "record 2: bver is 10, and was 5"},
		{"version 0", `[{"bver":0,"n":"x","v":1}]`, "record 1: bver is 0"},
		{"version a text", `[{"bver":"10","n":"x","v":1}]`, `record 1: bver is "10"`},
		{"base name a number", `[{"bn":1,"n":"x","v":1}]`, "record 1: bn is 1"},
		{"base unit a number", `[{"bu":1,"n":"x","v":1}]`, "record 1: bu is 1"},
		{"base time a text", `[{"n":"x","v":1},{"bt":"noon"}]`, `record 2: bt is "noon"`},
		{"base value out of range", `[{"bv":1e999,"n":"x"}]`, "record 1: bv is 1e999"},
		{"base sum null", `[{"bs":null,"n":"x"}]`, "record 1: bs is null"},
	} {
		var d wire.Decoder
		var out wire.Telemetry
		e := wantError(t, decodeAs(&d, &out, []byte(test.pack), asSenML), wire.CodeInvalidParams, wire.ReasonBadSenML)
		if !strings.Contains(e.Message, test.message) {
			t.Errorf("%s: %s, want %s", test.name, e.Message, test.message)
		}
		if err := decodeAs(&d, &out, []byte(`[{"n":"x","v":1}]`), asSenML); err != nil || show(&out) != "[x=1]" {
			t.Errorf("the next gives %s, %v", show(&out), err)
		}
	}
	var d wire.Decoder
	var out wire.Telemetry
	tooMany := []byte("[" + strings.Repeat(`{"n":"x","v":1},`, wire.MaxReadings) + `{"n":"x","v":1}]`)
	if e := wantError(t, decodeAs(&d, &out, tooMany, asSenML), wire.CodeInvalidParams, wire.ReasonBadParams); e.Limit != wire.MaxReadings {
		t.Errorf("limit is %d", e.Limit)
	}
	for _, text := range []string{`[{"n":"x","n":"y","v":1}]`, `[{"n":"x","v":NaN}]`, `[`} {
		_, err := d.Decode([]byte(text), asSenML)
		wantError(t, err, wire.CodeParse, wire.ReasonBadJSON)
	}
	_, err := d.Decode([]byte(`[{"n":"x","v":1}]`), wire.Dialect{})
	wantError(t, err, wire.CodeInvalidRequest, wire.ReasonBadFrame)
}

// On a SenML connection an object is what it is on any other.
func TestSenMLObjects(t *testing.T) {
	var d wire.Decoder
	for text, kind := range map[string]wire.Kind{
		`{"id":1,"method":"hello"}`: wire.KindRequest, `{"a":1}`: wire.KindTelemetry, `{"id":"01J","result":{}}`: wire.KindAnswer, `[{"n":"a","v":1}]`: wire.KindPack,
	} {
		if f, err := d.Decode([]byte(text), asSenML); err != nil || f.Kind != kind {
			t.Errorf("%s is of kind %d, %v", text, f.Kind, err)
		}
		if f, err := d.Decode(wire.AppendCBOR(nil, []byte(text)), asSenMLCBOR); err != nil || f.Kind != kind {
			t.Errorf("%s in CBOR is of kind %d, %v", text, f.Kind, err)
		}
	}
}

func TestSenMLInCBOR(t *testing.T) {
	for text, want := range map[string]string{
		"81 a2 00 6161 02 01":                                    `[a=1]`,
		"9f bf 00 6161 02 01 ff ff":                              `[a=1]`,
		"d9d9f7 81 a2 00 6161 02 01":                             `[a=1]`,
		"81 a2 616e 6161 6176 01":                                `[a=1]`, // labels of JSON are taken too
		"81 a3 00 6161 02 c4 82 21 19 0800 06 c4 82 20 24":       `[age=500 a=20.48]`,
		"81 a2 00 6161 02 fa 41a3d70a":                           `[a=20.48]`,
		"81 a2 00 6161 08 43 fbfffe":                             `[a="-__-"]`,
		"81 a2 00 6161 02 f97e00":                                `!number_out_of_range`,
		"81 a2 00 6161 02 c1 01":                                 `!bad_value`,
		"81 a2 00 6161 02 43 010203":                             `!bad_reading`,
		"81 a2 00 6161 03 43 010203":                             `!bad_reading`,
		"81 a3 00 6161 02 01 06 f97e00":                          `!bad_reading`,
		"81 a3 00 6161 02 01 63666f6f a1 626261 4101":            `[a=1]`,
		"82 a2 21 636e3a78 22 1a56e7cc20 a2 00 6161 05 f93c00":   `[ts=1458031648000 n:xa_sum=1]`,
		"81 a3 00 6161 02 01 24 0a":                              `[a=11]`,
		"82 a3 00 6161 02 01 06 39752f a3 00 6161 02 02 06 fa41": ``,
	} {
		var d wire.Decoder
		var out wire.Telemetry
		err := decodeAs(&d, &out, fromHex(t, text), asSenMLCBOR)
		if want == "" {
			wantError(t, err, wire.CodeParse, wire.ReasonBadCBOR)
			continue
		}
		if err != nil || show(&out) != want {
			t.Errorf("%s gives %s, %v; want %s", text, show(&out), err, want)
		}
	}
	for text, message := range map[string]string{
		"81 a2 00 6161 09 01":               "byte 5: SenML has no such label",
		"81 a2 00 6161 26 01":               "byte 5: SenML has no such label",
		"81 a3 00 6161 02 01 616e 6161":     `byte 7: the name "n" is given twice`,
		"81 a3 00 6161 02 01 6178 a1 00 01": "byte 10: the name of a member is not a text",
		"81 a3 00 6161 02 01 40 01":         "byte 7: the name of a member is not a text",
	} {
		var d wire.Decoder
		_, err := d.Decode(fromHex(t, text), asSenMLCBOR)
		if e := wantError(t, err, wire.CodeParse, wire.ReasonBadCBOR); !strings.Contains(e.Message, message) {
			t.Errorf("%s: %s, want %s", text, e.Message, message)
		}
	}
}

// A reading of a pack that is set aside is kept as a reading of the hub's own model, which can be retried.
func TestSenMLRaw(t *testing.T) {
	var d, again wire.Decoder
	var out, retried wire.Telemetry
	long := strings.Repeat("n", 300)
	pack := `[{"bn":"x/","bt":1458031648,"bv":1,"n":"a","v":1,"u":"W"},{"n":"` + long + `","vs":"q\"\n"},{"n":"b","v":"1"},{"n":"\u0001","v":1},{"bn":"","n":"c","t":-1458031658,"vb":true}]`
	if err := decodeAs(&d, &out, []byte(pack), asSenML); err != nil {
		t.Fatal(err)
	}
	if got := show(&out); got != `!bad_reading!bad_reading!bad_field_name[age=10000 c=true]` {
		t.Fatal(got)
	}
	for i, want := range []string{`[{"bn":"x/","bt":1458031648,"bv":1},{"n":"b","v":"1"}]`, `[{"bn":"x/","bt":1458031648,"bv":1},{"n":"\u0001","v":1}]`, `{"ts":1458031648000,"values":{"x/a":2,"x/` + long + `":"q\"\n"}}`, `{"age_ms":10000,"values":{"c":true}}`} {
		if got := string(out.Readings[i].Raw); got != want {
			t.Errorf("reading %d is kept as %s, want %s", i, got, want)
		}
	}
	if err := again.DecodePayload(out.Readings[2].Raw, &retried); err != nil || len(retried.Readings) != 1 || retried.Readings[0].Time != 1458031648000 {
		t.Errorf("retried it is %s, %v", show(&retried), err)
	}
}

func TestUnits(t *testing.T) {
	var d wire.Decoder
	var out wire.Telemetry
	long := strings.Repeat("u", wire.MaxUnit+1)
	pack := `[{"bu":"W","n":"a","v":1},{"n":"b","u":"Cel","v":1},{"n":"c","u":"","v":1},{"n":"d","u":"` + long + `","v":1},{"n":"e","u":"a\nb","v":1},{"n":"time","v":1,"t":5},{"u":"lat","v":1},{"n":"f","s":1}]`
	if err := decodeAs(&d, &out, []byte(pack), asSenML); err != nil || showUnits(&out) != " a:W b:Cel" {
		t.Errorf("%s, %v", showUnits(&out), err)
	}
	if err := decodeAs(&d, &out, []byte(`{"a":1}`), asSenML); err != nil || len(out.Units) > 0 {
		t.Errorf("the next has %s, %v", showUnits(&out), err)
	}
}

var packSeeds = []string{
	`[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1458031648.545,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2}]`,
	`[{"bv":1,"bs":2,"n":"x","v":0.1,"s":3,"ut":5},{"n":"y","vd":"aGkgCg"},{"n":"z","vb":true},{"vs":"\u00e4","t":-1}]`,
	`[{"n":"x","crit_":1}]`, `[]`, `[1]`, `[{"bver":11}]`, `[{"n":"x","v":1e308,"bv":1e308}]`, `[{"n":"x","t":1e300,"v":1},{"n":"x","t":5,"v":1}]`, `{"a":1}`,
}

func FuzzDecodePack(f *testing.F) {
	for _, text := range packSeeds {
		f.Add([]byte(text))
	}
	var d wire.Decoder
	var out wire.Telemetry
	f.Fuzz(func(t *testing.T, data []byte) {
		err := d.DecodePayloadAs(data, asSenML, goldenDevice, &out)
		if !agree(t, data, err) || err != nil {
			return
		}
		soundPack(t, data, &out)
	})
}

func FuzzDecodePackCBOR(f *testing.F) {
	for _, text := range packSeeds {
		f.Add(toCBOR(f, []byte(text)))
	}
	f.Add(fromHex(f, "81a200616102f97e00"))
	f.Add(fromHex(f, "9fbf006161084101ffff"))
	var d wire.Decoder
	var out wire.Telemetry
	f.Fuzz(func(t *testing.T, data []byte) {
		err := d.DecodePayloadAs(data, asSenMLCBOR, goldenDevice, &out)
		var e *wire.Error
		if err != nil && (!errors.As(err, &e) || e.Message == "" || len(e.Message) > 1000) {
			t.Fatalf("%x: %v", data, err)
		}
		if err == nil {
			soundPack(t, data, &out)
		}
	})
}

// soundPack fails where a reading holds what it must not, or is not the same when its text is decoded again.
func soundPack(t *testing.T, data []byte, out *wire.Telemetry) {
	t.Helper()
	finiteFields(t, data, out)
	for _, r := range out.Readings {
		if r.Flaw != "" || bytes.HasPrefix(r.Raw, []byte("[")) {
			continue
		}
		var d wire.Decoder
		var again wire.Telemetry
		if err := d.DecodePayload(r.Raw, &again); err != nil || len(again.Readings) != 1 {
			t.Fatalf("%x: its reading %q is %v", data, r.Raw, err)
		}
		one := wire.Telemetry{Readings: []wire.Reading{r}}
		if got, want := show(&again), show(&one); got != want && !strings.HasSuffix(got, "!field_twice") {
			t.Fatalf("%x: its reading %q is %s, not %s", data, r.Raw, got, want)
		}
	}
	for _, u := range out.Units {
		if len(u.Field) == 0 || len(u.Symbol) == 0 || len(u.Symbol) > wire.MaxUnit {
			t.Fatalf("%x: unit %s", data, fmt.Sprintf("%q %q", u.Field, u.Symbol))
		}
	}
}
