package maps_test

import (
	"runtime"
	"strings"
	"testing"

	"telemetryhub/bridge/maps"
)

// TestBombs holds that no expression costs more than it may, whatever it is made of. Without the meter each of them takes
// gigabytes or hours.
func TestBombs(t *testing.T) {
	doubled := "let a00 = payload;"
	nested := "let a00 = [1, 2];"
	for i := range 40 {
		doubled += strings.NewReplacer("N", itoa(i+1), "P", itoa(i)).Replace("let aN = aP + aP;")
		nested += strings.NewReplacer("N", itoa(i+1), "P", itoa(i)).Replace("let aN = [aP, aP];")
	}
	for name, text := range map[string]string{
		"loops":            `let a = 0..9999; all(a, all(a, all(a, all(a, true))))`,
		"loops of filter":  `let a = 0..9999; count(a, len(filter(a, # > 3)) > 0) > 0`,
		"loops of reduce":  `let a = 0..9999; reduce(a, #acc + reduce(a, #acc + 1, 0), 0)`,
		"loops of sort":    `let a = 0..9999; all(a, len(sortBy(a, -#)) > 0)`,
		"ranges":           `map(0..100000, 0..100000)`,
		"a wide range":     `0..1000000000`,
		"a doubled text":   doubled + "a40",
		"a doubled list":   nested + "toJSON(a40)",
		"compared lists":   nested + "a40 == a40",
		"flattened":        nested + "flatten(a40)",
		"repeat":           `repeat("x", 1000000000)`,
		"repeat in repeat": `repeat(repeat(payload, 100), 100000)`,
		"replace":          `replace(payload, "", payload)`,
		"join":             `join(split(payload, ""), payload)`,
		"texts in a list":  `map(0..100000, upper(payload))`,
		"copies":           `let a = split(payload, ""); map(0..1000, concat(a, a, a))`,
		"grown by reduce":  `reduce(0..99, [#acc, #acc], [1])`,
		"grown text":       `reduce(0..99, #acc + #acc, payload)`,
		"slices":           `map(0..100000, payload[1:] + "x")`,
	} {
		t.Run(name, func(t *testing.T) {
			m := maps.Map{Name: "m", Topic: "{device}", Payload: "text", Expr: text}
			s := compile(t, maps.Group{Maps: []maps.Map{m}})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := up(t, s, "d", strings.Repeat("x", 60_000))
			runtime.ReadMemStats(&after)
			if !strings.HasPrefix(got, "! expression: map m: expr: expression: ") {
				t.Error(got[:min(len(got), 200)])
			}
			if made := after.TotalAlloc - before.TotalAlloc; made > 300<<20 {
				t.Errorf("%d bytes were made", made)
			}
			t.Log(got)
		})
	}
}

func itoa(n int) string { return string([]byte{byte('0' + n/10), byte('0' + n%10)}) }

// TestBadPayloads holds that what no device should send is refused with a reason, and costs little.
func TestBadPayloads(t *testing.T) {
	for name, test := range map[string]struct{ as, payload, want string }{
		"10 MB of text":       {"text", strings.Repeat("x", 10<<20), "string_too_long"},
		"10 MB of list":       {"json", "[" + strings.Repeat("1,", 5<<20) + "1]", "bad_value"},
		"10 MB of brackets":   {"json", strings.Repeat("[", 10<<20), "! bad_json"},
		"10 MB of objects":    {"json", strings.Repeat(`{"a":`, 2<<20), "! bad_json"},
		"deep":                {"json", strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), "too_deep"},
		"empty":               {"json", "", "! bad_json: map m: an empty frame"},
		"two values":          {"json", "{} {}", "more than one JSON value"},
		"no number":           {"number", "", "is not a number"},
		"hexadecimal":         {"number", "0x10", "is not a number"},
		"many fields":         {"json", "{" + manyFields(600) + "}", "too_many_fields"},
		"not UTF-8 in JSON":   {"json", "{\"a\":\"\xff\"}", "! bad_utf8"},
		"CBOR cut":            {"cbor", "\xbf", "! "},
		"CBOR of NaN":         {"cbor", "\xa1at\xf9\x7e\x00", "number_out_of_range"},
		"a line without end":  {"line", `m f="` + strings.Repeat("x", 100), "line protocol"},
		"a line of NaN":       {"line", "m f=NaN", "line protocol"},
		"a line, field twice": {"line", "m f=1,f=2", "stands there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			m := maps.Map{Name: "m", Topic: "{device}", Payload: test.as}
			got := up(t, compile(t, maps.Group{Maps: []maps.Map{m}}), "d", test.payload)
			if !strings.Contains(got, test.want) {
				t.Errorf("%s has no %s", got[:min(len(got), 300)], test.want)
			}
		})
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"f` + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + `":1`)
	}
	return b.String()
}

// FuzzUp holds that no message ends the program, that what comes out can be shown, and that it comes out again the same.
func FuzzUp(f *testing.F) {
	var all []maps.Map
	for i, as := range []string{"json", "auto", "number", "text", "cbor", "senml", "line"} {
		m := maps.Map{Name: as, Topic: as + "/{device}/{x...}", Payload: as}
		if as != "senml" {
			m.Arrays, m.Omit = []string{"", "index", "omit"}[i%3], []string{"$.a.b", "$.x[0]"}
			m.Report = map[string]string{"r": "$.a[0].b|bool"}
		}
		all = append(all, m)
	}
	chosen := maps.Map{Name: "chosen", Topic: "chosen/{device}", Expr: `{"a": json?.a, "p": payload + "x", "l": levels}`}
	chosen.Fields = map[string]string{"a": `$.a["b|c"].d|number|times:2`, "b": "{$.p|replace:x:y}"}
	all = append(all, chosen)
	timed := maps.Map{Name: "timed", Topic: "timed/{device}", Each: "$.list"}
	timed.Time, timed.TimeZone, timed.Boot, timed.Seq = "$.at", "Europe/Berlin", "$.boot", "$.seq"
	all = append(all, timed)
	s, err := maps.Compile([]maps.Group{{Maps: all}})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][2]string{
		{"json/d/x", `{"a":{"b":1},"x":[1,2,{"y":null}]}`},
		{"auto/d/", "21.5"},
		{"number/d/", "-1e5"},
		{"text/d/", "ON"},
		{"cbor/d/", "\xa1at\x18\x15"},
		{"senml/d/", `[{"bn":"d:","n":"t","v":3}]`},
		{"line/d/", "m,t=a f=1i,g=\"x\" 17"},
		{"chosen/d", `{"a":{"b|c":{"d":"7"}}}`},
		{"timed/d", `{"list":[{"at":"2026-03-29T02:30:00","boot":"b","seq":4,"v":1}]}`},
		{"#", ""},
		{"json/\xff/x", "{}"},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		first, second := upOf(s, topic, payload), upOf(s, topic, payload)
		if first != second {
			t.Errorf("%s and then %s", first, second)
		}
	})
}
