package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// startLogged starts a hub at level debug; log reads all that it has said until then.
func startLogged(t *testing.T, config string) (h *hubProcess, log func() string) {
	t.Helper()
	dir := t.TempDir()
	file, words := filepath.Join(dir, "hub.yaml"), filepath.Join(dir, "stderr")
	if err := os.WriteFile(file, []byte("log: {level: debug}\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	h = &hubProcess{t: t, data: t.TempDir(), args: []string{"--config", file}}
	h.start("127.0.0.1:0", "127.0.0.1:0", "sh", "-c", `exec "$@" 2>>"$0"`, words)
	t.Cleanup(h.kill)
	return h, func() string {
		text, err := os.ReadFile(words)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// keepsSecrets looks for secrets, by what they are, in the log, the audit log and the metrics.
func (h *hubProcess) keepsSecrets(log string, secrets map[string]string) {
	h.t.Helper()
	told, _ := h.export("")
	for place, text := range map[string]string{"the log": log, "the audit log": told, "the metrics": h.metrics()} {
		if len(text) < 100 {
			h.t.Errorf("%s is empty: %q", place, text)
		}
		for what, secret := range secrets {
			_, bare, marked := strings.Cut(secret, "_")
			if len(secret) < 8 {
				h.t.Errorf("%s is too short to be looked for", what)
			}
			if strings.Contains(text, secret) || marked && len(bare) >= 8 && strings.Contains(text, bare) {
				h.t.Errorf("%s is in %s", what, place)
			}
		}
	}
}

// TestNoOperatorsSecretIsLogged goes the ways that a token or cookie can come, rightly and wrongly, at level debug.
func TestNoOperatorsSecretIsLogged(t *testing.T) {
	t.Parallel()
	h, log := startLogged(t, "")
	secrets := map[string]string{"the admin's token": h.token(), "a wrong token": "op_wrong-0123456789", "a token that is too long": "op_" + strings.Repeat("x1y2", 80)}
	var made, token, dev struct{ Token string }
	h.call(http.MethodPost, "/api/v1/operators", map[string]any{"name": "eve", "role": "viewer"}, &made)
	h.call(http.MethodPost, "/api/v1/operators/eve/token", map[string]any{"name": "ci", "expires_in": "1h"}, &token)
	h.call(http.MethodPost, "/api/v1/devices", map[string]any{"id": "d1"}, &dev)
	secrets["a new operator's token"], secrets["a second token"], secrets["a device's token"] = made.Token, token.Token, dev.Token

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls()}}
	defer client.CloseIdleConnections()
	ask := func(method, path, body string, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for _, line := range headers {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusSwitchingProtocols { // which has no end
			_, _ = io.Copy(io.Discard, answer.Body)
		}
		_ = answer.Body.Close()
		return answer
	}
	var statuses []int
	// The first is no operator's: that it is wrong is logged, but not of each of the many wrong ones that follow.
	for _, what := range slices.Sorted(maps.Keys(secrets)) {
		secret := secrets[what]
		login := ask("POST", "/api/v1/login", fmt.Sprintf(`{"token":%q}`, secret))
		statuses = append(statuses, login.StatusCode)
		for _, c := range login.Cookies() {
			if strings.Count(c.Value, ".") == 2 {
				secrets["a cookie"], secrets["a cookie's signature"] = c.Value, c.Value[strings.LastIndexByte(c.Value, '.')+1:]
				ask("GET", "/api/v1/devices", "", "Cookie: hub_session="+c.Value)
				ask("PATCH", "/api/v1/devices/d1", "{", "Cookie: hub_session="+c.Value) // says nothing of its origin
				ask("POST", "/api/v1/logout", "", "Cookie: hub_session="+c.Value)
			}
		}
		for _, header := range []string{"Bearer " + secret, "Basic " + secret, "bearer  " + secret, secret} {
			ask("GET", "/api/v1/devices", "", "Authorization: "+header)
			ask("POST", "/api/v1/devices/d1/commands", "{", "Authorization: "+header)
			ask("GET", "/connect", "", "Authorization: "+header)
			ask("POST", "/api/v1/devices/d1/telemetry", `{"n":}`, "Authorization: "+header)
		}
		ask("GET", "/api/v1/devices?token="+secret, "")
		ask("GET", "/connect?token="+secret, "")
		ask("GET", "/connect/d1?token="+secret, "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
		ask("POST", "/api/v1/login", fmt.Sprintf(`{"token":%q,"more":1}`, secret))
		ask("POST", "/api/v1/login", fmt.Sprintf(`{"token":%q`, secret))
		ask("POST", "/api/v1/login", fmt.Sprintf(`{"tokens":%q}`, secret))
	}
	if got := fmt.Sprint(statuses); !strings.Contains(got, "204") || !strings.Contains(got, "40") {
		t.Errorf("logins were answered with %s", got)
	}
	h.keepsSecrets(log(), secrets)
	if text := log(); !strings.Contains(text, "level=DEBUG") || !strings.Contains(text, "operator logged in") || !strings.Contains(text, "login refused") {
		t.Errorf("the log does not tell of what was done:\n%.2000s", text)
	}
}
