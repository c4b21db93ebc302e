package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"telemetryhub/wire"
)

// strictJSON says by encoding/json whether text is one JSON value as RFC 7493 wants it: UTF-8, no name twice, no half
// of a surrogate pair.
func strictJSON(text []byte) bool {
	return utf8.Valid(text) && json.Valid(text) && !loneSurrogate(text) && namesOnce(text)
}

// loneSurrogate looks at the escapes of valid JSON.
func loneSurrogate(text []byte) bool {
	high := false
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			if high {
				return true
			}
			continue
		}
		i++
		escape := ""
		if text[i] == 'u' {
			escape = strings.ToLower(string(text[i+1 : i+5]))
			i += 4
		}
		low := escape >= "dc00" && escape <= "dfff" && escape != ""
		if high != low {
			return true
		}
		high = escape >= "d800" && escape <= "dbff"
	}
	return high
}

func namesOnce(text []byte) bool {
	type level struct {
		names map[string]bool // nil in a list
		value bool            // the next token is a value
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return false
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if len(levels) > 0 {
			top := &levels[len(levels)-1]
			if top.names != nil && !top.value {
				if top.names[token.(string)] {
					return false
				}
				top.names[token.(string)], top.value = true, true
				continue
			}
			top.value = false
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{names: map[string]bool{}})
		case json.Delim('['):
			levels = append(levels, level{})
		}
	}
}

// deep reports whether text may be nested more deeply than the checkers agree on.
func deep(text []byte) bool {
	return bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > 5_000
}

// agree fails when the decoder and encoding/json differ on whether text is JSON. It returns whether it is.
func agree(t *testing.T, text []byte, err error) bool {
	t.Helper()
	var e *wire.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("error of type %T: %v", err, err)
	}
	if e != nil && (e.Code == 0 || e.Reason == "" || e.Message == "" || len(e.Message) > 1000) {
		t.Fatalf("error %+v", e)
	}
	isJSON := e == nil || e.Code != wire.CodeParse
	if want := strictJSON(text); isJSON != want && !deep(text) {
		t.Fatalf("%q: %v, but JSON is %v", text, err, want)
	}
	if e != nil && (e.Reason == wire.ReasonBadUTF8) == utf8.Valid(text) {
		t.Fatalf("%q: %v", text, err)
	}
	return isJSON
}

// within reports whether view lies in data, by address: a view of nothing lies anywhere.
func within(data, view []byte) bool {
	if len(view) == 0 {
		return true
	}
	if len(data) == 0 {
		return false
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(view)))
	return at >= from && at+uintptr(len(view)) <= from+uintptr(len(data))
}

// checkReadings fails unless what was decoded is inside the frame or the scratch, and sound readings are what the
// oracle says.
func checkReadings(t *testing.T, data []byte, out *wire.Telemetry, bare bool) {
	t.Helper()
	if len(out.Readings) == 0 || out.Seq > wire.MaxSeq || len(out.Boot) > wire.MaxBoot || len(out.Measurement) > wire.MaxMeasurement {
		t.Fatalf("%q gives %s", data, show(out))
	}
	for _, r := range out.Readings {
		if !within(data, r.Raw) || !json.Valid(r.Raw) {
			t.Fatalf("raw %q is no value of %q", r.Raw, data)
		}
		for _, f := range r.Fields {
			if (f.Kind == wire.String) != (f.Text != nil) || !utf8.Valid(f.Text) || !utf8.Valid(f.Name) {
				t.Fatalf("%q: field %s", data, showField(f))
			}
		}
		if r.Flaw == wire.ReasonBadTime || r.Flaw == wire.ReasonBadReading {
			continue
		}
		var holder map[string]json.RawMessage
		if err := json.Unmarshal(r.Raw, &holder); err != nil {
			t.Fatalf("%q: %v", r.Raw, err)
		}
		values, has := holder["values"]
		switch {
		case bare && !has:
			wantFields(t, r, r.Raw)
		case has:
			wantFields(t, r, values)
		case r.Flaw != wire.ReasonNoValues:
			t.Fatalf("%q: flaw %q of a reading without values", r.Raw, r.Flaw)
		}
	}
}

var frameSeeds = []string{
	`{"jsonrpc":"2.0","id":1,"method":"hello","params":{"boot":"k3"}}`,
	`{"method":"telemetry","params":{"seq":1,"boot":"k3","ts":1458031648545,"values":{"Temp":20.48,"RH":42.332,"on":true,"s":"a\nb"}}}`,
	`{"method":"telemetry","params":{"seq":1,"readings":[{"ts":"2016-03-15T08:47:28.545Z","values":{"a":{"b":1,"c\u0064":null}}},{"age_ms":5,"values":{"a":[1]}},7]}}`,
	`{"Temp":20.5,"a.b":1,"a":{"b":2}}`, `{"id":"01J","result":{}}`, `{"id":"01J","error":{"code":-32601,"message":"no"}}`, `[{"id":1}]`, `{"a":1}{}`, `{"a":1,"\u0061":2}`, "{\"a\":\"\xff\"}", `{"a":"\ud800"}`,
	`{"a":NaN}`, `{"a":1e999}`, `{"name":"door","severity":"info","data":{"open":true},"ts":5}`, `{"v\u0061lues":{"a":1}}`, ``, `{`, `{"jsonrpc":"1.0","id":1,"method":"m"}`,
}

func seed(f *testing.F, wrap func(string) string) {
	for _, text := range frameSeeds {
		f.Add([]byte(wrap(text)))
	}
}

func same(text string) string { return text }

