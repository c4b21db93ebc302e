package main

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

func TestTypesLsAndSet(t *testing.T) {
	h := newHub(t)
	var asked []string
	temp := object{
		"measurement": "telemetry", "field": "temp", "type": "float", "stored_as": "temp_float", "changed_by": "ada", "changed_at": at1,
		"earlier": []object{{"type": "string", "stored_as": "temp"}},
	}
	h.mux.HandleFunc("GET /api/v1/types", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if r.URL.Query().Get("cursor") == "" {
			reply(t, w, 200, object{"items": []object{temp}, "next": "p2"})
			return
		}
		reply(t, w, 200, object{"items": []object{{"measurement": "telemetry", "field": "x", "type": "integer", "stored_as": "x"}}, "next": ""})
	})
	h.mux.HandleFunc("PUT /api/v1/types/{measurement}/{field}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.PathValue("measurement")+" "+r.PathValue("field")+" "+string(body))
		if r.PathValue("field") == "taken" {
			reply(t, w, 409, object{"status": 409, "reason": "field_taken", "detail": "that name is taken"})
			return
		}
		set := object{"state": "applied", "message": "Values are stored by the name temp_float."}
		maps.Copy(set, temp)
		reply(t, w, 200, set)
	})
	status, stdout, stderr := h.hubctl(t, "types", "ls", "--measurement", "telemetry")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, stdout, "temp_float", "temp string", "ada", "integer")
	if len(asked) != 2 || asked[1] != "/api/v1/types?cursor=p2&measurement=telemetry" {
		t.Errorf("asked %q", asked)
	}
	for _, c := range []struct {
		args, want string
		status     int
	}{
		{"types set telemetry.temp float", `telemetry temp {"type":"float"}`, exitOK},
		{"types set telemetry.a.b integer --as ab", `telemetry a.b {"type":"integer","stored_as":"ab"}`, exitOK},
		{"types set a.b string --measurement m.x --json", `m.x a.b {"type":"string"}`, exitOK},
		{"types set telemetry.taken float", `telemetry taken {"type":"float"}`, exitError},
		{"types set temp float", "", exitUsage},
		{"types set telemetry.temp double", "", exitUsage},
	} {
		asked = nil
		status, stdout, stderr := h.hubctl(t, strings.Fields(c.args)...)
		wantStatus(t, status, c.status, stderr)
		if got := strings.TrimSpace(strings.Join(asked, "")); got != c.want {
			t.Errorf("%s: asked %s, want %s", c.args, got, c.want)
		}
		if c.status == exitOK {
			wantText(t, stdout, "temp_float", "applied", "Values are stored by the name temp_float.")
		}
	}
}
