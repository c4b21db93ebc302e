package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

func discoveringHub(t *testing.T) (h *hub, asked *[]string) {
	h, asked = newHub(t), &[]string{}
	note := func(status int, body any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			said, _ := io.ReadAll(r.Body)
			*asked = append(*asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(said)))
			reply(t, w, status, body)
		}
	}
	h.mux.HandleFunc("GET /api/v1/discovered", note(200, object{"devices": []object{
		{"id": "lamp", "bridge": "home", "topic": "zigbee2mqtt/lamp", "payload": "{\"state\":\"ON\u001b[2J\"}", "size": 14, "type": "light", "name": "Desk", "model": "LED1", "first": at1, "last": at2, "count": 7},
		{"id": "plug", "bridge": "away", "topic": "tele/plug/SENSOR", "payload_base64": "/wA=", "size": 2, "first": at1, "last": at2, "count": 1, "held": "the rule away/* has all of its 3 devices"},
	}, "next": ""}))
	h.mux.HandleFunc("POST /api/v1/discovered/lamp/admit", note(201, object{"id": "lamp", "type": "light", "enabled": true}))
	h.mux.HandleFunc("POST /api/v1/discovered/plug/admit", note(409, object{"title": "Conflict", "status": 409, "reason": "device_exists", "detail": "a device with this id exists"}))
	h.mux.HandleFunc("GET /api/v1/ignored-devices", note(200, object{"devices": []object{{"id": "guest", "by": "ann", "at": at1}}, "next": ""}))
	h.mux.HandleFunc("PUT /api/v1/ignored-devices/guest", note(200, object{"id": "guest", "by": "ann", "at": at1}))
	h.mux.HandleFunc("DELETE /api/v1/ignored-devices/guest", note(200, object{"id": "guest"}))
	return h, asked
}

func TestSeenDevicesAreListed(t *testing.T) {
	h, asked := discoveringHub(t)
	status, stdout, stderr := h.hubctl(t, "bridge", "seen", "--bridge", "home", "-q", "la")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "lamp", "light", "Desk", "LED1", "zigbee2mqtt/lamp", `{"state":"ON [2J"}`, "2 bytes that are no text")
	wantText(t, stderr, "1 were not admitted by themselves: the rule away/* has all of its 3 devices")
	wantText(t, strings.Join(*asked, "\n"), "bridge=home", "q=la")
	if strings.ContainsRune(stdout, 0x1b) {
		t.Errorf("a payload moves the cursor: %q", stdout)
	}
	status, stdout, stderr = h.hubctl(t, "bridge", "seen", "--json")
	wantStatus(t, status, exitOK, stderr)
	var all []map[string]any
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 2 || all[1]["payload_base64"] != "/wA=" {
		t.Errorf("%v: %s", err, stdout)
	}
	status, stdout, stderr = h.hubctl(t, "bridge", "seen", "--ignored")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "guest", "ann")
}

func TestAdmissionGoesOnAfterOneThatFails(t *testing.T) {
	h, asked := discoveringHub(t)
	status, stdout, stderr := h.hubctl(t, "bridge", "admit", "plug", "lamp", "--type", "light", "--tag", "hall", "--attr", "floor=2")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stdout, "admitted lamp light")
	wantText(t, stderr, "plug: ", "a device with this id exists", "1 of 2 failed")
	wantText(t, strings.Join(*asked, "\n"), `POST /api/v1/discovered/lamp/admit {"type":"light","tags":["hall"],"attributes":{"floor":"2"}}`)
	*asked = nil
	status, stdout, stderr = h.hubctl(t, "bridge", "admit", "--all", "--json")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stdout, `"id": "lamp"`)
	wantText(t, strings.Join(*asked, "\n"), "lamp/admit {}", "plug/admit {}")
	for _, wrong := range [][]string{{"bridge", "admit"}, {"bridge", "admit", "lamp", "--all"}} {
		status, _, stderr = h.hubctl(t, wrong...)
		wantStatus(t, status, exitUsage, stderr)
	}
}

func TestIgnoredDevicesAreNoticedAgain(t *testing.T) {
	h, asked := discoveringHub(t)
	status, stdout, stderr := h.hubctl(t, "bridge", "ignore", "guest")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "guest is ignored")
	status, stdout, stderr = h.hubctl(t, "bridge", "ignore", "--undo", "guest")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "guest is not ignored any more")
	wantText(t, strings.Join(*asked, "\n"), "PUT /api/v1/ignored-devices/guest", "DELETE /api/v1/ignored-devices/guest")
}

func TestSeenDevicesComplete(t *testing.T) {
	h, _ := discoveringHub(t)
	for _, words := range [][]string{{"bridge", "admit", "la"}, {"bridge", "admit", "plug", "la"}, {"bridge", "ignore", "la"}} {
		status, stdout, stderr := h.hubctl(t, append([]string{"__complete"}, words...)...)
		wantStatus(t, status, exitOK, stderr)
		if stdout != "lamp\n" {
			t.Errorf("after %v: %q", words, stdout)
		}
	}
}
