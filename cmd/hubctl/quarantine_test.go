package main

import (
	"net/http"
	"strings"
	"testing"
)

func TestQuarantineRetryAndDrop(t *testing.T) {
	h := newHub(t)
	var asked []string
	answer := func(status int, body object) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.String())
			reply(t, w, status, body)
		}
	}
	h.mux.HandleFunc("POST /api/v1/quarantine/7/retry", answer(200, object{"id": "7", "state": "stored"}))
	h.mux.HandleFunc("POST /api/v1/quarantine/8/retry", answer(200, object{"id": "8", "state": "quarantined", "reason": "store_rejected", "message": "type"}))
	h.mux.HandleFunc("DELETE /api/v1/quarantine/7", answer(200, object{"id": "7", "state": "dropped"}))
	h.mux.HandleFunc("DELETE /api/v1/quarantine/9", answer(404, object{"status": 404, "detail": "no quarantined reading has this id", "reason": "not_quarantined"}))
	h.mux.HandleFunc("GET /api/v1/quarantine/7", answer(200, object{"id": "7", "device": "d1", "reason": "bad_value", "received": at1, "frame": "{}"}))
	h.mux.HandleFunc("DELETE /api/v1/quarantine", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		next := "5"
		if r.URL.Query().Get("cursor") == "5" {
			next = ""
		}
		reply(t, w, 200, object{"readings": object{"dropped": 3}, "next": next})
	})
	for _, c := range []struct {
		args   string
		status int
		out    string
	}{
		{"quarantine retry 7", exitOK, "stored"},
		{"quarantine retry 7 8", exitError, "store_rejected: type"},
		{"quarantine retry 7 --json", exitOK, `"state": "stored"`},
		{"quarantine drop 7", exitOK, "dropped"},
		{"quarantine drop 9", exitError, ""},
		{"quarantine show 7", exitOK, "bad_value"},
		{"quarantine drop --device d1 --reason bad_value", exitOK, "dropped=6"},
		{"quarantine drop", exitUsage, ""},
		{"quarantine drop 7 --all", exitUsage, ""},
	} {
		status, stdout, stderr := h.hubctl(t, strings.Fields(c.args)...)
		if status != c.status || !strings.Contains(stdout, c.out) {
			t.Errorf("%s: status %d, want %d: %s%s", c.args, status, c.status, stdout, stderr)
		}
	}
	last := asked[len(asked)-1]
	if want := "DELETE /api/v1/quarantine?all=true&cursor=5&device=d1&limit=1000&reason=bad_value"; last != want {
		t.Errorf("asked %s, want %s", last, want)
	}
}

func TestDeepAuditTellsWhatDiffers(t *testing.T) {
	h := newHub(t)
	agrees := true
	h.mux.HandleFunc("GET /api/v1/audit", func(w http.ResponseWriter, r *http.Request) {
		device := object{"device": "d1", "received": 4, "stored": 4, "gaps": []object{{"boot": "b", "from": 3, "to": 4}, {"boot": "a", "from": 1, "to": 9, "partly": true}}}
		if r.URL.Query().Get("deep") == "true" {
			device["store"] = object{"points": 3, "agrees": agrees}
		}
		reply(t, w, 200, object{"total": object{"received": 4, "stored": 4}, "devices": []object{device}})
	})
	status, stdout, stderr := h.hubctl(t, "audit", "d1")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "3 to 4", "at most 9")
	status, stdout, stderr = h.hubctl(t, "audit", "--deep")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "IN STORE")
	wantText(t, stderr, "counted 3 points of 1 devices")
	agrees = false
	status, _, stderr = h.hubctl(t, "audit", "--deep", "--json")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "d1: the store has 3 points, the account says 4")
}
