package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// ctlAs runs hubctl with another token than the administrator's and returns what it prints and its exit status.
func (h *hubProcess) ctlAs(token string, args ...string) (said string, status int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), program(h.t, "hubctl"), args...)
	cmd.Env = append(os.Environ(), "HUB_URL="+h.url, "HUB_CA="+h.ca(), "HUB_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// mustCtl runs hubctl as the administrator.
func (h *hubProcess) mustCtl(args ...string) string {
	h.t.Helper()
	out, stderr, status := h.ctl(args...)
	if status != 0 {
		h.t.Fatalf("hubctl %s: %d %s", strings.Join(args, " "), status, stderr)
	}
	return strings.TrimSpace(out)
}

// liveAs opens a live stream; what it shows comes line by line, and the channel is closed at its end.
func (h *hubProcess) liveAs(credentials string) <-chan string {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/api/v1/live", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	name, value, _ := strings.Cut(credentials, ": ")
	r.Header.Set(name, value)
	answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), DisableKeepAlives: true}}).Do(r)
	if err != nil || answer.StatusCode != http.StatusOK {
		h.t.Fatalf("live: %v, %v", answer, err)
	}
	lines, done := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		defer answer.Body.Close()
		for s := bufio.NewScanner(answer.Body); s.Scan(); {
			lines <- s.Text()
		}
	}()
	h.t.Cleanup(func() { cancel(); <-done })
	return lines
}

// endsWithin waits for the end of a stream and returns what it still showed.
func endsWithin(t *testing.T, lines <-chan string, limit time.Duration) (shown []string) {
	t.Helper()
	late := time.After(limit)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return shown
			}
			shown = append(shown, line)
		case <-late:
			t.Errorf("the stream has not ended within %v", limit)
			return shown
		}
	}
}

