package wire_test

import (
	"errors"
	"strings"
	"testing"

	"telemetryhub/wire"
)

// wantError fails unless err is a *wire.Error with this code and reason.
func wantError(t *testing.T, err error, code int, reason string) *wire.Error {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v (%T), want a *wire.Error %d %s", err, err, code, reason)
	}
	if e.Code != code || e.Reason != reason {
		t.Fatalf("error is %d %s (%s), want %d %s", e.Code, e.Reason, e.Message, code, reason)
	}
	if e.Message == "" {
		t.Fatalf("error %d %s has no message", e.Code, e.Reason)
	}
	return e
}

func TestDecodeFrameClassifies(t *testing.T) {
	id128 := `"` + strings.Repeat("i", 126) + `"`
	tests := []struct {
		name, text                       string
		kind                             wire.Kind
		id, method, params, result, flaw string
	}{
		{"request", `{"jsonrpc":"2.0","id":1,"method":"telemetry","params":{"values":{"a":1}}}`, wire.KindRequest, "1", "telemetry", `{"values":{"a":1}}`, "", ""},
		{"request without jsonrpc", `{"id":1,"method":"m"}`, wire.KindRequest, "1", "m", "", "", ""},
		{"request with a text id", `{"id":"a\"b","method":"m"}`, wire.KindRequest, `"a\"b"`, "m", "", "", ""},
		{"request with the empty text as id", `{"id":"","method":"m"}`, wire.KindRequest, `""`, "m", "", "", ""},
		{"request with a negative id", `{"id":-7,"method":"m"}`, wire.KindRequest, "-7", "m", "", "", ""},
		{"request with a broken number as id", `{"id":1.5e3,"method":"m"}`, wire.KindRequest, "1.5e3", "m", "", "", ""},
		{"request with the longest id", `{"id":` + id128 + `,"method":"m"}`, wire.KindRequest, id128, "m", "", "", ""},
		{"request with the members turned round", ` { "params" : [ 1 , 2 ] , "method" : "m" , "id" : 1 } `, wire.KindRequest, "1", "m", "[ 1 , 2 ]", "", ""},
		{"notification", `{"method":"m","params":{}}`, wire.KindNotification, "", "m", "{}", "", ""},
		{"notification, escaped names and text", `{"\u006dethod":"\u006d\u00e4","p\u0061rams":null}`, wire.KindNotification, "", "mä", "null", "", ""},
		{"notification with an empty method", `{"method":""}`, wire.KindNotification, "", "", "", "", ""},
		{"notification with the longest method", `{"method":"` + strings.Repeat("m", wire.MaxMethod) + `"}`, wire.KindNotification, "", strings.Repeat("m", wire.MaxMethod), "", "", ""},
		{"bare values", `{"Temp":20.5}`, wire.KindTelemetry, "", "", `{"Temp":20.5}`, "", ""},
		{"bare values with white space around", "\r\n\t {\"Temp\":20.5}\n ", wire.KindTelemetry, "", "", `{"Temp":20.5}`, "", ""},
		{"bare telemetry", `{"seq":3,"values":{"a":1}}`, wire.KindTelemetry, "", "", `{"seq":3,"values":{"a":1}}`, "", ""},
		{"empty object", `{}`, wire.KindTelemetry, "", "", `{}`, "", ""},
		{"method that is no text", `{"method":7}`, wire.KindTelemetry, "", "", `{"method":7}`, "", ""},
		{"result without id is a field", `{"result":7}`, wire.KindTelemetry, "", "", `{"result":7}`, "7", ""},
		{"jsonrpc is a field where nothing else is JSON-RPC's", `{"jsonrpc":"1.0"}`, wire.KindTelemetry, "", "", `{"jsonrpc":"1.0"}`, "", ""},
		{"result", `{"jsonrpc":"2.0","id":"c1","result":{"ok":true}}`, wire.KindAnswer, `"c1"`, "", "", `{"ok":true}`, ""},
		{"result null", `{"id":"c1","result":null}`, wire.KindAnswer, `"c1"`, "", "", "null", ""},
		{"error", `{"id":"c1","error":{"code":1,"message":"m"}}`, wire.KindAnswer, `"c1"`, "", "", "", `{"code":1,"message":"m"}`},
		{"method wins over result", `{"id":1,"method":"m","result":1}`, wire.KindRequest, "1", "m", "", "1", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d wire.Decoder
			f, err := d.DecodeFrame([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if f.Kind != test.kind {
				t.Errorf("kind %d, want %d", f.Kind, test.kind)
			}
			for _, member := range []struct {
				name string
				got  []byte
				want string
			}{{"id", f.ID, test.id}, {"method", f.Method, test.method}, {"params", f.Params, test.params}, {"result", f.Result, test.result}, {"error", f.Fault, test.flaw}} {
				if string(member.got) != member.want {
					t.Errorf("%s is %q, want %q", member.name, member.got, member.want)
				}
			}
		})
	}
}

func TestDecodeFrameRefuses(t *testing.T) {
	tests := []struct {
		name, text string
		code       int
		reason     string
		id         string // the id that the answer can bear
	}{
		{"nothing", ``, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"white space", " \n", wire.CodeParse, wire.ReasonBadJSON, ""},
		{"a word", `hello`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"cut short", `{"a":1`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"cut in a text", `{"a":"b`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"cut in an escape", `{"a":"b\`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"trailing object", `{"a":1}{"b":2}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"trailing bracket", `{"a":1}}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"trailing NUL", "{\"a\":1}\x00", wire.CodeParse, wire.ReasonBadJSON, ""},
		{"trailing form feed", "{\"a\":1}\f", wire.CodeParse, wire.ReasonBadJSON, ""},
		{"byte order mark", "\xef\xbb\xbf{}", wire.CodeParse, wire.ReasonBadJSON, ""},
		{"trailing comma", `{"a":1,}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"single quotes", `{'a':1}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"comment", `{"a":1/*b*/}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"NaN", `{"a":NaN}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"Infinity", `{"a":-Infinity}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"plus sign", `{"a":+1}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"leading zero", `{"a":01}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"hexadecimal", `{"a":0x1}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"line break in a text", "{\"a\":\"b\nc\"}", wire.CodeParse, wire.ReasonBadJSON, ""},
		{"lone surrogate", `{"a":"\ud800"}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"name twice", `{"a":1,"a":2}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"name twice, once escaped", `{"a":1,"\u0061":2}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"name twice, deep", `{"a":[{"b":{"c":1,"c":2}}]}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"id twice", `{"id":1,"id":2,"method":"m"}`, wire.CodeParse, wire.ReasonBadJSON, ""},
		{"a million brackets", strings.Repeat("[", 1_000_000), wire.CodeParse, wire.ReasonBadJSON, ""},
		{"a million nested objects", strings.Repeat(`{"a":`, 1_000_000), wire.CodeParse, wire.ReasonBadJSON, ""},
		{"not UTF-8 in a text", "{\"a\":\"\xff\"}", wire.CodeParse, wire.ReasonBadUTF8, ""},
		{"not UTF-8 in a name", "{\"\xc3\x28\":1}", wire.CodeParse, wire.ReasonBadUTF8, ""},
		{"surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", wire.CodeParse, wire.ReasonBadUTF8, ""},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", wire.CodeParse, wire.ReasonBadUTF8, ""},
		{"not UTF-8 after the frame", "{\"a\":1}\xff", wire.CodeParse, wire.ReasonBadUTF8, ""},
		{"batch", `[{"id":1,"method":"m"}]`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"empty batch", `[]`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"text", `"telemetry"`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"number", `17`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"null", `null`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"id null", `{"id":null,"method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"id an object", `{"id":{},"method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"id a list", `{"method":"m","id":[1]}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"id true", `{"id":true,"method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"id too long", `{"id":"` + strings.Repeat("i", wire.MaxFrameID-1) + `","method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"id a number too long", `{"id":1` + strings.Repeat("0", wire.MaxFrameID) + `,"method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"id alone", `{"id":1}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, "1"},
		{"id and values", `{"id":1,"values":{"a":1}}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, "1"},
		{"id and a method that is no text", `{"id":1,"method":2}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, "1"},
		{"result and error", `{"id":"c","result":1,"error":{"code":1,"message":""}}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, `"c"`},
		{"version 1.0", `{"jsonrpc":"1.0","id":1,"method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, "1"},
		{"version a number", `{"jsonrpc":2.0,"id":1,"method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, "1"},
		{"version null in a notification", `{"jsonrpc":null,"method":"m"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, ""},
		{"version of an answer", `{"jsonrpc":"3","id":"c","result":1}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, `"c"`},
		{"method too long", `{"id":1,"method":"` + strings.Repeat("m", wire.MaxMethod+1) + `"}`, wire.CodeInvalidRequest, wire.ReasonBadFrame, "1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d wire.Decoder
			f, err := d.DecodeFrame([]byte(test.text))
			e := wantError(t, err, test.code, test.reason)
			if string(f.ID) != test.id {
				t.Errorf("the frame's id is %q, want %q", f.ID, test.id)
			}
			if len(e.Message) > 400 {
				t.Errorf("the message has %d bytes", len(e.Message))
			}
			if f, err := d.DecodeFrame([]byte(`{"id":2,"method":"next"}`)); err != nil || string(f.Method) != "next" {
				t.Errorf("the next frame is %q, %v", f.Method, err)
			}
		})
	}
}

// A deeply nested text is JSON up to the checker's 10,000 levels; it must neither overflow the stack nor be stored.
func TestDecodeFrameTakesDeepNesting(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000)
	lists := `{"a":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "}"
	for text, flaw := range map[string]string{deep: wire.ReasonTooDeep, lists: wire.ReasonBadValue} {
		var d wire.Decoder
		var out wire.Telemetry
		if err := d.DecodePayload([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		if got := out.Readings[0].Flaw; got != flaw {
			t.Errorf("flaw %q, want %q", got, flaw)
		}
	}
}

// The socket's buffer is used again for the next frame, and quarantine keeps what came: decoding changes no byte.
func TestDecodingLeavesTheFrameAsItIs(t *testing.T) {
	var d wire.Decoder
	var out wire.Telemetry
	frames := []string{`{"method":"telemetry","params":{"values":{"a\u0062":"\n"}}}`, `{"a":1} x`, `{"b":2}`, "{\"c\":\"\xff\"}", `[1]`, ``}
	buffers := make([][]byte, len(frames))
	for i, text := range frames {
		buffers[i] = []byte(text)
	}
	for range 3 {
		for _, b := range buffers {
			if f, err := d.DecodeFrame(b); err == nil {
				_ = d.DecodeBare(f.Params, &out)
			}
			_ = d.DecodePayload(b, &out)
			_ = d.DecodeEvent(b, &out)
		}
	}
	for i, b := range buffers {
		if string(b) != frames[i] {
			t.Errorf("frame %q became %q", frames[i], b)
		}
	}
}
