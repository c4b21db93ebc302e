package main

import (
	"io"
	"net/http"
	"testing"
)

func TestReplayShowsProgressAndWaits(t *testing.T) {
	h := newHub(t)
	var body string
	asked, end := 0, object{"state": "done", "from": at1, "to": at2, "read": 9, "of": 9, "written": 40, "passed_over": 2, "rejected": 0, "missing": 0}
	h.mux.HandleFunc("POST /api/v1/replay", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		reply(t, w, 202, object{"state": "running", "from": at1, "to": at2, "of": 9})
	})
	h.mux.HandleFunc("GET /api/v1/replay", func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			reply(t, w, 200, object{"state": "running", "from": at1, "to": at2, "read": 4, "of": 9, "written": 17, "fault": "the store is away"})
			return
		}
		reply(t, w, 200, end)
	})
	h.serve(t, "DELETE /api/v1/replay", 200, object{"state": "cancelled"})
	status, stdout, stderr := h.hubctl(t, "replay", "--from", "-24h", "--device", "d1")
	wantStatus(t, status, exitOK, stderr)
	if want := `{"from":"-24h","device":"d1"}`; body != want {
		t.Errorf("asked %s, want %s", body, want)
	}
	wantText(t, stderr, "4 of 9 envelopes, 17 readings written", "waits: the store is away")
	wantText(t, stdout, "done", "9 of 9", "40")

	end["missing"] = 1
	status, stdout, stderr = h.hubctl(t, "replay", "--from", "-24h", "--json")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stdout, `"state": "done"`)
	for _, args := range [][]string{{"replay"}, {"replay", "--cancel", "--from", "-1h"}} {
		status, _, stderr = h.hubctl(t, args...)
		wantStatus(t, status, exitUsage, stderr)
	}
	status, stdout, stderr = h.hubctl(t, "replay", "--cancel")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "cancelled")
}
