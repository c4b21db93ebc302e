package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/api/client"
	"telemetryhub/auth/acts"
)

const secret = "hunter2-swordfish"

// typesOfTest is a configuration whose type radio has a method with a secret, and one for administrators.
const typesOfTest = `
types:
  - name: radio
    methods:
      wifi:
        timeout: 20s
        params:
          type: object
          required: [ssid, psk]
          additionalProperties: false
          properties:
            ssid: {type: string}
            psk: {type: string, minLength: 8, writeOnly: true}
            channel: {type: integer, minimum: 1, maximum: 13, default: 6}
      wipe: {role: admin}
log: {level: debug}
`

// startWith starts a hub with a configuration.
func startWith(t *testing.T, config string) *hubProcess {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startHub(t, t.TempDir(), "--config", file)
}

// newRadio registers a device of the type radio and returns its token.
func (h *hubProcess) newRadio(id string) string {
	h.t.Helper()
	var made struct{ Token string }
	if status := h.call(http.MethodPost, "/api/v1/devices", map[string]string{"id": id, "type": "radio"}, &made); status != http.StatusCreated {
		h.t.Fatalf("create device %s: %d", id, status)
	}
	return made.Token
}

// open makes a request as the administrator; the answer's body is the caller's.
func (h *hubProcess) open(ctx context.Context, method, path, accept, body string) *http.Response {
	h.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.token())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", accept)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp
}

// export returns the audit log's lines, each as text and as an act.
func (h *hubProcess) export(query string) (text string, found []acts.Act) {
	h.t.Helper()
	resp := h.open(h.t.Context(), http.MethodGet, "/api/v1/acts?"+query, "application/x-ndjson", "")
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("export: %d, %v", resp.StatusCode, err)
	}
	for line := range strings.Lines(string(all)) {
		var a acts.Act
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			h.t.Fatalf("%q: %v", line, err)
		}
		found = append(found, a)
	}
	return string(all), found
}

func TestACommandThatDoesNotFitIsRefusedBeforeItIsSent(t *testing.T) {
	h := startWith(t, typesOfTest)
	ws := h.dial("r1", h.newRadio("r1"))
	send(t, ws, `{"id":1,"method":"hello","params":{"methods":["wifi","wipe","dance"]}}`)
	receive(t, ws)

	var p client.Problem
	if status := h.call(http.MethodPost, "/api/v1/devices/r1/commands", map[string]any{"method": "wifi", "params": map[string]any{"psk": "short", "channel": 14, "x/y": 1}}, &p); status != http.StatusUnprocessableEntity || p.Reason != "bad_params" {
		t.Fatalf("%d %+v", status, p)
	}
	var got []string
	for _, f := range p.Errors {
		got = append(got, f.Pointer+": "+f.Message)
	}
	want := []string{"/channel: must be at most 13", "/psk: must have at least 8 characters, not 5", "/ssid: is missing", "/x~1y: is not known here"}
	if !slices.Equal(got, want) {
		t.Errorf("faults %q, want %q", got, want)
	}
	if status := h.call(http.MethodPost, "/api/v1/devices/r1/commands", map[string]any{"method": "dance"}, &p); status != http.StatusUnprocessableEntity || p.Reason != "unknown_method" {
		t.Errorf("a method that the type has not: %d %+v", status, p)
	}
	if status := h.call(http.MethodPost, "/api/v1/devices/nobody/commands", map[string]any{"method": "dance"}, &p); status != http.StatusNotFound {
		t.Errorf("a device that is not there: %d", status)
	}
	var list struct{ Commands []client.Command }
	h.call(http.MethodGet, "/api/v1/commands", nil, &list)
	if len(list.Commands) != 0 {
		t.Errorf("the ledger has %+v", list.Commands)
	}

	// The first frame that the device gets is that of the command that fits.
	var cmd client.Command
	if status := h.call(http.MethodPost, "/api/v1/devices/r1/commands", map[string]any{"method": "wifi", "params": map[string]any{"ssid": "hall", "psk": secret}}, &cmd); status != http.StatusCreated || cmd.TimeoutMs != 20_000 {
		t.Fatalf("%d %+v", status, cmd)
	}
	if _, frame, err := ws.ReadMessage(); err != nil || !strings.Contains(string(frame), `"method":"wifi","params":{"channel":6,"psk":"`+secret+`","ssid":"hall"}`) {
		t.Errorf("the device got %s, %v", frame, err)
	}
	_, refused := h.export("outcome=refused&act=command")
	if len(refused) != 3 || refused[0].Reason != "bad_params" || refused[1].Reason != "unknown_method" || refused[2].Reason != "device_not_found" {
		t.Errorf("refused acts %+v", refused)
	}
}

