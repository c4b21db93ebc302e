package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"telemetryhub/api/client"
)

func TestSendTellsTheOutcome(t *testing.T) {
	h := newHub(t)
	h.mux.HandleFunc("POST /api/v1/devices/{id}/commands", func(w http.ResponseWriter, r *http.Request) {
		state := r.PathValue("id")
		c := object{"id": "01C", "state": state, "history": []object{{"state": state, "time": at1, "cause": "because"}}}
		switch state {
		case "done":
			c["result"] = json.RawMessage(`{"pong":1}`)
		case "failed":
			c["error"] = object{"code": -32000, "message": "stuck"}
		}
		reply(t, w, 201, c)
	})
	h.serve(t, "GET /api/v1/commands/01C", 200, object{"id": "01C", "state": "sent"})
	for state, want := range map[string]struct {
		status int
		stdout string
	}{
		"done":      {exitOK, "{\"pong\":1}\n"},
		"failed":    {exitFailed, "{\"code\":-32000,\"message\":\"stuck\"}\n"},
		"rejected":  {exitFailed, ""},
		"unknown":   {exitUnknown, ""},
		"expired":   {exitNotRun, ""},
		"cancelled": {exitNotRun, ""},
		"sent":      {exitPending, "01C\n"},
	} {
		status, stdout, stderr := h.hubctl(t, "send", state, "ping", "--wait")
		if status != want.status || stdout != want.stdout {
			t.Errorf("%s: status %d, stdout %q; want %d, %q (%s)", state, status, stdout, want.status, want.stdout, stderr)
		}
	}
	status, stdout, stderr := h.hubctl(t, "send", "sent", "ping")
	if status != exitOK || stdout != "01C\n" {
		t.Errorf("without --wait: status %d, stdout %q (%s)", status, stdout, stderr)
	}
	wantText(t, stderr, "is sent", "hubctl commands show 01C")
	if status, _, stderr = h.hubctl(t, "send", "unknown", "ping"); status != exitUnknown {
		t.Errorf("an ended command without --wait: status %d (%s)", status, stderr)
	}
	wantText(t, stderr, "is unknown: because")
}

func TestSendWaitsWhileTheDeviceTellsProgress(t *testing.T) {
	h := newHub(t)
	asked := 0
	h.mux.HandleFunc("GET /api/v1/commands/01C", func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 2 {
			reply(t, w, 200, object{"id": "01C", "state": "running"})
			return
		}
		reply(t, w, 200, object{"id": "01C", "state": "done", "result": 7})
	})
	c, err := client.New(client.Config{URL: h.URL, Token: "op_secret", CAFile: h.env["HUB_CA"]})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	late := func() time.Time { return time.Now().Add(time.Hour) } // the time for the answer is long over
	a := &app{ctx: t.Context(), hub: c, now: late}
	cmd, err := a.await(client.Command{ID: "01C", State: "running"}, time.Now())
	if err != nil || cmd.State != "done" || asked != 2 {
		t.Errorf("%s after %d questions, %v", cmd.State, asked, err)
	}
	if cmd, err = a.await(client.Command{ID: "01C", State: "sent"}, time.Now()); err != nil || cmd.State != "sent" || asked != 2 {
		t.Errorf("without progress: %s after %d questions, %v", cmd.State, asked, err)
	}
}

func TestSendBody(t *testing.T) {
	h := newHub(t)
	var body, query, key string
	h.mux.HandleFunc("POST /api/v1/devices/{id}/commands", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body, query, key = string(data), r.URL.RawQuery, r.Header.Get("Idempotency-Key")
		reply(t, w, 201, object{"id": "01C", "state": "done"})
	})
	file := filepath.Join(t.TempDir(), "p.json")
	writeFile(t, file, []byte(` {"a": 1} `))
	for want, args := range map[string][]string{
		`{"method":"m"}`: {},
		`{"method":"m","params":{"f":2.50,"n":-5,"t":true,"z":null}}`:                            {"n=-5", "f=2.50", "t=true", "z=null"},
		`{"method":"m","params":{"e":"","l":[1,2],"o":{"x":1},"q":"5","s":"a b=c"}}`:             {"s=a b=c", "q=\"5\"", "l=[1,2]", "o={\"x\":1}", "e="},
		`{"method":"m","params":{"a":1,"b":"x"}}`:                                                {"--params", "@" + file, "b=x"},
		`{"method":"m","params":[1],"delivery":"at-least-once","expires":"24h","timeout":"90s"}`: {"--params", "[1]", "--delivery", "at-least-once", "--expires", "24h", "--timeout", "1m30s"},
	} {
		status, _, stderr := h.hubctl(t, append([]string{"send", "d1", "m"}, args...)...)
		wantStatus(t, status, exitOK, stderr)
		if body != want {
			t.Errorf("%v sent %s\nwant %s", args, body, want)
		}
	}
	h.hubctl(t, "send", "d1", "m", "--wait", "--key", "k1")
	if query != "wait=32s" || key != "k1" {
		t.Errorf("query %q, key %q", query, key)
	}
}
