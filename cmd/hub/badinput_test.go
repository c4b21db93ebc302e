package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// Each bad frame costs that frame: it gets its documented error, and the next good frame of the same socket is stored.
func TestABadFrameCostsThatFrameOnly(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	ws := h.dial("d", h.newDevice("d"))
	send(t, ws, `{"id":0,"method":"hello","params":{"boot":"b"}}`)
	receive(t, ws)
	seq := 0
	for _, tt := range []struct {
		name, frame string
		code        int
		reason      string
	}{
		{"not JSON", `{"method":`, -32700, "bad_json"},
		{"two values", `{}{}`, -32700, "bad_json"},
		{"NaN", `{"temp":NaN}`, -32700, "bad_json"},
		{"a batch", `[{"method":"telemetry"}]`, -32600, "bad_frame"},
		{"a number", `7`, -32600, "bad_frame"},
		{"an unknown method", `{"id":"x","method":"fly"}`, -32601, "unknown_method"},
		{"no values", `{"id":"x","method":"telemetry","params":{}}`, -32602, "bad_params"},
		{"seq of a wrong type", `{"id":"x","method":"telemetry","params":{"seq":"1","values":{"n":1}}}`, -32602, "bad_params"},
		{"a measurement with a line break", `{"id":"x","method":"telemetry","params":{"measurement":"a\nb","values":{"n":1}}}`, -32602, "bad_params"},
		{"too many bytes", `{"x":"` + strings.Repeat("y", 70_000) + `"}`, 0, "frame_too_large"},
	} {
		send(t, ws, tt.frame)
		f := receive(t, ws)
		switch {
		case f.Error != nil && (f.Error.Code != tt.code || f.Error.Data.Reason != tt.reason),
			f.Error == nil && (f.Method != "hub.notice" || f.Params.Code != tt.reason):
			t.Errorf("%s: the hub said %+v, want %d %s", tt.name, f, tt.code, tt.reason)
		}
		seq++
		send(t, ws, fmt.Sprintf(`{"method":"telemetry","params":{"seq":%d,"ts":%d,"values":{"n":%d}}}`, seq, 1_700_000_000_000+seq, seq))
		if f := receive(t, ws); f.Method != "hub.ack" || f.Params.Seq != seq {
			t.Fatalf("%s: after it came %+v, want the ack of %d", tt.name, f, seq)
		}
	}
	if got := h.stored("d"); len(got) != seq {
		t.Errorf("%d readings stored, want %d", len(got), seq)
	}
	if a := h.audit(); a.Total.Refused["bad_json"] != 3 || a.Total.Refused["frame_too_large"] != 1 || a.Total.Received != 2*seq {
		t.Errorf("account %+v, want %d received, 3 bad_json, 1 frame_too_large", a.Total, 2*seq)
	}
}

type storedReading struct {
	TS     int64
	Values map[string]any
}

// stored returns the device's readings once none is queued.
func (h *hubProcess) stored(device string) []storedReading {
	h.t.Helper()
	until(h.t, "an empty queue", func() bool { return h.audit().Total.Queued == 0 })
	var page struct{ Readings []storedReading }
	if status := h.call(http.MethodGet, "/api/v1/devices/"+device+"/telemetry", nil, &page); status != http.StatusOK {
		h.t.Fatalf("telemetry of %s: %d", device, status)
	}
	return page.Readings
}