// TestASecretParameterIsShownToNobody looks for it in all that the hub says, and in what it logs.
func TestASecretParameterIsShownToNobody(t *testing.T) {
	h := startWith(t, typesOfTest)
	ws := h.dial("r1", h.newRadio("r1"))
	send(t, ws, `{"id":1,"method":"hello"}`)
	receive(t, ws)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	live := h.open(ctx, http.MethodGet, "/api/v1/live?kind=command", "text/event-stream", "")
	defer live.Body.Close()

	said := map[string]string{}
	sent := h.open(t.Context(), http.MethodPost, "/api/v1/devices/r1/commands", "application/json", `{"method":"wifi","params":{"ssid":"hall","psk":"`+secret+`"}}`)
	text, err := io.ReadAll(sent.Body)
	if err != nil {
		t.Fatal(err)
	}
	sent.Body.Close()
	said["the answer"] = string(text)
	var cmd client.Command
	if err := json.Unmarshal(text, &cmd); err != nil || sent.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %v", text, err)
	}
	if _, frame, err := ws.ReadMessage(); err != nil || !strings.Contains(string(frame), secret) {
		t.Fatalf("the device got %s, %v", frame, err)
	}
	send(t, ws, fmt.Sprintf(`{"method":"progress","params":{"id":%q,"message":"joining with %s"}}`, cmd.ID, secret))
	send(t, ws, fmt.Sprintf(`{"id":%q,"error":{"code":-5,"message":"%s is wrong","data":{"psk":%q}}}`, cmd.ID, secret, secret))
	until(t, "the command has failed", func() bool {
		h.call(http.MethodGet, "/api/v1/commands/"+cmd.ID, nil, &cmd)
		return cmd.State == "failed"
	})
	// Refused ones too, misspelt in each way.
	for _, body := range []string{
		`{"method":"wify","params":{"psk":"` + secret + `"}}`, `{"method":"wifi","params":{"ssid":"a","pks":"` + secret + `"}}`,
		`{"method":"wifi","params":{"ssid":5,"psk":"` + secret + `"}}`, `{"method":"wifi","params":{"ssid":"a","psk":["` + secret + `"]}}`,
		`{"method":"wifi","params":"` + secret + `"}`, `{"method":"wifi","params":{"psk":"` + secret + `"`,
	} {
		r := h.open(t.Context(), http.MethodPost, "/api/v1/devices/r1/commands", "application/json", body)
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode/100 != 4 {
			t.Errorf("%s: %d", body, r.StatusCode)
		}
		said["the answer to "+body] = string(text)
	}
	for _, path := range []string{"/api/v1/commands", "/api/v1/commands/" + cmd.ID, "/api/v1/devices/r1/commands", "/api/v1/devices/r1", "/api/v1/acts", "/metrics"} {
		r := h.open(t.Context(), http.MethodGet, path, "*/*", "")
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		said[path] = string(text)
	}
	said["acts as lines"], _ = h.export("")
	for _, args := range [][]string{{"commands", "show", cmd.ID}, {"commands", "ls", "--json"}, {"commands", "show", cmd.ID, "--json"}} {
		out, errs, _ := h.ctl(args...)
		said[strings.Join(args, " ")] = out + errs
	}
	var events bytes.Buffer
	for buf := make([]byte, 4096); !strings.Contains(events.String(), `"failed"`); {
		n, err := live.Body.Read(buf)
		if events.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
	said["the live stream"] = events.String()
	said["standard error"] = h.stderr.String()
	for where, text := range said {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows it: %s", where, text)
		}
	}
	for _, where := range []string{"the answer", "acts as lines", "the live stream", "/api/v1/commands", "commands show " + cmd.ID} {
		if !strings.Contains(said[where], "[secret]") {
			t.Errorf("%s does not say that there is one: %s", where, said[where])
		}
	}
	if where := filesWith(t, h.data, secret); len(where) == 0 || slices.ContainsFunc(where, func(name string) bool { return !strings.Contains(name, "KV_commands") }) {
		t.Errorf("on disk it lies in %q, want in the ledger's bucket alone", where)
	}
}

