package wire_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"telemetryhub/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

type object = map[string]any

func request(members object) object {
	members["jsonrpc"] = "2.0"
	return members
}

// encodings are all frames that the hub writes: the text stands in testdata, what it means stands here.
var encodings = []struct {
	file string
	text []byte
	want object
}{
	{
		"command", wire.AppendCommand(nil, wire.Command{ID: "01J9ZK3V5T0000000000000000", Method: "set", Params: []byte(`{"relay":true}`), Expires: time.UnixMilli(1458031648545), TTL: 90 * time.Second, Attempt: 2}),
		request(object{"id": "01J9ZK3V5T0000000000000000", "method": "set", "params": object{"relay": true}, "expires": 1458031648545., "ttl_ms": 90000., "attempt": 2.}),
	},
	{
		"command_bare", wire.AppendCommand(nil, wire.Command{ID: "01J", Method: "ping", Attempt: 1}),
		request(object{"id": "01J", "method": "ping", "attempt": 1.}),
	},
	{
		"command_escaped", wire.AppendCommand(nil, wire.Command{ID: "a\"b", Method: "line\nbreak\\ \u2028 </script> \xff", Params: []byte(`[]`), Attempt: 1}),
		request(object{"id": "a\"b", "method": "line\nbreak\\ \u2028 </script> \ufffd", "params": []any{}, "attempt": 1.}),
	},
	{
		"command_overdue", wire.AppendCommand(nil, wire.Command{ID: "01J", Method: "ping", Expires: time.UnixMilli(1), TTL: -time.Second, Attempt: 1}),
		request(object{"id": "01J", "method": "ping", "expires": 1., "ttl_ms": 0., "attempt": 1.}),
	},
	{"ack", wire.AppendAck(nil, "k3\n", wire.MaxSeq), request(object{"method": "hub.ack", "params": object{"boot": "k3\n", "seq": 9007199254740991.}})},
	{"ack_without_boot", wire.AppendAck(nil, "", 1), request(object{"method": "hub.ack", "params": object{"seq": 1.}})},
	{"ack_count", wire.AppendAckCount(nil, 12), request(object{"method": "hub.ack", "params": object{"count": 12.}})},
	{
		"notice", wire.AppendNotice(nil, wire.Notice{Code: wire.ReasonSeqGap, Message: "numbers 3 to 5 never reached the hub", Seq: 7, From: 3, To: 5, RetryAfter: 1500 * time.Millisecond}),
		request(object{"method": "hub.notice", "params": object{"code": "seq_gap", "message": "numbers 3 to 5 never reached the hub", "seq": 7., "from": 3., "to": 5., "retry_after_ms": 1500.}}),
	},
	{
		"notice_limit", wire.AppendNotice(nil, wire.Notice{Code: wire.ReasonTooLarge, Message: "read past", Limit: 65536, Value: 65537}),
		request(object{"method": "hub.notice", "params": object{"code": "frame_too_large", "message": "read past", "limit": 65536., "value": 65537.}}),
	},
	{
		"notice_bare", wire.AppendNotice(nil, wire.Notice{Code: wire.ReasonTooLarge, Message: "\"\x00", RetryAfter: -time.Hour}),
		request(object{"method": "hub.notice", "params": object{"code": "frame_too_large", "message": "\"\x00"}}),
	},
	{"result", wire.AppendResult(nil, []byte(`"a\"b"`), []byte(`{}`)), request(object{"id": "a\"b", "result": object{}})},
	{
		"error", wire.AppendError(nil, []byte(`17`), &wire.Error{Code: wire.CodeTooLarge, Message: "70000 bytes", Reason: wire.ReasonTooLarge, Limit: 65536, Value: 70000, RetryAfter: time.Minute}),
		request(object{"id": 17., "error": object{"code": -32001., "message": "70000 bytes", "data": object{"reason": "frame_too_large", "limit": 65536., "value": 70000., "retry_after_ms": 60000.}}}),
	},
	{
		"error_without_id", wire.AppendError(nil, nil, &wire.Error{Code: wire.CodeParse, Message: "not JSON: '\"'", Reason: wire.ReasonBadJSON, RetryAfter: -time.Second}),
		request(object{"id": nil, "error": object{"code": -32700., "message": "not JSON: '\"'", "data": object{"reason": "bad_json"}}}),
	},
}

func TestEncodings(t *testing.T) {
	for _, test := range encodings {
		t.Run(test.file, func(t *testing.T) {
			path := filepath.Join("testdata", test.file+".json")
			if *update {
				if err := os.WriteFile(path, append(test.text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytes.TrimSuffix(golden, []byte("\n")), test.text) {
				t.Errorf("got  %s\nwant %s", test.text, golden)
			}
			var got object
			if err := json.Unmarshal(test.text, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("it means %v\nwant     %v", got, test.want)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != len(encodings) {
		t.Errorf("%d golden files for %d encodings, %v", len(files), len(encodings), err)
	}
}

func TestEncodingsAppend(t *testing.T) {
	frame := wire.AppendAckCount([]byte("before "), 3)
	frame = wire.AppendError(frame, []byte("1"), &wire.Error{Code: -1})
	want := `before {"jsonrpc":"2.0","method":"hub.ack","params":{"count":3}}{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"","data":{"reason":""}}}`
	if string(frame) != want {
		t.Errorf("got  %s\nwant %s", frame, want)
	}
}

func TestWelcomeIsAResult(t *testing.T) {
	result, err := json.Marshal(wire.Welcome{Device: "node-01", Session: 7, Time: 1458031648545, Ack: 41, KeepaliveS: 45, MaxFrame: wire.DefaultMaxFrame, Pending: 1, State: wire.State{Desired: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"device":"node-01","session":7,"time":1458031648545,"ack":41,"keepalive_s":45,"max_frame":65536,"pending":1,"desired":{},"version":0}`
	if string(result) != want {
		t.Errorf("got  %s\nwant %s", result, want)
	}
}

// What one side writes the other reads: a command's frame is a request to whoever decodes frames.
func TestWrittenFramesDecode(t *testing.T) {
	for _, test := range encodings {
		var d wire.Decoder
		f, err := d.DecodeFrame(test.text)
		if test.want["id"] == nil && test.want["method"] == nil {
			wantError(t, err, wire.CodeInvalidRequest, wire.ReasonBadFrame) // id null is for devices to read
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
			continue
		}
		if method, _ := test.want["method"].(string); string(f.Method) != method {
			t.Errorf("%s: method %q, want %q", test.file, f.Method, method)
		}
	}
}

func TestNumbersOfAcksAreExact(t *testing.T) {
	if got := string(wire.AppendAck(nil, "", math.MaxUint64)); got != `{"jsonrpc":"2.0","method":"hub.ack","params":{"seq":18446744073709551615}}` {
		t.Error(got)
	}
}

func TestNoticeOfARate(t *testing.T) {
	got := string(wire.AppendNotice(nil, wire.Notice{Code: wire.ReasonRateLimited, Message: "m", Of: "messages", Limit: 50, Value: 180, RetryAfter: 20 * time.Millisecond}))
	want := `{"jsonrpc":"2.0","method":"hub.notice","params":{"code":"rate_limited","message":"m","of":"messages","limit":50,"value":180,"retry_after_ms":20}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