// What the store cannot hold is quarantined with its reason; what looks dangerous there is held to the letter. Neither
// touches a neighbour in the same frame.
func TestNoValueCorruptsItsNeighbour(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir(), mustConfig(t, "devices:\n  max_frame: 4MiB\n")...)
	ws := h.dial("d", h.newDevice("d"))
	nasty := map[string]any{
		`a,b=c d`: 1.5, `quote"s`: 2.0, "ü→€": 3.0, "text": "line one\nline two\r\n\"quoted\" \\back\\slash, a=b c", "on": true, "nested.deep.x": -1e-300,
	}
	nastyText, err := json.Marshal(map[string]any{"a,b=c d": 1.5, `quote"s`: 2, "ü→€": 3, "text": nasty["text"], "on": true, "nested": map[string]any{"deep": map[string]any{"x": -1e-300, "none": nil}}})
	if err != nil {
		t.Fatal(err)
	}
	bad := []struct{ values, reason string }{
		{`{"":1}`, "bad_field_name"},
		{`{"line\nbreak":1}`, "bad_field_name"},
		{`{"back\\slash":1}`, "bad_field_name"},
		{`{"time":1}`, "reserved_field_name"},
		{`{"big":1e999}`, "number_out_of_range"},
		{`{"list":[1,2]}`, "bad_value"},
		{`{"long":"` + strings.Repeat("x", 1<<20) + `"}`, "string_too_long"},
		{`{}`, "no_values"},
	}
	var readings []string
	for i, b := range bad {
		readings = append(readings,
			fmt.Sprintf(`{"ts":%d,"values":%s}`, 1_700_000_000_000+2*i, nastyText),
			fmt.Sprintf(`{"ts":%d,"values":%s}`, 1_700_000_000_001+2*i, b.values))
	}
	send(t, ws, `{"method":"telemetry","params":{"boot":"b","seq":1,"readings":[`+strings.Join(readings, ",")+`]}}`)
	for i, b := range bad {
		f := receive(t, ws)
		if f.Method != "hub.notice" || f.Params.Code != "quarantined" || f.Params.Message != b.reason || f.Params.Seq != 2*i+2 {
			t.Errorf("notice %+v, want that reading %d is quarantined for %s", f, 2*i+2, b.reason)
		}
	}
	if f := receive(t, ws); f.Method != "hub.ack" || f.Params.Seq != 2*len(bad) {
		t.Fatalf("frame %+v, want the ack of %d", f, 2*len(bad))
	}
	got := h.stored("d")
	if len(got) != len(bad) {
		t.Fatalf("%d readings stored, want %d", len(got), len(bad))
	}
	for _, r := range got {
		for name, want := range nasty {
			if r.Values[name] != want {
				t.Errorf("%s = %q, want %q", name, r.Values[name], want)
			}
		}
		if len(r.Values) != len(nasty) {
			t.Errorf("%d fields, want %d: %v", len(r.Values), len(nasty), r.Values)
		}
	}
	var list struct {
		Items []struct{ Device, Reason, Frame string }
	}
	h.call(http.MethodGet, "/api/v1/quarantine", nil, &list)
	if len(list.Items) != len(bad) || h.audit().Total.Quarantined != len(bad) {
		t.Errorf("%d in the quarantine, %d in the audit, want %d", len(list.Items), h.audit().Total.Quarantined, len(bad))
	}
}

func mustConfig(t *testing.T, text string) []string {
	return []string{"--config", writeConfig(t, text)}
}

func TestWrongCredentialsAreRefusedBeforeTheUpgrade(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("cellar:1")
	h.newDevice("other")
	for name, tt := range map[string]struct {
		path   string
		header http.Header
		status int
		reason string
	}{
		"none":                {"/connect", nil, 401, "no_credentials"},
		"wrong token":         {"/connect/cellar:1", http.Header{"Authorization": {"Bearer dev_wrong"}}, 401, "bad_credentials"},
		"another's path":      {"/connect/other", http.Header{"Authorization": {basic("cellar:1", token)}}, 403, "wrong_device"},
		"another's token":     {"/connect/other", http.Header{"Authorization": {"Bearer " + token}}, 403, "wrong_device"},
		"unknown subprotocol": {"/connect?token=" + token, http.Header{"Sec-WebSocket-Protocol": {"chat"}}, 400, "subprotocol"},
	} {
		d := websocket.Dialer{TLSClientConfig: h.tls()}
		_, answer, err := d.Dial("wss"+strings.TrimPrefix(h.url, "https")+tt.path, tt.header)
		if err == nil || answer == nil {
			t.Fatalf("%s: %v, %v", name, answer, err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != tt.status || answer.Header.Get("Content-Type") != "application/problem+json" || !bytes.Contains(body, []byte(tt.reason)) {
			t.Errorf("%s: %d %s %s, want %d %s", name, answer.StatusCode, answer.Header.Get("Content-Type"), body, tt.status, tt.reason)
		}
	}
	for name, tt := range map[string]struct {
		path   string
		header http.Header
	}{
		"bearer": {"/connect/cellar:1", http.Header{"Authorization": {"Bearer " + token}}},
		"basic":  {"/connect", http.Header{"Authorization": {basic("cellar:1", token)}}},
		"query":  {"/connect?token=" + token, nil},
	} {
		d := websocket.Dialer{TLSClientConfig: h.tls()}
		ws, answer, err := d.Dial("wss"+strings.TrimPrefix(h.url, "https")+tt.path, tt.header)
		if err != nil {
			t.Errorf("%s: %v, %v", name, answer, err)
			continue
		}
		ws.Close()
	}
	if strings.Contains(h.stderr.String(), token) {
		t.Error("the token of the URL is in the log")
	}
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}
