package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"telemetryhub/wire"
)

// show writes telemetry as a line of text: what a table can compare. A reading is [clock time fields] or !flaw.
func show(t *wire.Telemetry) string {
	var b strings.Builder
	if t.Measurement != nil {
		fmt.Fprintf(&b, "%s ", t.Measurement)
	}
	if t.Boot != nil {
		fmt.Fprintf(&b, "boot=%s ", t.Boot)
	}
	if t.Seq != 0 {
		fmt.Fprintf(&b, "seq=%d ", t.Seq)
	}
	for _, r := range t.Readings {
		if r.Flaw != "" {
			fmt.Fprintf(&b, "!%s", r.Flaw)
			continue
		}
		b.WriteByte('[')
		switch r.Clock {
		case wire.ClockGiven:
			fmt.Fprintf(&b, "ts=%d ", r.Time)
		case wire.ClockAge:
			fmt.Fprintf(&b, "age=%d ", r.Time)
		}
		for i, f := range r.Fields {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(showField(f))
		}
		b.WriteByte(']')
	}
	return b.String()
}

func showField(f wire.Field) string {
	switch f.Kind {
	case wire.Float:
		return fmt.Sprintf("%s=%v", f.Name, f.Number)
	case wire.String:
		return fmt.Sprintf("%s=%q", f.Name, f.Text)
	case wire.True:
		return fmt.Sprintf("%s=true", f.Name)
	case wire.False:
		return fmt.Sprintf("%s=false", f.Name)
	}
	return fmt.Sprintf("%s is of kind %d", f.Name, f.Kind)
}

// decodeParams decodes params as the params of a telemetry notification, through the frame.
func decodeParams(t *testing.T, d *wire.Decoder, out *wire.Telemetry, params string) error {
	t.Helper()
	f, err := d.DecodeFrame([]byte(`{"method":"telemetry","params":` + params + `}`))
	if err != nil {
		t.Fatalf("%.100s: %v", params, err)
	}
	return d.DecodeTelemetry(f.Params, out)
}

