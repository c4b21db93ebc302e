package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	at1 = "2026-01-02T03:04:05.5Z"
	at2 = "2026-01-02T03:04:07Z"
)

var story = []object{
	{"state": "accepted", "time": at1, "actor": "ann"},
	{"state": "sent", "time": at1},
	{"state": "done", "time": at2, "actor": "device"},
}

func TestGoldenOutput(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/devices", 200, object{"devices": []object{
		{"id": "node-1", "type": "room", "tags": []string{"hall", "north"}, "enabled": true, "online": true, "transport": "wss", "latest": object{"Temp": object{"value": 20.25, "ts": 1458031648545}, "ok": object{"value": true, "ts": 1}}},
		{"id": "node-2", "enabled": true, "online": false},
		{"id": "evil\u001b[2J", "enabled": false, "online": false, "disconnected_at": at1},
	}, "next": ""})
	h.serve(t, "GET /api/v1/devices/node-1", 200, object{
		"id": "node-1", "type": "room", "tags": []string{"hall"}, "attributes": object{"floor": "2"}, "enabled": true, "created": at1,
		"online": false, "transport": "wss", "remote": "127.0.0.1:9", "disconnected_at": at2, "cause": "no pong", "firmware": "1.2",
		"clock_offset_ms": -2500, "units": object{"Temp": "Cel", "RH": "%RH"},
	})
	h.serve(t, "GET /api/v1/devices/node-1/latest", 200, object{"device": "node-1", "ts": 1458031648545, "values": object{
		"Temp": object{"value": 20.125, "ts": 1458031648545, "age_ms": 1500, "unit": "Cel"}, "door": object{"value": "open", "ts": 1458031648000, "age_ms": 7_200_000},
	}})
	h.serve(t, "GET /api/v1/devices/node-1/telemetry", 200, object{"readings": []object{
		{"ts": 1458031648545, "values": object{"Temp": 20.123456789012345, "Hum": 40}}, {"ts": 1458031649545, "values": object{"Temp": 21, "note": "a,b"}},
	}, "next": ""})
	command := object{
		"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "device": "node-1", "method": "set", "params": object{"on": true}, "state": "done", "delivery": "at-most-once",
		"result": object{"ok": true}, "late": true, "created": at1, "expires": at2, "timeout_ms": 30000, "actor": "ann", "history": story,
	}
	h.serve(t, "GET /api/v1/commands/01ARZ3NDEKTSV4RRFFQ69G5FAV", 200, command)
	h.serve(t, "GET /api/v1/commands", 200, object{"commands": []object{command}, "next": ""})
	h.serve(t, "GET /api/v1/audit", 200, object{
		"total":   object{"received": 10, "stored": 6, "duplicate": 1, "quarantined": 1, "queued": 0, "refused": object{"bad_json": 2}},
		"devices": []object{{"device": "node-1", "received": 10, "stored": 6, "duplicate": 1, "quarantined": 1, "refused": object{"bad_json": 2}}},
	})
	h.serve(t, "GET /api/v1/quarantine", 200, object{"items": []object{{"id": "7", "device": "node-1", "reason": "bad_value", "received": at1, "frame": "{\"a\":\n1}"}}, "next": ""})
	h.serve(t, "GET /readyz", 200, object{"ready": true, "parts": []object{{"name": "store", "ok": true, "message": "embedded"}}})
	h.serve(t, "GET /metrics", 200, "hub_up 1\n")
	h.serve(t, "DELETE /api/v1/devices/node-1", 200, object{"id": "node-1", "data": "its readings stay in the store"})

	for name, args := range map[string][]string{
		"devices-ls":      {"devices", "ls", "--latest"},
		"devices-ls.json": {"--json", "devices", "ls"},
		"devices-show":    {"devices", "show", "node-1"},
		"devices-rm":      {"devices", "rm", "node-1"},
		"latest":          {"latest", "node-1"},
		"history":         {"history", "node-1"},
		"history.csv":     {"history", "node-1", "--csv", "--fields", "Temp,note"},
		"history.json":    {"history", "node-1", "--json"},
		"commands-ls":     {"commands", "ls"},
		"commands-show":   {"commands", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"},
		"commands.json":   {"commands", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--json"},
		"audit":           {"audit"},
		"audit.json":      {"audit", "--json"},
		"quarantine":      {"quarantine", "ls"},
		"health":          {"health"},
		"metrics":         {"metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := h.hubctl(t, args...)
			wantStatus(t, status, exitOK, stderr)
			wantGolden(t, name, stdout)
		})
	}
}

