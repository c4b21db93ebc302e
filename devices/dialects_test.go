package devices_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/websocket"

	"telemetryhub/wire"
)

// dialIn connects a device that negotiates a subprotocol and reads. What it is sent becomes JSON again, members in order
// of their names; a frame of the wrong kind is shown as such.
func (h *hub) dialIn(id, subprotocol string) *device {
	h.t.Helper()
	conn := h.listener.dial()
	header := bearer(h.tokens[id])
	header.Set("Sec-WebSocket-Protocol", subprotocol)
	ws, _, err := upgrade(conn, "/connect", header)
	if err != nil || ws.Subprotocol() != subprotocol {
		h.t.Fatalf("connect %s: %v", id, err)
	}
	h.t.Cleanup(func() { _ = ws.Close() })
	d := &device{t: h.t, id: id, ws: ws, frames: make(chan string, 1000), pings: make(chan time.Time, 1), ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		for {
			kind, data, err := ws.ReadMessage()
			if err != nil {
				_ = errors.As(err, &d.closed)
				return
			}
			d.frames <- shown(kind, data, strings.HasSuffix(subprotocol, "+cbor"))
		}
	}()
	return d
}

func shown(kind int, data []byte, binary bool) string {
	if binary != (kind == websocket.BinaryMessage) {
		return "a frame of kind " + hex.EncodeToString([]byte{byte(kind)})
	}
	decode := func(v any) error { return json.Unmarshal(data, v) }
	if binary {
		decode = func(v any) error { return cbor.Unmarshal(data, v) }
	}
	var members map[string]any
	if err := decode(&members); err != nil {
		return err.Error()
	}
	text, err := json.Marshal(plain(members))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// plain makes maps with texts as names of maps with anything.
func plain(value any) any {
	switch v := value.(type) {
	case map[any]any:
		named := map[string]any{}
		for name, member := range v {
			named[name.(string)] = plain(member)
		}
		return named
	case map[string]any:
		for name := range v {
			v[name] = plain(v[name])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return value
}

func (d *device) sendBinary(value any) {
	d.t.Helper()
	data, err := cbor.Marshal(value)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
		d.t.Fatal(err)
	}
}

type members = map[string]any

// All that the hub says is in the encoding that was negotiated, whatever the device's frames are in.
func TestTheHubWritesTheNegotiatedEncoding(t *testing.T) {
	for _, subprotocol := range wire.Subprotocols() {
		t.Run(subprotocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				d := h.dialIn("d1", subprotocol)
				hello := members{"id": 1, "method": "hello", "params": members{"boot": "b", "ack": true}}
				d.sendBinary(hello)
				if got := d.next(); !strings.HasPrefix(got, `{"id":1,"jsonrpc":"2.0","result":{"desired":{},"device":"d1",`) {
					t.Errorf("hello is answered by %s", got)
				}
				d.send(`{"id":"t","method":"telemetry","params":{"seq":1,"values":{"T":1}}}`)
				d.want(`{"id":"t","jsonrpc":"2.0","result":{}}`, `{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"b","seq":1}}`)
				d.sendBinary(members{"seq": 2, "readings": []any{members{"values": members{"T": 20.48}}, members{"values": members{"T": []byte{1}}}}})
				d.want(`{"jsonrpc":"2.0","method":"hub.notice","params":{"code":"quarantined","message":"bad_value","seq":3}}`, `{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"b","seq":3}}`)
				d.send(`{"T":2}`)
				d.sendBinary(members{"T": 3})
				d.want(`{"jsonrpc":"2.0","method":"hub.ack","params":{"count":1}}`, `{"jsonrpc":"2.0","method":"hub.ack","params":{"count":2}}`)
				d.send(`{"id":2,"method":"nope"}`)
				if got := d.next(); !strings.HasPrefix(got, `{"error":{"code":-32601,"data":{"reason":"unknown_method"},`) {
					t.Errorf("an unknown method is answered by %s", got)
				}
				if err := h.sessions.Send("d1", h.session("d1"), wire.Command{ID: "c1", Method: "set", Params: json.RawMessage(`{"relay":true,"level":0.5,"text":"\u00e4"}`), Attempt: 1}); err != nil {
					t.Fatal(err)
				}
				d.want(`{"attempt":1,"id":"c1","jsonrpc":"2.0","method":"set","params":{"level":0.5,"relay":true,"text":"ä"}}`)
				d.sendBinary(members{"id": 3, "method": "state", "params": members{"reported": members{"level": 0.5, "gone": nil}}})
				synctest.Wait()
				h.states.settle(7, nil)
				d.want(`{"id":3,"jsonrpc":"2.0","result":{"version":7}}`)
				if got := h.states.reports; len(got) != 1 || !strings.Contains(got[0], `"level":0.5`) || !strings.Contains(got[0], `"gone":null`) {
					t.Errorf("reported %s", got)
				}
				h.sessions.Desire("d1", stateOf(8, `{"level":0.25}`, `{"level":0.25}`))
				d.want(`{"jsonrpc":"2.0","method":"hub.state","params":{"delta":{"level":0.25},"desired":{"level":0.25},"version":8}}`)
				d.sendBinary(members{"id": "c1", "result": members{"image": []byte("hi \n")}})
				synctest.Wait()
				if lines := h.answers.lines(); !strings.HasSuffix(lines[len(lines)-1], `c1 {"image":"aGkgCg"} 0`) {
					t.Errorf("answers %v", lines)
				}
				wantLines(t, h.sink.lines(),
					`d1  boot=b seq=1 {"seq":1,"values":{"T":1}}`, `d1  boot=b seq=2 {"values":{"T":20.48}} {"values":{"T":h'01'}}`, `d1  boot=b seq=0 {"T":2}`, `d1  boot=b seq=0 {"T":3}`)
				wantLines(t, h.sink.refusals(), "d1 unknown_method")
			})
		})
	}
}

