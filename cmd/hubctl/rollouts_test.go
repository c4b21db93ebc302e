package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const rolloutID = "20260102-030405-abcdef"

// rolloutOf is a rollout with these outcomes.
func rolloutOf(state string, counts object) object {
	return object{
		"id": rolloutID, "state": state, "to": object{"tags": []string{"lamp"}, "attributes": object{"floor": "2"}, "online": true}, "devices": 10, "method": "set",
		"params": object{"level": 40}, "offline": "queue", "timeout_ms": 5000, "waves": object{"sizes": []string{"1", "50%"}, "pause_ms": 60000, "timeout_ms": 10000},
		"limits": object{"failures": "20%"}, "counts": counts, "failures": 2, "wave": object{"number": 2, "of": 3, "devices": 5, "open": 1}, "actor": "ada", "created": at1,
		"history": []object{{"state": "running", "time": at1, "actor": "ada"}, {"state": state, "time": at1, "cause": "2 of 6 devices failed; the limit is 20%"}},
	}
}

func TestSendToMany(t *testing.T) {
	h := newHub(t)
	var asked []string
	h.mux.HandleFunc("POST /api/v1/commands", func(w http.ResponseWriter, r *http.Request) {
		var body json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		if r.URL.Query().Get("limit") == "1" { // for the schema
			reply(t, w, 200, object{"count": 10, "devices": []object{{"id": "a"}}, "next": "1"})
			return
		}
		asked = append(asked, r.URL.RawQuery+string(body)+r.Header.Get("Idempotency-Key"))
		reply(t, w, 201, rolloutOf("running", object{"pending": 10}))
	})
	h.serve(t, "GET /api/v1/devices/a/methods", 200, object{"methods": []object{{"name": "set", "taken": true, "listed": true, "params": object{"properties": object{"mode": object{"type": "string"}}}}}})
	status, stdout, stderr := h.hubctl(t, "send", "--to", "tag=lamp", "--to", "id=a,b", "--to", "attr.floor=2", "--to", "type=x", "--to", "online", "set", "level=40", "mode=1",
		"--wave", "1,50%", "--pause", "1m", "--wave-timeout", "2m", "--max-failures", "20%", "--max-wave-failures", "2", "--min-ended", "4", "--offline", "skip",
		"--expires", "1h", "--timeout", "5s", "--delivery", "at-least-once", "--key", "k")
	wantStatus(t, status, exitOK, stderr)
	if stdout != rolloutID+"\n" {
		t.Errorf("stdout %q", stdout)
	}
	wantText(t, stderr, "to 10 devices has begun", "hubctl rollouts show "+rolloutID)
	want := `{"to":{"ids":["a","b"],"tags":["lamp"],"attributes":{"floor":"2"},"type":"x","online":true},"method":"set","params":{"level":40,"mode":"1"},` +
		`"delivery":"at-least-once","expires":"1h","timeout":"5s","offline":"skip","waves":{"sizes":["1","50%"],"pause":"1m","timeout":"2m"},` +
		`"limits":{"failures":"20%","wave_failures":"2","minimum":4}}k`
	if len(asked) != 1 || asked[0] != want {
		t.Errorf("asked %s\nwant  %s", asked, want)
	}
	status, _, stderr = h.hubctl(t, "send", "--to", "all", "ping")
	wantStatus(t, status, exitOK, stderr)
	if want := `{"to":{"all":true},"method":"ping"}`; asked[1] != want {
		t.Errorf("asked %s, want %s", asked[1], want)
	}
}

func TestTheExitStatusTellsARolloutsOutcome(t *testing.T) {
	for _, c := range []struct {
		state  string
		counts object
		want   int
	}{
		{"done", object{"done": 10}, exitOK},
		{"done", object{"done": 7, "failed": 1, "unknown": 1, "expired": 1}, exitFailed},
		{"done", object{"done": 9, "rejected": 1}, exitFailed},
		{"done", object{"done": 8, "unknown": 1, "skipped": 1}, exitUnknown},
		{"done", object{"done": 9, "expired": 1}, exitNotRun},
		{"done", object{"done": 9, "skipped": 1}, exitNotRun},
		{"cancelled", object{"done": 9, "cancelled": 1}, exitNotRun},
		{"stopped", object{"done": 4, "failed": 2, "pending": 4}, exitFailed},
		{"paused", object{"done": 4, "pending": 6}, exitPending},
	} {
		h := newHub(t)
		h.serve(t, "POST /api/v1/commands", 201, rolloutOf("running", object{"pending": 10}))
		h.serve(t, "GET /api/v1/rollouts/"+rolloutID, 200, rolloutOf(c.state, c.counts))
		status, stdout, stderr := h.hubctl(t, "send", "--to", "all", "ping", "--wait", "--json")
		if status != c.want {
			t.Errorf("%s %v: status %d, want %d", c.state, c.counts, status, c.want)
		}
		var shown struct{ State string }
		if err := json.Unmarshal([]byte(stdout), &shown); err != nil || shown.State != c.state {
			t.Errorf("%s: %v", stdout, err)
		}
		wantText(t, stderr, "wave 2 of 3, 0 of 10 devices have their outcome", c.state)
	}
}