func TestQueriesReachTheHub(t *testing.T) {
	h := newHub(t)
	var got string
	h.mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.String()
		reply(t, w, 200, object{})
	})
	for want, args := range map[string][]string{
		"/api/v1/devices?limit=1000&online=false&q=no&tag=hall":                                 {"devices", "ls", "--offline", "--tag", "hall", "-q", "no"},
		"/api/v1/devices/a:b/telemetry?every=5m&fields=T%2CH&fn=mean&from=-1h&limit=20&to=1234": {"history", "a:b", "--fields", "T,H", "--from", "-1h", "--to", "1234", "--every", "5m", "-n", "20"},
		"/api/v1/commands?device=d1&limit=50&state=unknown":                                     {"commands", "ls", "d1", "--state", "unknown"},
		"/api/v1/audit?device=d1":                                                               {"audit", "d1"},
		"/api/v1/quarantine?device=d1&reason=bad_value":                                         {"quarantine", "ls", "--device", "d1", "--reason", "bad_value"},
	} {
		if status, _, stderr := h.hubctl(t, args...); status != exitOK || got != want {
			t.Errorf("%v asked %s, want %s (%s)", args, got, want, stderr)
		}
	}
	status, _, stderr := h.hubctl(t, "history", "a", "--from", "-365d", "--windows", "500")
	wantStatus(t, status, exitOK, stderr)
	wantText(t, got, "/api/v1/devices/a/telemetry?fn=mean&from=-365d&limit=1000&windows=500")
}

func TestWrongCommandLines(t *testing.T) {
	h := newHub(t)
	for want, args := range map[string][]string{
		"expected one of":            {},
		"unexpected argument":        {"devcies"},
		`expected "<device>"`:        {"send"},
		"say what d1 is to do":       {"send", "d1"},
		"--wave goes with --to":      {"send", "d1", "m", "--wave", "10%"},
		"--to lamps: it is tag=T":    {"send", "--to", "lamps", "m"},
		"--to tag=: it is tag=T":     {"send", "--to", "tag=", "m"},
		"no device has two types":    {"send", "--to", "type=a", "--to", "type=b", "m"},
		`"on" is not key=value`:      {"send", "--to", "all", "m", "on"},
		"--no-limit stands alone":    {"rollouts", "resume", "x", "--no-limit", "--max-failures", "5"},
		"see hubctl devices show":    {"devices", "show"},
		`"novalue" is not key=value`: {"send", "d1", "m", "novalue"},
		"a is given twice":           {"send", "d1", "m", "a=1", "a=2"},
		"--params is not a JSON":     {"send", "d1", "m", "--params", "{"},
		"can be added to --params":   {"send", "d1", "m", "--params", "[1]", "a=1"},
		"--delivery must be":         {"send", "d1", "m", "--delivery", "twice"},
		"are positive":               {"send", "d1", "m", "--timeout=-1s"},
		"read the token":             {"audit", "--token-file", "/does/not/exist"},
		"authority's certificate":    {"audit", "--ca", "/does/not/exist"},
		"must begin with https":      {"audit", "--url", "ftp://x"},
	} {
		status, _, stderr := h.hubctl(t, args...)
		wantStatus(t, status, exitUsage, stderr)
		wantText(t, stderr, want)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/devices/nobody", 404, object{"title": "Not Found", "detail": "no device nobody", "reason": "unknown_device"})
	status, stdout, stderr := h.hubctl(t, "devices", "show", "nobody")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "no device nobody", "hubctl devices ls")
	if stdout != "" {
		t.Errorf("stdout = %q", stdout)
	}
	h.env["HUB_TOKEN"] = "op_other"
	status, _, stderr = h.hubctl(t, "audit")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "credentials are missing or wrong", "does not know this token")
	t.Chdir(t.TempDir())
	delete(h.env, "HUB_TOKEN")
	_, _, stderr = h.hubctl(t, "audit")
	wantText(t, stderr, "--token-file")
	delete(h.env, "HUB_CA")
	_, _, stderr = h.hubctl(t, "audit")
	wantText(t, stderr, "--ca DIR/tls/ca.pem")
}

func TestFindsTheHubOfThisFolder(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /metrics", 200, "up 1\n")
	ca, err := filepath.Abs(h.env["HUB_CA"])
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	writeFile(t, "data/admin.token", []byte("op_secret\n"))
	delete(h.env, "HUB_TOKEN")
	status, stdout, stderr := h.hubctl(t, "metrics")
	wantStatus(t, status, exitOK, stderr)
	if stdout != "up 1\n" {
		t.Errorf("stdout = %q", stdout)
	}
	// The token of this machine's hub is not for another machine.
	cfg, err := (&commandLine{URL: "https://hub.example"}).connection(func(string) string { return "" })
	if err != nil || cfg.Token != "" {
		t.Errorf("to another machine: token %q, %v", cfg.Token, err)
	}
	// Flags, before or after the subcommand, win over the environment.
	h.env["HUB_TOKEN"], h.env["HUB_URL"] = "wrong", "https://127.0.0.1:1"
	writeFile(t, "other.token", []byte("op_secret"))
	status, _, stderr = h.hubctl(t, "--url", h.URL, "metrics", "--token-file", "other.token", "--ca", ca)
	wantStatus(t, status, exitOK, stderr)
}

