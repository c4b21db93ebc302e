package main

import (
	"io"
	"net/http"
	"testing"
	"time"
)

func stateAnswer() object {
	at := time.Now().Add(-50 * time.Hour)
	return object{
		"device": "pump-7", "online": true, "version": 7,
		"desired": object{"interval": 20, "net": object{"dns": "1.1.1.1"}}, "reported": object{"interval": 10, "free": object{}},
		"delta":      object{"interval": 20, "net": object{"dns": "1.1.1.1"}},
		"metadata":   object{"desired": object{"interval": at.UnixMilli(), "net": object{"dns": at.UnixMilli()}}, "reported": object{"interval": at.UnixMilli(), "free": object{}}},
		"desired_at": at, "desired_by": "otto",
	}
}

func TestStateShow(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/devices/pump-7/state", 200, stateAnswer())
	for _, args := range [][]string{{"state", "pump-7"}, {"state", "show", "pump-7"}} {
		status, out, errs := h.hubctl(t, args...)
		wantStatus(t, status, 0, errs)
		wantText(t, out, "version     7", "desired by  otto", "MEMBER", "net.dns", `"1.1.1.1"`, "differs", "free      -", "2d")
	}
}

func TestStateSet(t *testing.T) {
	h := newHub(t)
	var body, match string
	h.mux.HandleFunc("PATCH /api/v1/devices/pump-7/state", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body, match = string(data), r.Header.Get("If-Match")
		reply(t, w, 200, stateAnswer())
	})
	for _, test := range []struct {
		args        []string
		body, match string
	}{
		{[]string{"interval=20", "net.dns=null", "net.v6=true", "name=007"}, `{"desired":{"interval":20,"name":"007","net":{"dns":null,"v6":true}}}`, ""},
		{[]string{"--params", `{"big":12345678901234567890,"net":{"a":1}}`, "net.b=x", "--if-match", "12"}, `{"desired":{"big":12345678901234567890,"net":{"a":1,"b":"x"}}}`, `"12"`},
		{[]string{"--params", "null"}, `{"desired":null}`, ""},
		{[]string{"--params", "{}", "--if-match", "0"}, `{"desired":{}}`, `"0"`},
	} {
		status, _, errs := h.hubctl(t, append([]string{"state", "set", "pump-7"}, test.args...)...)
		wantStatus(t, status, 0, errs)
		if body != test.body || match != test.match {
			t.Errorf("%v sends %s, If-Match %s; want %s, %s", test.args, body, match, test.body, test.match)
		}
	}
	for _, args := range [][]string{nil, {"interval"}, {"=1"}, {"a=1", "a=2"}, {"a=1", "a.b=2"}, {"a.b=2", "a=1"}, {"a..b=1"}, {"--params", "[1]"}, {"--params", "{"}} {
		status, _, errs := h.hubctl(t, append([]string{"state", "set", "pump-7"}, args...)...)
		wantStatus(t, status, 2, errs)
	}
}

func TestStateSetOfAnotherVersion(t *testing.T) {
	h := newHub(t)
	h.serve(t, "PATCH /api/v1/devices/pump-7/state", 412, object{"status": 412, "reason": "version_mismatch", "detail": "the state has version 8", "value": 8})
	status, _, errs := h.hubctl(t, "state", "set", "pump-7", "a=1", "--if-match", "7")
	wantStatus(t, status, 8, errs)
	wantText(t, errs, "the state has version 8")
}

func TestStateHistory(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/devices/pump-7/state/history", 200, object{"changes": []object{
		{"version": 7, "time": time.Now().Add(-time.Minute), "side": "reported", "actor": "device", "patch": object{"interval": 20}},
		{"version": 6, "time": time.Now().Add(-time.Hour), "side": "desired", "actor": "otto", "bytes": 4000},
	}})
	status, out, errs := h.hubctl(t, "state", "history", "pump-7")
	wantStatus(t, status, 0, errs)
	wantText(t, out, "VERSION", `{"interval":20}`, "4000 bytes, not kept", "otto", "1m0s", "1h0m")
}

func TestStateCompletes(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/devices", 200, object{"devices": []object{{"id": "pump-7"}}, "next": ""})
	_, out, _ := h.hubctl(t, "__complete", "state", "")
	wantText(t, out, "set\n", "history\n", "pump-7\n")
	if _, out, _ = h.hubctl(t, "__complete", "state", "set", "p"); out != "pump-7\n" {
		t.Errorf("state set p completes to %q", out)
	}
	if _, out, _ = h.hubctl(t, "__complete", "state", "pump-7", ""); out != "" {
		t.Errorf("after the device comes %q", out)
	}
}