// Lists are SenML packs where SenML was negotiated, in text and binary frames, and no frames elsewhere.
func TestPacks(t *testing.T) {
	for _, subprotocol := range wire.Subprotocols() {
		t.Run(subprotocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				d := h.dialIn("d1", subprotocol)
				d.sendBinary(members{"id": 1, "method": "hello", "params": members{"ack": true}})
				d.next()
				d.send(`[{"bn":"d1:","bt":1458031648,"n":"T","u":"Cel","v":20.48},{"n":"RH","v":42}]`)
				d.sendBinary([]any{map[int]any{-2: "urn:dev:ow:d1:", 0: "T", 1: "Cel", 2: float32(20.48)}})
				if strings.HasPrefix(subprotocol, "hub") {
					wantRefused(d, -32600, "bad_frame")
					wantRefused(d, -32700, "bad_cbor") // a map's names are texts
					return
				}
				d.want(`{"jsonrpc":"2.0","method":"hub.ack","params":{"count":1}}`, `{"jsonrpc":"2.0","method":"hub.ack","params":{"count":2}}`)
				d.send(`[{"n":"T","v":1},{"n":"x","v":1,"crit_":1}]`)
				wantRefused(d, -32602, "bad_senml")
				d.send(`[{"n":"T","v":"1"}]`)
				d.want(`{"jsonrpc":"2.0","method":"hub.notice","params":{"code":"quarantined","message":"bad_reading"}}`, `{"jsonrpc":"2.0","method":"hub.ack","params":{"count":3}}`)
				wantLines(t, h.sink.lines(), `d1  boot= seq=0 {"ts":1458031648000,"values":{"T":20.48,"RH":42}}`, `d1  boot= seq=0 {"values":{"T":20.48}}`, `d1  boot= seq=0 [{"n":"T","v":"1"}]`)
				wantLines(t, h.sink.refusals(), "d1 bad_senml")
			})
		})
	}
}

func wantRefused(d *device, code int, reason string) {
	d.t.Helper()
	var f struct {
		Error struct {
			Code int
			Data struct{ Reason string }
		}
	}
	if got := d.next(); json.Unmarshal([]byte(got), &f) != nil || f.Error.Code != code || f.Error.Data.Reason != reason {
		d.t.Fatalf("got %s, want %d %s", got, code, reason)
	}
}

// Bytes that are no CBOR cost their frame and nothing else: text that is not UTF-8 within them breaks no rule of
// WebSocket.
func TestBadBinaryFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dialIn("d1", "hub.v1+cbor")
		for _, text := range []string{"", "a1", "a16154ff", "a1615461ff", "{\"T\":1}", "a161540100"} {
			data, err := hex.DecodeString(text)
			if err != nil {
				data = []byte(text)
			}
			if err := d.ws.WriteMessage(websocket.BinaryMessage, data); err != nil {
				t.Fatal(err)
			}
			wantRefused(d, -32700, "bad_cbor")
		}
		d.sendBinary(members{"id": 2, "method": "telemetry", "params": members{"values": members{"T": 1}}})
		d.want(`{"id":2,"jsonrpc":"2.0","result":{}}`)
		wantLines(t, h.sink.lines(), `d1  boot= seq=0 {"values":{"T":1}}`)
	})
}

// The largest frame that a device takes is one in its own encoding.
func TestACommandsSizeIsThatOfItsEncoding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		cmd := wire.Command{ID: "c1", Method: "set", Params: json.RawMessage(`{"a":100000,"b":[true,false,null]}`), Attempt: 1}
		size := len(wire.AppendCBOR(nil, wire.AppendCommand(nil, cmd)))
		d := h.dialIn("d1", "hub.v1+cbor")
		for _, c := range []struct {
			largest int
			taken   bool
		}{{size, true}, {size - 1, false}} {
			d.sendBinary(members{"id": 1, "method": "hello", "params": members{"max_frame": c.largest}})
			synctest.Wait() // it is answered, and told of a state that is too large for it
			if err := h.sessions.Send("d1", h.session("d1"), cmd); (err == nil) != c.taken {
				t.Errorf("a command of %d bytes to a device that takes %d: %v", size, c.largest, err)
			}
		}
	})
}
