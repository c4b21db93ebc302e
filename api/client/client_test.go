package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"telemetryhub/api/client"
)

type object = map[string]any

func TestDevicesFollowsTheCursor(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/devices", func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer "+token {
			t.Errorf("Authorization = %q", got)
		}
		if got := r.FormValue("tag") + r.FormValue("online"); got != "roomtrue" {
			t.Errorf("filter = %q", got)
		}
		switch r.FormValue("cursor") {
		case "":
			answer(t, w, 200, object{"devices": []object{{"id": "a", "online": true, "enabled": true}, {"id": "b"}}, "next": "b"})
		case "b":
			answer(t, w, 200, object{"devices": []object{{"id": "c", "transport": "wss"}}, "next": ""})
		}
	})
	c := serve(t, mux)
	online := true
	var ids []string
	for d, err := range c.Devices(t.Context(), client.DeviceFilter{Tag: "room", Online: &online}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
		if d.ID == "a" && !d.Online || d.ID == "c" && d.Transport != "wss" {
			t.Errorf("device %+v lost its presence", d)
		}
	}
	if got := strings.Join(ids, " "); got != "a b c" {
		t.Errorf("devices = %q, want a b c", got)
	}
}

func TestProblemSaysWhatAndWhy(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/devices/{id}/commands", func(w http.ResponseWriter, r *http.Request) {
		answer(t, w, http.StatusConflict, object{
			"title": "Conflict", "detail": "device d1 is not connected", "reason": "device_offline", "retry_after_ms": 1500,
		})
	})
	_, err := serve(t, mux).SendCommand(t.Context(), "d1", client.CommandRequest{Method: "ping"})
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != http.StatusConflict {
		t.Fatalf("error = %v, want a Problem with status 409", err)
	}
	want := "device d1 is not connected (reason device_offline, try again in 1.5s, status 409)"
	if err.Error() != want {
		t.Errorf("error = %q\nwant    %q", err, want)
	}
	if !client.IsReason(err, "device_offline") || !client.IsStatus(err, 409) {
		t.Error("the reason or the status is not recognised")
	}
}

func TestRefusalWithoutAProblemDocument(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "a proxy's\x1b[2J words", http.StatusBadGateway)
	})
	_, err := serve(t, mux).GetDevice(t.Context(), "d1")
	if want := "a proxy's [2J words (try again in 7s, status 502)"; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %q", err, want)
	}
}

func TestSendCommand(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/devices/{id}/commands", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want := `{"method":"set","params":{"on":true},"expires":"24h","timeout":"1500ms"}`
		if string(body) != want {
			t.Errorf("body = %s\nwant   %s", body, want)
		}
		if r.PathValue("id") != "a:b" || r.FormValue("wait") != "2s" || r.Header.Get("Idempotency-Key") != "k1" {
			t.Errorf("request = %s, key %q", r.URL, r.Header.Get("Idempotency-Key"))
		}
		answer(t, w, 201, object{"id": "01", "state": "failed", "error": object{"code": -32000, "message": "stuck"}})
	})
	cmd, err := serve(t, mux).SendCommand(t.Context(), "a:b", client.CommandRequest{
		Method: "set", Params: json.RawMessage(`{"on":true}`), Expires: 24 * time.Hour, Timeout: 1500 * time.Millisecond,
		Wait: 2 * time.Second, Key: "k1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !cmd.Final() || cmd.Error == nil || cmd.Error.Code != -32000 {
		t.Errorf("command = %+v", cmd)
	}
}

func TestTelemetryKeepsExactNumbers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/devices/d1/telemetry", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RawQuery; got != "every=1m&fields=Temp%2CHum&fn=mean&from=-1h&to=1458031648545" {
			t.Errorf("query = %s", got)
		}
		answer(t, w, 200, object{"readings": []object{{"ts": 1458031648545, "values": object{"Temp": 20.123456789012345}}}})
	})
	n := 0
	for row, err := range serve(t, mux).Telemetry(t.Context(), "d1", client.TelemetryQuery{
		Fields: []string{"Temp", "Hum"}, From: "-1h", To: client.At(time.UnixMilli(1458031648545)), Every: time.Minute, Fn: "mean",
	}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if row.TS != 1458031648545 || row.Values["Temp"] != 20.123456789012345 {
			t.Errorf("row = %+v", row)
		}
	}
	if n != 1 {
		t.Errorf("rows = %d, want 1", n)
	}
}

func TestNotReadyIsAnAnswer(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		answer(t, w, http.StatusServiceUnavailable, object{"ready": false, "parts": []object{{"name": "store", "ok": false, "message": "away"}}})
	})
	r, err := serve(t, mux).Ready(t.Context())
	if err != nil || r.Ready || len(r.Parts) != 1 || r.Parts[0].Message != "away" {
		t.Errorf("Ready = %+v, %v", r, err)
	}
}

func TestAuditAddsUp(t *testing.T) {
	counts := client.Counts{Received: 10, Stored: 4, Duplicate: 1, Quarantined: 1, Queued: 1, Refused: map[string]uint64{"bad_json": 2}}
	if got := counts.Missing(); got != 1 {
		t.Errorf("Missing = %d, want 1", got)
	}
}

func TestErrorsBeforeAnyAnswerSayWhatToDo(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	quiet := http.NewServeMux()
	stranger := httptest.NewTLSServer(quiet)
	defer stranger.Close()
	plain := httptest.NewServer(quiet)
	defer plain.Close()

	for name, tc := range map[string]struct{ url, want string }{
		"refused": {"https://" + nobody, "is the hub running?"},
		"unknown": {stranger.URL, "pass --ca DIR/tls/ca.pem"},
		"no TLS":  {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			hub, err := client.New(client.Config{URL: tc.url})
			if err != nil {
				t.Fatal(err)
			}
			defer hub.Close()
			err = hub.Health(t.Context())
			var u *client.UnreachableError
			if !errors.As(err, &u) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want an UnreachableError that says %q", err, tc.want)
			}
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, cfg := range map[string]client.Config{
		"scheme": {URL: "ftp://host"},
		"host":   {URL: "https://"},
		"token":  {Token: "two words"},
		"ca":     {CAPEM: []byte("no pem")},
		"file":   {CAFile: t.TempDir() + "/missing"},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("%s: New accepted %+v", name, cfg)
		}
	}
}
