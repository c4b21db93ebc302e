package devices_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// Each frame that cannot be used is answered as documented, counted once, and costs nothing else: the next good frame
// of the same socket is stored.
func TestBadFrames(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		name, frame, id string
		code            int
		reason          string
	}{
		{"empty", ``, "null", -32700, "bad_json"},
		{"not JSON", `hello`, "null", -32700, "bad_json"},
		{"half an object", `{"id":1,"method":"hello"`, "null", -32700, "bad_json"},
		{"two values", `{"T":1}{"T":2}`, "null", -32700, "bad_json"},
		{"a name twice", `{"T":1,"T":2}`, "null", -32700, "bad_json"},
		{"NaN", `{"T":NaN}`, "null", -32700, "bad_json"},
		{"batch", `[{"method":"hello"}]`, "null", -32600, "bad_frame"},
		{"a text", `"hello"`, "null", -32600, "bad_frame"},
		{"null", `null`, "null", -32600, "bad_frame"},
		{"an object as id", `{"id":{},"method":"hello"}`, "null", -32600, "bad_frame"},
		{"a long id", `{"id":"` + long + `","method":"hello"}`, "null", -32600, "bad_frame"},
		{"an id alone", `{"id":3}`, "3", -32600, "bad_frame"},
		{"JSON-RPC 1", `{"jsonrpc":"1.0","id":"a","method":"hello"}`, `"a"`, -32600, "bad_frame"},
		{"a long method", `{"id":1,"method":"` + long + `"}`, "1", -32600, "bad_frame"},
		{"result and error", `{"id":"c","result":1,"error":{"code":1,"message":"m"}}`, `"c"`, -32600, "bad_frame"},
		{"an answer to a number", `{"id":5,"result":1}`, "5", -32600, "bad_frame"},
		{"an error without code", `{"id":"c","error":{}}`, `"c"`, -32600, "bad_frame"},
		{"unknown method", `{"id":1,"method":"nope"}`, "1", -32601, "unknown_method"},
		{"state of nothing", `{"id":1,"method":"state"}`, "1", -32602, "bad_params"},
		{"state without reported", `{"id":1,"method":"state","params":{"desired":{}}}`, "1", -32602, "bad_params"},
		{"state of a list", `{"method":"state","params":{"reported":[1]}}`, "null", -32602, "bad_params"},
		{"unknown notification", `{"method":"nope"}`, "null", -32601, "unknown_method"},
		{"telemetry of a text", `{"id":1,"method":"telemetry","params":"T"}`, "1", -32602, "bad_params"},
		{"telemetry of nothing", `{"id":1,"method":"telemetry"}`, "1", -32602, "bad_params"},
		{"values of a wrong type", `{"id":1,"method":"telemetry","params":{"readings":{}}}`, "1", -32602, "bad_params"},
		{"seq of a wrong type", `{"seq":"one","values":{"T":1}}`, "null", -32602, "bad_params"},
		{"seq too large", `{"seq":9007199254740992,"values":{"T":1}}`, "null", -32602, "bad_params"},
		{"event without name", `{"id":1,"method":"event","params":{}}`, "1", -32602, "bad_params"},
		{"hello of a wrong type", `{"id":1,"method":"hello","params":{"boot":7}}`, "1", -32602, "bad_params"},
		{"hello with a long boot", `{"id":1,"method":"hello","params":{"boot":"` + long + `"}}`, "1", -32602, "bad_params"},
		{"progress without id", `{"id":1,"method":"progress","params":{}}`, "1", -32602, "bad_params"},
		{"progress of an unknown word", `{"method":"progress","params":{"id":"c","status":"soon"}}`, "null", -32602, "bad_params"},
		{"progress over 100", `{"method":"progress","params":{"id":"c","percent":101}}`, "null", -32602, "bad_params"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				d := h.dial("d1")
				d.send(c.frame)
				d.wantError(c.id, c.code, c.reason)
				d.send(`{"id":2,"method":"telemetry","params":{"values":{"T":1}}}`)
				d.want(result("2"))
				wantLines(t, h.sink.refusals(), "d1 "+c.reason)
				wantLines(t, h.sink.lines(), `d1  boot= seq=0 {"values":{"T":1}}`)
			})
		})
	}
}

func TestFrameOverMaxFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		values := func(size int) string { // a frame of so many bytes
			f := `{"id":1,"method":"telemetry","params":{"values":{"s":""}}}`
			return f[:len(f)-4] + strings.Repeat("x", size-len(f)) + f[len(f)-4:]
		}
		d.send(values(maxFrame))
		d.want(result("1"))
		for _, size := range []int{maxFrame + 1, 3 * maxFrame, 5 << 20} {
			d.send(values(size))
			p := d.wantNotice("frame_too_large")
			if p["limit"] != float64(maxFrame) || p["value"] != float64(size) || !strings.Contains(fmt.Sprint(p["message"]), fmt.Sprint(size)) {
				t.Errorf("a frame of %d bytes: %v", size, p)
			}
		}
		d.send(`{"id":2,"method":"telemetry","params":{"values":{"T":1}}}`)
		d.want(result("2"))
		wantLines(t, h.sink.refusals(), "d1 frame_too_large", "d1 frame_too_large", "d1 frame_too_large")
	})
}