func TestAuditThatDoesNotAddUp(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/audit", 200, object{"total": object{"received": 10, "stored": 9}, "devices": []object{{"device": "d1", "received": 10, "stored": 9}}})
	status, _, stderr := h.hubctl(t, "audit")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "d1: the account does not add up, by 1", "1 of 10")
}

func TestDevicesAddPrintsTheTokenAlone(t *testing.T) {
	h := newHub(t)
	var body string
	h.mux.HandleFunc("POST /api/v1/devices", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		reply(t, w, 201, object{"id": "d1", "token": "dev_x", "enabled": true})
	})
	status, stdout, stderr := h.hubctl(t, "devices", "add", "d1", "--type", "room", "--tag", "a", "--tag", "b", "--attr", "floor=2")
	wantStatus(t, status, exitOK, stderr)
	if stdout != "dev_x\n" {
		t.Errorf("stdout = %q, want the token alone", stdout)
	}
	if want := `{"id":"d1","type":"room","tags":["a","b"],"attributes":{"floor":"2"}}`; body != want {
		t.Errorf("body = %s, want %s", body, want)
	}
	wantText(t, stderr, "wss://127.0.0.1")
}

func TestDevicesSet(t *testing.T) {
	h := newHub(t)
	var body string
	h.mux.HandleFunc("PATCH /api/v1/devices/d1", func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		reply(t, w, 200, object{"id": "d1"})
	})
	for want, args := range map[string][]string{
		`{"enabled":false}`:                 {"--disable"},
		`{"tags":[]}`:                       {"--no-tags"},
		`{"type":"","tags":["x"]}`:          {"--type=", "--tag=x"},
		`{"attributes":{"a":"1","b":null}}`: {"--attr", "a=1", "--no-attr", "b"},
	} {
		status, _, stderr := h.hubctl(t, append([]string{"devices", "set", "d1"}, args...)...)
		wantStatus(t, status, exitOK, stderr)
		if body != want {
			t.Errorf("%v sent %s, want %s", args, body, want)
		}
	}
}

func TestHealthWaits(t *testing.T) {
	h := newHub(t)
	asked := 0
	h.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		asked++
		status := 503
		if asked > 2 {
			status = 200
		}
		reply(t, w, status, object{"ready": status == 200, "parts": []object{{"name": "store", "ok": status == 200, "message": "opening"}}})
	})
	status, stdout, stderr := h.hubctl(t, "health")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stdout, "store  no     opening")
	status, _, stderr = h.hubctl(t, "health", "--wait", "60s")
	wantStatus(t, status, exitOK, stderr)
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
	h.env["HUB_URL"] = "https://127.0.0.1:1"
	status, _, stderr = h.hubctl(t, "health", "--wait", "60ms")
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "is the hub running?")
}

func TestHealthWaitsForTheFilesOfANewHub(t *testing.T) {
	h := newHub(t)
	ca, err := os.ReadFile(h.env["HUB_CA"])
	if err != nil {
		t.Fatal(err)
	}
	delete(h.env, "HUB_CA")
	t.Chdir(t.TempDir())
	h.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		reply(t, w, 200, object{"ready": true})
	})
	status, _, stderr := h.hubctl(t, "health", "--wait", "60s") // distrusted twice: it ends at once
	wantStatus(t, status, exitError, stderr)
	wantText(t, stderr, "--ca DIR/tls/ca.pem")

	// The file comes while hubctl waits: the environment, which is asked at each try, writes it at the second.
	for _, args := range [][]string{{"health", "--wait", "60s"}, {"health", "--wait", "60s", "--ca", "data/tls/ca.pem"}} {
		if err := os.RemoveAll("data"); err != nil {
			t.Fatal(err)
		}
		tries := 0
		getenv := func(name string) string {
			if name == "HUB_URL" {
				if tries++; tries == 2 {
					writeFile(t, "data/tls/ca.pem", ca)
				}
			}
			return h.env[name]
		}
		var out, errOut bytes.Buffer
		status = run(t.Context(), args, &out, &errOut, getenv)
		wantStatus(t, status, exitOK, errOut.String())
	}
	if status, _, stderr = h.hubctl(t, "health", "--ca", "missing.pem"); status != exitUsage {
		t.Errorf("without --wait: %d (%s)", status, stderr)
	}
}

