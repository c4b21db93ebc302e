package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestDeviceCredentials(t *testing.T) {
	h := newHub(t)
	h.mux.HandleFunc("POST /api/v1/devices/d1/token", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		reply(t, w, 200, object{"id": "d1", "token": "dev_x", "credential": "ab12"})
		if want := `{"keep":"24h","expires_in":"90d"}`; string(data) != want {
			t.Errorf("asked for %s, want %s", data, want)
		}
	})
	h.serve(t, "GET /api/v1/devices/d1/credentials", 200, object{"credentials": []object{
		{"id": "ab12", "kind": "token", "state": "valid", "created": "2026-01-02T03:04:05Z", "last_used": "2026-01-02T03:04:05Z", "in_use": true},
		{"id": "cd34", "kind": "token", "state": "offered", "created": "2026-01-02T03:04:05Z", "expires": "2026-04-02T03:04:05Z", "in_use": false},
	}})
	h.serve(t, "DELETE /api/v1/devices/d1/credentials/ab12", 200, object{"id": "d1", "credential": "ab12", "was_in_use": true})
	h.serve(t, "POST /api/v1/devices/d1/credentials/rotate", 200, object{"id": "d1", "outcome": "confirmed", "credential": "ef56"})
	h.serve(t, "POST /api/v1/devices/d2/credentials/rotate", 200, object{"id": "d2", "outcome": "unanswered", "message": "no answer", "credential": "ef57"})
	h.serve(t, "POST /api/v1/devices/d3/credentials/rotate", 409, object{"title": "Conflict", "detail": "the device is not connected", "reason": "device_offline"})

	status, stdout, stderr := h.hubctl(t, "devices", "token", "d1", "--keep", "24h", "--expires", "90d")
	if status != 0 || stdout != "dev_x\n" {
		t.Errorf("token: %d %q %q", status, stdout, stderr)
	}
	_, stdout, _ = h.hubctl(t, "devices", "credentials", "d1")
	wantText(t, stdout, "ab12", "valid", "now", "cd34", "offered", "never", "2026-04-02")
	_, stdout, _ = h.hubctl(t, "devices", "revoke", "d1", "ab12")
	wantText(t, stdout, "revoked ab12 of d1", "its connection has ended")
	if status, stdout, _ = h.hubctl(t, "devices", "rotate", "d1"); status != 0 || stdout != "d1: confirmed\n" {
		t.Errorf("rotate: %d %q", status, stdout)
	}
	status, stdout, _ = h.hubctl(t, "devices", "rotate", "d1", "d2", "d3")
	if status != exitFailed || strings.Count(stdout, "\n") != 3 {
		t.Errorf("rotate three: %d %q", status, stdout)
	}
	wantText(t, stdout, "d1: confirmed", "d2: unanswered no answer", "d3: ", "not connected")
	status, stdout, _ = h.hubctl(t, "devices", "rotate", "d1", "d3", "--json")
	if status != exitFailed {
		t.Errorf("status %d", status)
	}
	wantText(t, stdout, `"outcome": "confirmed"`, `"error": `)
}