func TestDryRun(t *testing.T) {
	h := newHub(t)
	h.mux.HandleFunc("POST /api/v1/commands", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("dry_run") != "true" {
			t.Error("it was no dry run")
		}
		page := object{"count": 3, "online": 2, "offline": 1, "waves": 2, "refused": 1, "refusals": []object{{"device": "c", "reason": "method: no"}}}
		page["devices"], page["next"] = []object{{"id": "a", "online": true}, {"id": "b"}}, "2"
		if r.URL.Query().Get("cursor") == "2" {
			page["devices"], page["next"] = []object{{"id": "c", "online": true}}, ""
		}
		reply(t, w, 200, page)
	})
	status, stdout, stderr := h.hubctl(t, "send", "--to", "all", "ping", "--dry-run")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "3 devices, 2 online, 1 offline; waves: 2; nothing was sent", "1 of 3 devices cannot be sent this")
	wantGolden(t, "rollouts-dry-run", stdout)
	_, stdout, _ = h.hubctl(t, "send", "--to", "all", "ping", "--dry-run", "--json")
	var p struct {
		Count   int
		Devices []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(stdout), &p); err != nil || p.Count != 3 || len(p.Devices) != 3 {
		t.Errorf("%s, %v", stdout, err)
	}
}

func TestDevicesThatRefuseARolloutAreTold(t *testing.T) {
	h := newHub(t)
	var faults []object
	for range 25 {
		faults = append(faults, object{"location": "body", "message": "params: speed: is missing", "value": "pump-7"})
	}
	h.serve(t, "POST /api/v1/commands", 422, object{"title": "Unprocessable Entity", "status": 422, "detail": "25 of 30 devices cannot be sent this", "reason": "devices_refuse", "errors": faults})
	status, _, stderr := h.hubctl(t, "send", "--to", "all", "set")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "hubctl: pump-7: params: speed: is missing\n", "… and 5 more", "hubctl: 25 of 30 devices cannot be sent this")
	if n := strings.Count(stderr, "pump-7"); n != mostFaults {
		t.Errorf("%d devices are told", n)
	}
}

func TestRollouts(t *testing.T) {
	h := newHub(t)
	var asked []string
	h.mux.HandleFunc("/api/v1/rollouts/", func(w http.ResponseWriter, r *http.Request) {
		var body strings.Builder
		if r.Body != nil {
			_ = json.NewEncoder(&body).Encode(r.ContentLength > 0)
		}
		asked = append(asked, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api/v1/rollouts/")+" "+strings.TrimSpace(body.String()))
		reply(t, w, 200, rolloutOf("stopped", object{"done": 4, "failed": 2, "pending": 4}))
	})
	h.serve(t, "GET /api/v1/rollouts", 200, object{"rollouts": []object{rolloutOf("stopped", object{"done": 4, "failed": 2, "pending": 4})}, "next": ""})
	h.mux.HandleFunc("GET /api/v1/rollouts/{id}/devices", func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("outcome"); got != "failures" {
			t.Errorf("outcome %q", got)
		}
		reply(t, w, 200, object{"devices": []object{{"device": "a", "outcome": "failed", "command": "01C", "cause": "stuck\x1b[2J", "time": at1}, {"device": "b", "outcome": "rejected", "cause": "not sent"}}, "next": ""})
	})
	for name, args := range map[string][]string{
		"rollouts-ls": {"rollouts", "ls"}, "rollouts-show": {"rollouts", "show", "x"}, "rollouts-failed": {"rollouts", "failed", "x"},
	} {
		status, stdout, stderr := h.hubctl(t, args...)
		wantStatus(t, status, exitOK, stderr)
		wantGolden(t, name, stdout)
	}
	asked = nil
	for _, args := range [][]string{
		{"pause", "x"}, {"resume", "x"}, {"resume", "x", "--max-failures", "5"}, {"resume", "x", "--no-limit"}, {"cancel", "x", "--json"},
	} {
		status, stdout, stderr := h.hubctl(t, append([]string{"rollouts"}, args...)...)
		wantStatus(t, status, exitOK, stderr)
		wantText(t, stdout, rolloutID)
	}
	if got := strings.Join(asked, ", "); got != "POST x/pause false, POST x/resume false, POST x/resume true, POST x/resume true, DELETE x false" {
		t.Errorf("asked %s", got)
	}
}