func TestDecodeTelemetry(t *testing.T) {
	boot64 := strings.Repeat("b", wire.MaxBoot)
	tests := []struct{ name, params, want string }{
		{"values", `{"values":{"a":1,"b":true,"c":false,"d":"x"}}`, `[a=1 b=true c=false d="x"]`},
		{"all members", `{"boot":"k3","seq":7,"ts":1458031648545,"measurement":"air","values":{"a":1}}`, `air boot=k3 seq=7 [ts=1458031648545 a=1]`},
		{"unknown members are left alone", `{"x":[{"values":1}],"values":{"a":1},"y":null}`, `[a=1]`},
		{"escaped member names", `{"\u0073eq":7,"\u0062oot":"k\u0033","m\u0065asurement":"\u0061ir","\u0074s":1458031648545,"v\u0061lues":{"a":1}}`, `air boot=k3 seq=7 [ts=1458031648545 a=1]`},
		{"escaped member names of readings", `{"re\u0061dings":[{"v\u0061lues":{"a":1},"\u0061ge_ms":5}]}`, `[age=5 a=1]`},
		{"spread over lines", "{\n \"values\" : {\t\"a\" : 1 ,\r\n \"b\" : { } , \"c\":{ \"d\" : 2 } }\n}", `[a=1 c.d=2]`},

		{"ts whole", `{"ts":1458031648545,"values":{"a":1}}`, `[ts=1458031648545 a=1]`},
		{"ts broken is rounded", `{"ts":1458031648545.6,"values":{"a":1}}`, `[ts=1458031648546 a=1]`},
		{"ts with an exponent", `{"ts":1.458031648545e12,"values":{"a":1}}`, `[ts=1458031648545 a=1]`},
		{"ts 0 is a time", `{"ts":0,"values":{"a":1}}`, `[ts=0 a=1]`},
		{"ts before 1970", `{"ts":-1.5,"values":{"a":1}}`, `[ts=-2 a=1]`},
		{"ts RFC 3339", `{"ts":"2016-03-15T08:47:28.545Z","values":{"a":1}}`, `[ts=1458031648545 a=1]`},
		{"ts RFC 3339 with a zone", `{"ts":"2016-03-15T09:47:28.545999+01:00","values":{"a":1}}`, `[ts=1458031648545 a=1]`},
		{"ts RFC 3339 escaped", `{"ts":"2016-03-15\u005408:47:28Z","values":{"a":1}}`, `[ts=1458031648000 a=1]`},
		{"age_ms", `{"age_ms":1500,"values":{"a":1}}`, `[age=1500 a=1]`},
		{"age_ms broken is rounded", `{"age_ms":0.6,"values":{"a":1}}`, `[age=1 a=1]`},
		{"age_ms 0", `{"age_ms":0,"values":{"a":1}}`, `[age=0 a=1]`},
		{"ts wins over age_ms", `{"ts":5,"age_ms":6,"values":{"a":1}}`, `[ts=5 a=1]`},
		{"ts wins over age_ms before it", `{"age_ms":6,"ts":5,"values":{"a":1}}`, `[ts=5 a=1]`},
		{"ts wins over a bad age_ms", `{"ts":5,"age_ms":-6,"values":{"a":1}}`, `[ts=5 a=1]`},
		{"ts wins over a bad age_ms before it", `{"age_ms":-6,"ts":5,"values":{"a":1}}`, `[ts=5 a=1]`},
		{"a bad ts is not mended by age_ms", `{"ts":"noon","age_ms":5,"values":{"a":1}}`, `!bad_time`},
		{"a bad ts is not mended by age_ms before it", `{"age_ms":5,"ts":"noon","values":{"a":1}}`, `!bad_time`},

		{"the frame's time is for readings without their own", `{"ts":5,"readings":[{"values":{"a":1}},{"ts":6,"values":{"a":2}},{"age_ms":7,"values":{"a":3}}]}`, `[ts=5 a=1][ts=6 a=2][age=7 a=3]`},
		{"a bad time of the frame spares readings with their own", `{"ts":"noon","readings":[{"values":{"a":1}},{"ts":6,"values":{"a":2}},{"age_ms":7,"values":{"a":3}}]}`, `!bad_time[ts=6 a=2][age=7 a=3]`},
		{"a bad time of a reading is not that of the frame", `{"ts":5,"readings":[{"ts":"noon","values":{"a":1}},{"values":{"a":2}}]}`, `!bad_time[ts=5 a=2]`},

		{
			"a flaw leaves its neighbours and their numbers", `{"seq":10,"readings":[{"values":{"a":1}},{"values":{"a":[1]}},7,{"values":{"a":2}},{},{"values":{}},{"values":null},{"ts":true,"values":{"a":3}},null,"x",[],{"values":{"a":4}}]}`,
			`seq=10 [a=1]!bad_value!bad_reading[a=2]!no_values!no_values!bad_reading!bad_time!bad_reading!bad_reading!bad_reading[a=4]`,
		},

		{"the largest seq", `{"seq":9007199254740991,"values":{"a":1}}`, `seq=9007199254740991 [a=1]`},
		{"the largest seq of two", `{"seq":9007199254740990,"readings":[{"values":{"a":1}},{"values":{"a":2}}]}`, `seq=9007199254740990 [a=1][a=2]`},
		{"the longest boot", `{"boot":"` + boot64 + `","values":{"a":1}}`, `boot=` + boot64 + ` [a=1]`},
		{"boot with escapes", `{"boot":"\u00e4\"\\","values":{"a":1}}`, `boot=ä"\ [a=1]`},
		{"the longest measurement", `{"measurement":"` + strings.Repeat("m", wire.MaxMeasurement) + `","values":{"a":1}}`, strings.Repeat("m", wire.MaxMeasurement) + ` [a=1]`},
		{"measurement with separators of line protocol", `{"measurement":"a, b=c\"","values":{"a":1}}`, `a, b=c" [a=1]`},
	}
	var d wire.Decoder // one for all, as a connection has one for all its frames
	var out wire.Telemetry
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := decodeParams(t, &d, &out, test.params); err != nil {
				t.Fatal(err)
			}
			if got := show(&out); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestDecodeTelemetryRefusesTheFrame(t *testing.T) {
	tests := []struct{ name, params string }{
		{"nothing of it", `{}`},
		{"only a seq", `{"seq":1}`},
		{"null", `null`},
		{"a list", `[{"values":{"a":1}}]`},
		{"a text", `"values"`},
		{"a number", `1`},
		{"values and readings", `{"values":{"a":1},"readings":[{"values":{"a":1}}]}`},
		{"values null and readings", `{"values":null,"readings":[{"values":{"a":1}}]}`},
		{"readings an object", `{"readings":{"values":{"a":1}}}`},
		{"readings null", `{"readings":null}`},
		{"readings empty", `{"readings":[ ]}`},
		{"too many readings", `{"readings":[` + strings.Repeat("1,", wire.MaxReadings) + `1]}`},
		{"seq 0", `{"seq":0,"values":{"a":1}}`},
		{"seq negative", `{"seq":-1,"values":{"a":1}}`},
		{"seq broken", `{"seq":1.5,"values":{"a":1}}`},
		{"seq with an exponent", `{"seq":1e3,"values":{"a":1}}`},
		{"seq 2^53", `{"seq":9007199254740992,"values":{"a":1}}`},
		{"seq 2^64", `{"seq":18446744073709551616,"values":{"a":1}}`},
		{"seq a text", `{"seq":"1","values":{"a":1}}`},
		{"seq null", `{"seq":null,"values":{"a":1}}`},
		{"the last seq over the limit", `{"seq":9007199254740991,"readings":[{"values":{"a":1}},{"values":{"a":2}}]}`},
		{"boot empty", `{"boot":"","values":{"a":1}}`},
		{"boot too long", `{"boot":"` + strings.Repeat("b", wire.MaxBoot+1) + `","values":{"a":1}}`},
		{"boot with a line break", `{"boot":"a\nb","values":{"a":1}}`},
		{"boot with NUL", `{"boot":"a\u0000b","values":{"a":1}}`},
		{"boot a number", `{"boot":7,"values":{"a":1}}`},
		{"boot null", `{"boot":null,"values":{"a":1}}`},
		{"measurement empty", `{"measurement":"","values":{"a":1}}`},
		{"measurement too long", `{"measurement":"` + strings.Repeat("m", wire.MaxMeasurement+1) + `","values":{"a":1}}`},
		{"measurement with a line break", `{"measurement":"a\nb","values":{"a":1}}`},
		{"measurement with a backslash", `{"measurement":"a\\","values":{"a":1}}`},
		{"measurement that begins a comment in line protocol", `{"measurement":"#air","values":{"a":1}}`},
		{"measurement a number", `{"measurement":7,"values":{"a":1}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d wire.Decoder
			var out wire.Telemetry
			e := wantError(t, decodeParams(t, &d, &out, test.params), wire.CodeInvalidParams, wire.ReasonBadParams)
			if len(e.Message) > 400 {
				t.Errorf("the message has %d bytes", len(e.Message))
			}
			if test.name == "too many readings" && e.Limit != wire.MaxReadings {
				t.Errorf("limit is %d, want %d", e.Limit, wire.MaxReadings)
			}
			if err := decodeParams(t, &d, &out, `{"values":{"n":1}}`); err != nil || show(&out) != "[n=1]" {
				t.Errorf("the next frame gives %s, %v", show(&out), err)
			}
		})
	}
	var d wire.Decoder
	var out wire.Telemetry
	wantError(t, d.DecodeTelemetry(nil, &out), wire.CodeInvalidParams, wire.ReasonBadParams)
	if err := decodeParams(t, &d, &out, `{"readings":[`+strings.Repeat("1,", wire.MaxReadings-1)+`1]}`); err != nil || len(out.Readings) != wire.MaxReadings {
		t.Errorf("%d readings: %v", len(out.Readings), err)
	}
}

func TestBadTimesAreFlaws(t *testing.T) {
	for _, member := range []string{
		`"ts":"noon"`, `"ts":""`, `"ts":"2016-03-15"`, `"ts":"2016-03-15 08:47:28Z"`, `"ts":"2016-03-15T08:47:28"`, `"ts":"2016-02-30T08:47:28Z"`, `"ts":"1458031648545"`,
		`"ts":null`, `"ts":true`, `"ts":{}`, `"ts":[1]`, `"ts":1e999`, `"ts":1e16`, `"ts":-1e16`,
		`"age_ms":-1`, `"age_ms":"5"`, `"age_ms":null`, `"age_ms":false`, `"age_ms":1e999`, `"age_ms":1e16`, `"age_ms":[]`,
	} {
		var d wire.Decoder
		var out wire.Telemetry
		for _, params := range []string{`{` + member + `,"values":{"a":1}}`, `{"readings":[{` + member + `,"values":{"a":1}}]}`} {
			if err := decodeParams(t, &d, &out, params); err != nil {
				t.Fatalf("%s: %v", params, err)
			}
			if got := show(&out); got != "!"+wire.ReasonBadTime {
				t.Errorf("%s gives %s", params, got)
			}
		}
	}
}

func TestDecodePayload(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"bare values", ` {"Temp":20.5,"Light":{"lux":7}} `, `[Temp=20.5 Light.lux=7]`},
		{"values", `{"values":{"a":1},"seq":3}`, `seq=3 [a=1]`},
		{"readings", `{"seq":3,"readings":[{"ts":1,"values":{"a":1}},{"values":{"a":2}}]}`, `seq=3 [ts=1 a=1][a=2]`},
		{"an escaped member decides as well", `{"value\u0073":{"a":1},"seq":3}`, `seq=3 [a=1]`},
		{"seq and ts are fields where nothing says telemetry", `{"seq":3,"ts":4,"boot":"x"}`, `[seq=3 ts=4 boot="x"]`},
		{"values within are only a name", `{"a":{"values":1}}`, `[a.values=1]`},
		{"nothing", `{}`, `!no_values`},
	}
	var d wire.Decoder
	var out wire.Telemetry
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := d.DecodePayload([]byte(test.text), &out); err != nil {
				t.Fatal(err)
			}
			if got := show(&out); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	for text, reason := range map[string]string{`[1]`: wire.ReasonBadFrame, `"x"`: wire.ReasonBadFrame, `null`: wire.ReasonBadFrame, `20.5`: wire.ReasonBadFrame} {
		wantError(t, d.DecodePayload([]byte(text), &out), wire.CodeInvalidRequest, reason)
	}
	for text, reason := range map[string]string{``: wire.ReasonBadJSON, `{"a":1}{}`: wire.ReasonBadJSON, `{"a":1,"a":2}`: wire.ReasonBadJSON, "{\"a\":\"\xff\"}": wire.ReasonBadUTF8} {
		wantError(t, d.DecodePayload([]byte(text), &out), wire.CodeParse, reason)
	}
}

// Quarantine keeps a flawed reading as it came, so Raw is its own text and nobody else's.
func TestRawIsTheReadingAsReceived(t *testing.T) {
	var d wire.Decoder
	var out wire.Telemetry
	texts := []string{`{"values":{"a":1}}`, `{ "ts" : "noon", "values" : {"a":[1]} }`, `7`, `{"values":{"b":"\u0041]}"}}`}
	if err := d.DecodePayload([]byte(`{"readings":[`+strings.Join(texts, " , ")+`]}`), &out); err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		if got := string(out.Readings[i].Raw); got != text {
			t.Errorf("reading %d is %s, want %s", i, got, text)
		}
	}
	single := `{"seq":4,"values":{"a":[]}}`
	if err := d.DecodePayload([]byte(single), &out); err != nil || string(out.Readings[0].Raw) != single {
		t.Errorf("raw is %s, %v", out.Readings[0].Raw, err)
	}
}