func FuzzDecodeFrame(f *testing.F) {
	seed(f, same)
	var d wire.Decoder // kept, as a connection keeps it: nothing of one frame may reach the next
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		frame, err := d.DecodeFrame(data)
		agree(t, data, err)
		if !bytes.Equal(before, data) {
			t.Fatalf("%q became %q", before, data)
		}
		for _, view := range [][]byte{frame.ID, frame.Params, frame.Result, frame.Fault} {
			if !within(data, view) || (view != nil && !json.Valid(view)) {
				t.Fatalf("view %q is no value of %q", view, data)
			}
		}
		if err != nil {
			return
		}
		var want struct {
			ID, Params, Result, Error json.RawMessage
			Method                    any
		}
		var exact map[string]json.RawMessage
		if json.Unmarshal(data, &exact) != nil {
			t.Fatalf("%q passes", data)
		}
		want.ID, want.Params, want.Result, want.Error = exact["id"], exact["params"], exact["result"], exact["error"]
		_ = json.Unmarshal(exact["method"], &want.Method)
		method, hasMethod := want.Method.(string)
		kind := wire.KindAnswer
		switch {
		case hasMethod && want.ID != nil:
			kind = wire.KindRequest
		case hasMethod:
			kind = wire.KindNotification
		case want.ID == nil:
			kind, want.Params = wire.KindTelemetry, bytes.Trim(data, " \t\r\n")
		}
		if frame.Kind != kind || string(frame.Method) != method || !bytes.Equal(frame.ID, want.ID) || !bytes.Equal(frame.Params, want.Params) || !bytes.Equal(frame.Result, want.Result) || !bytes.Equal(frame.Fault, want.Error) {
			t.Fatalf("%q is decoded as kind %d id %q method %q params %q result %q error %q", data, frame.Kind, frame.ID, frame.Method, frame.Params, frame.Result, frame.Fault)
		}
	})
}

func FuzzDecodePayload(f *testing.F) {
	seed(f, same)
	var d wire.Decoder
	var out wire.Telemetry
	f.Fuzz(func(t *testing.T, data []byte) {
		err := d.DecodePayload(data, &out)
		agree(t, data, err)
		if err == nil {
			var exact map[string]json.RawMessage
			_ = json.Unmarshal(data, &exact)
			checkReadings(t, data, &out, exact["values"] == nil && exact["readings"] == nil)
		}
	})
}

func FuzzDecodeTelemetry(f *testing.F) {
	seed(f, func(text string) string { return `{"method":"telemetry","params":` + text + `}` })
	seed(f, func(text string) string { return `{"method":"telemetry","params":{"readings":[` + text + `]}}` })
	seed(f, func(text string) string { return `{"method":"telemetry","params":{"values":` + text + `}}` })
	var d wire.Decoder
	var out wire.Telemetry
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := d.DecodeFrame(data)
		if !agree(t, data, err) || err != nil {
			return
		}
		err = d.DecodeTelemetry(frame.Params, &out)
		if e := (*wire.Error)(nil); err != nil && (!errors.As(err, &e) || e.Code != wire.CodeInvalidParams) {
			t.Fatalf("%q: %v", data, err)
		}
		if err == nil {
			checkReadings(t, data, &out, false)
		}
	})
}

func FuzzDecodeEvent(f *testing.F) {
	seed(f, same)
	var d wire.Decoder
	var out wire.Telemetry
	f.Fuzz(func(t *testing.T, data []byte) {
		err := d.DecodeEvent(data, &out)
		if len(data) > 0 {
			agree(t, data, err)
		}
		if err != nil {
			return
		}
		if len(out.Readings) != 1 || string(out.Measurement) != wire.EventMeasurement || !within(data, out.Readings[0].Raw) {
			t.Fatalf("%q gives %s", data, show(&out))
		}
		var want struct {
			Name, Severity any
		}
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q passes", data)
		}
		if r := out.Readings[0]; r.Flaw == "" {
			if string(r.Fields[0].Name) != "name" || len(r.Fields[0].Text) == 0 || string(r.Fields[1].Name) != "severity" || r.Fields[1].Kind != wire.String {
				t.Fatalf("%q gives %s", data, show(&out))
			}
			for _, f := range r.Fields[2:] {
				if !strings.HasPrefix(string(f.Name), "data.") {
					t.Fatalf("%q gives %s", data, show(&out))
				}
			}
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	seed(f, same)
	var d wire.Decoder
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := d.DecodeAnswer(data)
		agree(t, data, err)
		if err != nil {
			return
		}
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(data, &exact); err != nil {
			t.Fatalf("%q passes", data)
		}
		var id string
		if json.Unmarshal(exact["id"], &id) != nil || id != a.ID || !bytes.Equal(exact["result"], a.Result) || !bytes.Equal(exact["error"], a.Fault) || (a.Result == nil) == (a.Fault == nil) {
			t.Fatalf("%q is decoded as %+v", data, a)
		}
	})
}

func FuzzDecodeHelloAndProgress(f *testing.F) {
	seed(f, same)
	f.Add([]byte(`{"boot":"k3","time":1458031648545.5,"attributes":{"a":1},"methods":["ping"],"keepalive_s":60,"max_frame":4096,"ack":true}`))
	f.Add([]byte(`{"id":"01J","status":"running","percent":12.5,"message":"m"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := wire.DecodeHello(data); err == nil && (len(h.Boot) > wire.MaxBoot || h.KeepaliveS < 0 || h.MaxFrame < 0) {
			t.Fatalf("%q gives %+v", data, h)
		}
		if p, err := wire.DecodeProgress(data); err == nil && (p.ID == "" || p.Percent < 0 || p.Percent > 100) {
			t.Fatalf("%q gives %+v", data, p)
		}
	})
}