func TestAScopedOperatorSeesAndCommandsItsDevicesOnly(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	tokens := map[string]string{}
	for id, tag := range map[string]string{"hall-1": "hall", "yard-1": "yard"} {
		tokens[id] = h.mustCtl("devices", "add", id, "--tag", tag)
	}
	eve := h.mustCtl("operators", "add", "eve", "--role", "operator", "--tag", "hall")
	live := h.liveAs("Authorization: Bearer " + eve)
	for id, token := range tokens {
		ws := h.dial(id, token)
		send(t, ws, `{"id":1,"method":"telemetry","params":{"values":{"n":1}}}`)
		receive(t, ws)
		go func() { // a device that does what it is told
			for {
				var command struct{ ID json.RawMessage }
				if ws.ReadJSON(&command) != nil {
					return
				}
				_ = ws.WriteJSON(map[string]any{"id": command.ID, "result": "ok"})
			}
		}()
	}
	for _, want := range []struct {
		args              string
		status            int
		says, saysNothing string
	}{
		{"whoami", 0, "eve, operator of devices tagged hall", ""},
		{"devices ls", 0, "hall-1", "yard-1"},
		{"devices export", 0, "hall-1", "yard-1"},
		{"devices show yard-1", 1, `there is no device "yard-1"`, "yard,"},
		{"why yard-1", 1, "there is no device", ""},
		{"history yard-1", 1, "there is no device", ""},
		{"state set yard-1 a=1", 1, "there is no device", ""},
		{"send yard-1 ping --wait", 1, "there is no device", ""},
		{"send hall-1 ping --wait", 0, "done", ""},
		{"send --to id=hall-1,yard-1 ping", 1, "yard-1", ""},
		{"send --to all ping --dry-run", 0, "hall-1", "yard-1"},
		{"send --to tag=yard ping", 1, "no enabled device", "yard-1"},
		{"send --to all ping --wait", 0, "done", "yard-1"},
		{"commands ls", 0, "hall-1", "yard-1"},
		{"rollouts ls", 0, "eve", ""},
		{"audit", 0, "hall-1", "yard-1"},
		{"quarantine ls", 0, "", "yard-1"},
		{"types ls", 1, "this concerns all devices", ""},
		{"metrics", 1, "this concerns all devices", ""},
		{"replay --from -1h", 1, "needs the role admin", ""},
		{"operators ls", 1, "needs the role admin", ""},
		{"acts", 1, "needs the role admin", ""},
		{"devices add mine --tag hall", 1, "needs the role admin", ""},
		{"health", 0, "yes", ""},
		{"devices methods yard-1", 1, "there is no device", ""},
		{"send --to online ping --dry-run --json", 0, `"count": 1`, "yard-1"},
		{"quarantine retry --reason bad_value", 1, "say which device", ""},
		{"quarantine retry --device yard-1 --json", 1, "there is no device", ""},
	} {
		said, status := h.ctlAs(eve, strings.Fields(want.args)...)
		if status != want.status || !strings.Contains(said, want.says) || want.saysNothing != "" && strings.Contains(said, want.saysNothing) {
			t.Errorf("hubctl %s: status %d\n%s", want.args, status, said)
		}
	}

	// Narrowed, she sees nothing more, in a stream that is open, by a cookie and after a kill.
	cookie := h.loginAs(eve)
	byCookie := h.liveAs("Cookie: " + cookie)
	h.mustCtl("operators", "set", "eve", "--tag", "cellar")
	for _, lines := range []<-chan string{live, byCookie} {
		for _, line := range endsWithin(t, lines, time.Minute) {
			if strings.Contains(line, "yard-1") {
				t.Errorf("the stream showed %s", line)
			}
		}
	}
	for when := range 2 {
		if said, status := h.ctlAs(eve, "devices", "ls", "--json"); status != 0 || strings.TrimSpace(said) != "[]" {
			t.Errorf("narrowed: %d %s", status, said)
		}
		if when == 0 {
			h.kill()
			h.again()
		}
	}
	byCookie = h.liveAs("Cookie: " + cookie)
	h.mustCtl("operators", "set", "eve", "--disable")
	endsWithin(t, byCookie, time.Minute)
	if said, status := h.ctlAs(eve, "whoami"); status != 1 || !strings.Contains(said, "token is wrong") {
		t.Errorf("disabled: %d %s", status, said)
	}
	h.mustCtl("operators", "set", "eve", "--enable", "--all-devices")
	if said, _ := h.ctlAs(eve, "devices", "ls"); !strings.Contains(said, "yard-1") {
		t.Errorf("of all devices: %s", said)
	}
	byCookie = h.liveAs("Cookie: " + cookie)
	ci := h.mustCtl("operators", "token", "eve", "--name", "ci", "--expires", "1h")
	h.mustCtl("operators", "token", "eve", "--revoke")
	endsWithin(t, byCookie, time.Minute)
	byToken := h.liveAs("Authorization: Bearer " + ci)
	h.mustCtl("operators", "rm", "eve")
	endsWithin(t, byToken, time.Minute)
	if _, stderr, status := h.ctl("operators", "rm", "admin"); status != 1 || !strings.Contains(stderr, "nobody would be left") {
		t.Errorf("the last administrator: %d %s", status, stderr)
	}

	text, acts := h.export("act=operator")
	var told []string
	for _, a := range acts {
		told = append(told, strings.TrimSpace(fmt.Sprint(a.Act, " ", a.Target, " ", a.Outcome, " ", a.Reason)))
	}
	want := "operator.create eve accepted, operator.update eve accepted, operator.update eve accepted, operator.update eve accepted, " +
		"operator.token eve accepted, operator.token.revoke eve accepted, operator.delete eve accepted, operator.delete admin refused last_admin"
	if got := strings.Join(told, ", "); got != want || strings.Contains(text, eve) {
		t.Errorf("the audit log has %s", got)
	}
}

// loginAs returns the cookie of a login, as NAME=VALUE.
func (h *hubProcess) loginAs(token string) string {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+"/api/v1/login", strings.NewReader(fmt.Sprintf(`{"token":%q}`, token)))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), DisableKeepAlives: true}}).Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || len(answer.Cookies()) != 1 {
		h.t.Fatalf("login: %d %s", answer.StatusCode, text)
	}
	return answer.Cookies()[0].Name + "=" + answer.Cookies()[0].Value
}

func TestALostAdminTokenIsReplacedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	lost := h.token()
	if err := h.terminate(); err != nil {
		t.Fatal(err)
	}
	h.args = append(h.args, "--new-admin-token")
	h.again()
	if h.token() == lost {
		t.Fatal("the token is the old one")
	}
	if said := h.mustCtl("whoami"); !strings.HasPrefix(said, "admin, admin of all devices") {
		t.Errorf("the new token: %s", said)
	}
	if said, status := h.ctlAs(lost, "whoami"); status != 1 {
		t.Errorf("the lost token: %s", said)
	}
	if text, found := h.export("act=operator.recover"); len(found) != 1 || strings.Contains(text, h.token()) {
		t.Errorf("the audit log has %s", text)
	}
}