// filesWith lists the files below a folder that hold a text.
func filesWith(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.Contains(data, []byte(text)) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestNoCommandIsMissingInTheAuditLogAfterAKill(t *testing.T) {
	h := startWith(t, typesOfTest)
	token := h.newDevice("d1")
	sent := map[string]bool{}
	for range 4 {
		ws := h.dial("d1", token)
		send(t, ws, `{"id":1,"method":"hello"}`)
		receive(t, ws)
		for range 5 {
			var cmd client.Command
			if status := h.call(http.MethodPost, "/api/v1/devices/d1/commands", map[string]any{"method": "ping"}, &cmd); status != http.StatusCreated {
				t.Fatal(status)
			}
			sent[cmd.ID] = true
		}
		h.kill() // right after the answer: acts of commands gather for longer than that
		ws.Close()
		h.again()
	}
	var found []acts.Act
	until(t, "all commands are in the audit log", func() bool {
		_, found = h.export("act=command.send")
		return len(found) >= len(sent)
	})
	seen, recovered := map[string]int{}, 0
	for _, a := range found {
		seen[a.Target]++
		if a.Recovered {
			recovered++
		}
		if !sent[a.Target] || a.Actor != "admin" || a.Role != "admin" || a.Origin != "127.0.0.1" || a.Device != "d1" || a.Facts["method"] != "ping" {
			t.Errorf("act %+v", a)
		}
	}
	for id := range sent {
		if seen[id] != 1 {
			t.Errorf("command %s is in the audit log %d times", id, seen[id])
		}
	}
	if recovered == 0 {
		t.Error("no kill came between the ledger and the audit log: the test has shown nothing")
	}
	_, created := h.export("act=device.create")
	if len(created) != 1 || created[0].Device != "d1" {
		t.Errorf("%+v: what was answered is durable", created)
	}
}

func TestActsComeFromTheAddressThatTheProxySays(t *testing.T) {
	for _, test := range []struct {
		forwarded bool
		remote    string
		headers   []string
		want      string
	}{
		{true, "127.0.0.1:5", []string{"203.0.113.7"}, "203.0.113.7:0"},
		{true, "[::1]:5", []string{"10.9.9.9, 2001:db8::1"}, "[2001:db8::1]:0"}, // the first is what the client said
		{true, "127.0.0.1:5", []string{"10.9.9.9", "203.0.113.7"}, "203.0.113.7:0"},
		{true, "127.0.0.1:5", []string{"203.0.113.7, unknown"}, "127.0.0.1:5"},
		{true, "127.0.0.1:5", nil, "127.0.0.1:5"},
		{true, "192.0.2.1:5", []string{"203.0.113.7"}, "192.0.2.1:5"},
		{false, "127.0.0.1:5", []string{"203.0.113.7"}, "127.0.0.1:5"},
	} {
		got := ""
		handler := behindProxy(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }), test.forwarded)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr, r.Header = test.remote, http.Header{"X-Forwarded-For": test.headers}
		if handler.ServeHTTP(httptest.NewRecorder(), r); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}

	var lc net.ListenConfig
	free, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	h := startWith(t, "http: {listen: '"+address+"', forwarded: true}\n")
	for target, header := range map[string]string{"http://" + address: "203.0.113.7", h.url: "203.0.113.8"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target+"/api/v1/login", strings.NewReader(`{"token":"wrong"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Forwarded-For", header)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), DisableKeepAlives: true}}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	var origins []string
	until(t, "both failures are written", func() bool {
		_, found := h.export("act=login.failed&from=" + time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
		origins = nil
		for _, a := range found {
			origins = append(origins, a.Origin)
		}
		return len(origins) == 2
	})
	if slices.Sort(origins); !slices.Equal(origins, []string{"127.0.0.1", "203.0.113.7"}) {
		t.Errorf("origins %q, want the proxy's word only on the listener that is for it", origins)
	}
}