func TestWatch(t *testing.T) {
	h := newHub(t)
	h.mux.HandleFunc("GET /api/v1/live", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range []string{
			"telemetry\ndata: {\"device\":\"d1\",\"measurement\":\"telemetry\",\"readings\":[{\"ts\":1458031648545,\"values\":{\"T\":1.5,\"s\":\"a\\u001bb\"}}]}",
			"missed\ndata: {\"count\":4}",
			"presence\ndata: {\"device\":\"d1\",\"online\":true,\"transport\":\"wss\",\"time\":\"" + at1 + "\"}",
			"presence\ndata: {\"device\":\"d1\",\"online\":false,\"cause\":\"no pong\",\"time\":\"" + at2 + "\"}",
			"command\ndata: {\"id\":\"01C\",\"device\":\"d1\",\"method\":\"m\",\"state\":\"done\",\"result\":{\"a\":1},\"created\":\"" + at1 + "\",\"late\":true}",
		} {
			_, _ = fmt.Fprintf(w, "event: %s\n\n", event)
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for name, args := range map[string][]string{
		"watch": {"watch", "-n", "4"}, "watch.json": {"watch", "-n", "4", "--json"}, "watch-raw": {"watch", "-n", "4", "--raw"},
	} {
		status, stdout, stderr := h.hubctl(t, args...)
		wantStatus(t, status, exitOK, stderr)
		wantGolden(t, name, stdout)
		if name == "watch" {
			wantText(t, stderr, "4 events were not shown")
		}
	}
}

func TestWatchConnectsAgain(t *testing.T) {
	h := newHub(t)
	times := 0
	h.mux.HandleFunc("GET /api/v1/live", func(w http.ResponseWriter, r *http.Request) {
		times++
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: presence\ndata: {\"device\":\"d1\",\"online\":true,\"time\":\""+at1+"\"}\n\n")
	})
	status, stdout, stderr := h.hubctl(t, "watch", "-n", "2", "d1")
	wantStatus(t, status, exitOK, stderr)
	if times != 2 || strings.Count(stdout, "\n") != 2 {
		t.Errorf("connected %d times, printed %q", times, stdout)
	}
	wantText(t, stderr, "what happens meanwhile is not shown")
}

func TestCompletion(t *testing.T) {
	h := newHub(t)
	h.serve(t, "GET /api/v1/devices", 200, object{"devices": []object{{"id": "node-1"}, {"id": "node-2"}, {"id": "x"}}})
	for want, words := range map[string][]string{
		"devices":                     {"dev"},
		"show\nset":                   {"devices", "s"},
		"show\nset ":                  {"--json", "--url", "https://x", "devices", "s"},
		"node-1\nnode-2":              {"send", "node"},
		"":                            {"send", "node-1", "p"},
		"--timeout":                   {"send", "node-1", "--ti"},
		"mean\nmin\nmax":              {"history", "x", "--fn", "m"},
		"bash\nzsh\nfish":             {"completion", ""},
		"--token-file":                {"commands", "ls", "--tok"},
		"at-most-once\nat-least-once": {"send", "--delivery", "at"},
	} {
		status, stdout, stderr := h.hubctl(t, append([]string{"__complete"}, words...)...)
		wantStatus(t, status, exitOK, stderr)
		if strings.TrimSpace(stdout) != strings.TrimSpace(want) {
			t.Errorf("after %v: %q, want %q", words, stdout, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, stdout, stderr := h.hubctl(t, "completion", shell)
		wantStatus(t, status, exitOK, stderr)
		wantText(t, stdout, "__complete")
	}
}

func TestHelpNamesExitStatusAndEnvironment(t *testing.T) {
	h := newHub(t)
	for _, args := range [][]string{{"--help"}, {"send", "--help"}, {"send", "d1", "-h"}} {
		status, stdout, stderr := h.hubctl(t, args...)
		wantStatus(t, status, exitOK, stderr)
		wantText(t, stdout, "Exit status", "unknown whether it ran", "HUB_URL", "HUB_TOKEN", "HUB_CA", "./data/admin.token")
	}
	status, stdout, _ := h.hubctl(t, "version")
	wantStatus(t, status, exitOK, "")
	wantText(t, stdout, "hubctl ")
}

func TestHistoryWhoseFieldsChange(t *testing.T) {
	h := newHub(t)
	var rows []object
	for i := range 1001 {
		field := "a"
		if i == 1000 {
			field = "b"
		}
		rows = append(rows, object{"ts": i, "values": object{field: i}})
	}
	h.serve(t, "GET /api/v1/devices/d1/telemetry", 200, object{"readings": rows})
	status, stdout, stderr := h.hubctl(t, "history", "d1", "-n", "0")
	wantStatus(t, status, exitOK, stderr)
	if got := strings.Count(stdout, "TIME"); got != 2 {
		t.Errorf("%d headings, want 2", got)
	}
	status, _, stderr = h.hubctl(t, "history", "d1", "-n", "0", "--csv")
	wantStatus(t, status, exitUsage, stderr)
	wantText(t, stderr, "--fields")
}
