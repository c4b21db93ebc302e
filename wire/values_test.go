package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"telemetryhub/wire"
)

func TestDecodeValues(t *testing.T) {
	name256 := strings.Repeat("n", wire.MaxFieldName)
	longest := strings.Repeat("s", wire.MaxString)
	tests := []struct{ name, values, want string }{
		{"numbers", `{"a":0,"b":-0.5,"c":1e3,"d":1E-2,"e":123456789012345678901}`, `[a=0 b=-0.5 c=1000 d=0.01 e=1.2345678901234568e+20]`},
		{"the largest and the smallest number", `{"a":1.7976931348623157e308,"b":5e-324,"c":-1.7976931348623157e308}`, `[a=1.7976931348623157e+308 b=5e-324 c=-1.7976931348623157e+308]`},
		{"a number too small is 0", `{"a":1e-999}`, `[a=0]`},
		{"a number of many digits", `{"a":0.` + strings.Repeat("3", 400) + `}`, `[a=0.3333333333333333]`},
		{"null is left out", `{"a":null,"b":1,"c":{"d":null}}`, `[b=1]`},
		{"nested", `{"a":{"b":{"c":1,"d":"x"}},"e":true}`, `[a.b.c=1 a.b.d="x" e=true]`},
		{"nested, escaped names", `{"\u0061":{"\u0062":1,"c":2},"d":{"\u0065\"":3}}`, `[a.b=1 a.c=2 d.e"=3]`},
		{"a name with a dot", `{"a.b":1,"a":{"c":2}}`, `[a.b=1 a.c=2]`},
		{"names with dots that stay apart", `{"a.b":1,"a":{"b.c":2,"d":3},"b.b":4}`, `[a.b=1 a.b.c=2 a.d=3 b.b=4]`},
		{"empty objects", `{"a":{},"b":{"c":{}},"d":1}`, `[d=1]`},
		{"the longest name", `{"` + name256 + `":1}`, `[` + name256 + `=1]`},
		{"as deep as it goes", strings.Repeat(`{"a":`, wire.MaxDepth) + "1" + strings.Repeat("}", wire.MaxDepth), `[` + strings.Repeat("a.", wire.MaxDepth-1) + `a=1]`},
		{"separators of line protocol in names", `{"a b":1,"a,b":2,"a=b":3,"a\"b":4}`, `[a b=1 a,b=2 a=b=3 a"b=4]`},
		{"names of many alphabets", `{"Température":1,"温度":2,"\ud83c\udf21":3}`, `[Température=1 温度=2 🌡=3]`},
		{"line breaks in a text", `{"a":"x\ny\r\nz","b":1}`, `[a="x\ny\r\nz" b=1]`},
		{"escapes in a text", `{"a":"\"\\\/\b\f\t\u0000\u00e4\ud83d\ude00"}`, `[a="\"\\/\b\f\t\x00ä😀"]`},
		{"a text that ends in a backslash", `{"a":"x\\","b":"\\\\"}`, `[a="x\\" b="\\\\"]`},
		{"a text of brackets", `{"a":"{[}]\",:","b":1}`, `[a="{[}]\",:" b=1]`},
		{"the empty text", `{"a":""}`, `[a=""]`},
		{"the longest text", `{"a":"` + longest + `"}`, `[a="` + longest + `"]`},
		{"names that only resemble those InfluxDB keeps", `{"Time":1,"devices":2,"a":{"time":3,"device":4}}`, `[Time=1 devices=2 a.time=3 a.device=4]`},
		{"as many fields as it may have", fields(wire.MaxFields), ""},

		{"a number too large", `{"a":1,"b":1e999}`, `!number_out_of_range`},
		{"a number too large below 0", `{"a":-1e309}`, `!number_out_of_range`},
		{"a list", `{"a":1,"b":[1]}`, `!bad_value`},
		{"an empty list", `{"a":[]}`, `!bad_value`},
		{"a list within", `{"a":{"b":[{"c":1}]}}`, `!bad_value`},
		{"nothing", `{}`, `!no_values`},
		{"only null", `{"a":null}`, `!no_values`},
		{"only empty objects", `{"a":{"b":{}}}`, `!no_values`},
		{"values a list", `[1]`, `!bad_reading`},
		{"values a text", `"x"`, `!bad_reading`},
		{"values a number", `1`, `!bad_reading`},
		{"values null", `null`, `!bad_reading`},
		{"an empty name", `{"":1}`, `!bad_field_name`},
		{"a name too long", `{"` + name256 + `n":1}`, `!bad_field_name`},
		{"a joined name too long", `{"` + name256[:128] + `":{"` + name256[:128] + `":1}}`, `!bad_field_name`},
		{"a line break in a name", `{"a\nb":1}`, `!bad_field_name`},
		{"a tabulator in a name", `{"a\tb":1}`, `!bad_field_name`},
		{"NUL in a name", `{"a\u0000":1}`, `!bad_field_name`},
		{"DEL in a name", "{\"a\x7f\":1}", `!bad_field_name`},
		{"a backslash in a name", `{"a\\":1}`, `!bad_field_name`},
		{"a line break in the outer name", `{"a\n":{"b":1}}`, `!bad_field_name`},
		{"time", `{"time":1}`, `!reserved_field_name`},
		{"time, escaped", `{"t\u0069me":1}`, `!reserved_field_name`},
		{"_time", `{"_time":1}`, `!reserved_field_name`},
		{"_field", `{"_field":1}`, `!reserved_field_name`},
		{"_measurement", `{"_measurement":1}`, `!reserved_field_name`},
		{"device", `{"device":"x"}`, `!reserved_field_name`},
		{"too deep", strings.Repeat(`{"a":`, wire.MaxDepth+1) + "1" + strings.Repeat("}", wire.MaxDepth+1), `!too_deep`},
		{"too many fields", fields(wire.MaxFields + 1), `!too_many_fields`},
		{"a text too long", `{"a":"` + longest + `s"}`, `!string_too_long`},
		{"a text too long once its escapes are undone", `{"a":"` + longest + `\n"}`, `!string_too_long`},
		{"a text of a megabyte", `{"a":1,"b":"` + strings.Repeat("s", 1<<20) + `"}`, `!string_too_long`},
		{"two paths to one name", `{"a.b":1,"a":{"b":2}}`, `!field_twice`},
		{"two paths to one name that begins with its dot", `{".b":1,"":{"b":2}}`, `!field_twice`},
		{"two paths to one name, escaped", `{"a":{"b":1},"a\u002eb":2}`, `!field_twice`},
		{"two paths to one name, the other way round", `{"a":{"b":{"c":1}},"a.b":{"c":2}}`, `!field_twice`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d wire.Decoder
			var out wire.Telemetry
			params := `{"readings":[{"values":{"first":1}},{"values":` + test.values + `},{"values":{"last":"z"}}]}`
			if err := decodeParams(t, &d, &out, params); err != nil {
				t.Fatal(err)
			}
			if len(out.Readings) != 3 {
				t.Fatalf("%d readings, want 3", len(out.Readings))
			}
			got := show(&out)
			if !strings.HasPrefix(got, "[first=1]") || !strings.HasSuffix(got, `[last="z"]`) {
				t.Fatalf("a neighbour is hurt: %.200s", got)
			}
			got = strings.TrimSuffix(strings.TrimPrefix(got, "[first=1]"), `[last="z"]`)
			if test.want != "" && got != test.want {
				t.Errorf("got  %.300s\nwant %.300s", got, test.want)
			}
			if test.want == "" && len(out.Readings[1].Fields) != wire.MaxFields {
				t.Errorf("%.300s", got)
			}
		})
	}
}

// fields returns a values object of n fields.
func fields(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"f%d":%d`, i, i)
	}
	b.WriteByte('}')
	return b.String()
}