// A device whose line is slow gives signs of life while it sends a large frame.
func TestASlowLargeFrameIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		w, err := d.ws.NextWriter(websocket.TextMessage)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			time.Sleep(10 * time.Second)
			if _, err := w.Write([]byte(strings.Repeat(" ", 1024))); err != nil {
				t.Fatalf("after %v: %v", time.Since(h.sessions.Presence("d1").ConnectedAt), err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		d.wantNotice("frame_too_large")
		if len(d.pings) != 0 {
			t.Errorf("pinged %d times while it sent", len(d.pings))
		}
	})
}

func TestTextThatIsNotUTF8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d, neighbour := h.dial("d1"), h.dial("d2")
		d.send("{\"T\":\"\xff\xfe\"}")
		d.wantError("null", -32700, "bad_utf8")
		d.wantClose(1007)
		wantLines(t, h.sink.refusals(), "d1 bad_utf8")
		neighbour.send(`{"id":2,"method":"telemetry","params":{"values":{"T":1}}}`)
		neighbour.want(result("2"))
		synctest.Wait()
		if p := h.sessions.Presence("d1"); p.Online || !strings.Contains(p.Cause, "UTF-8") {
			t.Errorf("presence %+v", p)
		}
	})
}

func TestAFloodOfBadFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		slow, fast := h.dial("d1"), h.dial("d2")
		for range 3 { // 150 a minute are borne for ever
			for range 150 {
				slow.send(`{`)
				slow.wantError("null", -32700, "bad_json")
			}
			time.Sleep(61 * time.Second)
		}
		for range 200 {
			fast.send(`{`)
			fast.wantError("null", -32700, "bad_json")
		}
		if reason := fast.wantClose(1008); !strings.Contains(reason, "too_many_bad_frames") || !strings.Contains(reason, "200") {
			t.Errorf("closed with the reason %q", reason)
		}
		slow.send(`{"id":2,"method":"telemetry","params":{"values":{"T":1}}}`)
		slow.want(result("2"))
		synctest.Wait()
		if p := h.sessions.Presence("d2"); p.Online || !strings.Contains(p.Cause, "200 unusable frames") {
			t.Errorf("presence %+v", p)
		}
	})
}

func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.hello(`{}`)
		s := h.session("d1")
		at := time.UnixMilli(1458118048545)
		for _, cmd := range []wire.Command{
			{ID: "A", Method: "ping", Attempt: 1},
			{ID: "B", Method: "set", Params: json.RawMessage(`{"relay":true}`), Expires: at, TTL: 24 * time.Hour, Attempt: 2},
		} {
			if err := h.sessions.Send("d1", s, cmd); err != nil {
				t.Fatal(err)
			}
		}
		d.want(
			`{"jsonrpc":"2.0","id":"A","method":"ping","attempt":1}`,
			`{"jsonrpc":"2.0","id":"B","method":"set","params":{"relay":true},"expires":1458118048545,"ttl_ms":86400000,"attempt":2}`,
		)
		d.send(
			`{"method":"progress","params":{"id":"B","status":"received"}}`,
			`{"id":9,"method":"progress","params":{"id":"B","status":"running","percent":40,"message":"motor runs"}}`,
			`{"id":"A","result":{"pong":1}}`,
			`{"jsonrpc":"2.0","id":"B","error":{"code":-32601,"message":"no such method"}}`,
			`{"id":"nobody's","result":null}`, // the ledger knows which ids there are
		)
		d.want(result("9"))
		synctest.Wait()
		d.wantNone()
		wantLines(t, h.answers.lines(),
			fmt.Sprintf("ready d1 %d", s),
			fmt.Sprintf("progressed d1 %d B received 0 ", s),
			fmt.Sprintf("progressed d1 %d B running 40 motor runs", s),
			fmt.Sprintf(`answered d1 %d A {"pong":1} 0`, s),
			fmt.Sprintf(`answered d1 %d B {"code":-32601,"message":"no such method"} -32601`, s),
			fmt.Sprintf("answered d1 %d nobody's null 0", s),
		)
	})
}

// A command that is larger than the device said it takes is refused before it is sent.
func TestCommandOverTheDevicesMaxFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		synctest.Wait()
		s := h.session("d1")
		small := wire.Command{ID: "A", Method: "set", Params: json.RawMessage(`{"x":1}`), Attempt: 1}
		large := small
		large.ID, large.Params = "B", json.RawMessage(`{"x":"`+strings.Repeat("x", 300)+`"}`)
		size := int64(len(wire.AppendCommand(nil, large)))
		d.hello(fmt.Sprintf(`{"max_frame":%d}`, size-1))
		if err := h.sessions.Send("d1", s, small); err != nil {
			t.Fatal(err)
		}
		d.want(string(wire.AppendCommand(nil, small)))
		err := h.sessions.Send("d1", s, large)
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Limit != size-1 || e.Value != size || e.Code != wire.CodeTooLarge {
			t.Errorf("error %v says not both the size %d and the limit %d", err, size, size-1)
		}
		d.hello(fmt.Sprintf(`{"max_frame":%d}`, size))
		if err := h.sessions.Send("d1", s, large); err != nil {
			t.Error(err)
		}
		d.want(string(wire.AppendCommand(nil, large)))
	})
}
