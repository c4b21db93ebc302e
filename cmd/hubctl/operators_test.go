package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestOperators(t *testing.T) {
	h := newHub(t)
	const eve = `{"name":"eve","role":"operator","scope":{"tags":["hall","yard"]},"enabled":false,"created":"2026-01-02T03:04:05Z","tokens":[` +
		`{"name":"ci","created":"2026-01-02T03:04:05Z","expires":"2026-01-03T03:04:05Z","expired":true},{"name":"default","created":"2026-01-02T03:04:05Z","last_used":"2026-01-02T04:00:00Z"}]}`
	h.serve(t, "GET /api/v1/operators", 200, `{"operators":[{"name":"admin","role":"admin","enabled":true,"created":"2026-01-02T03:04:05Z","tokens":[{"name":"default","created":"2026-01-02T03:04:05Z"}]},`+eve+`]}`)
	h.serve(t, "GET /api/v1/operators/eve", 200, eve)
	var asked []string
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			asked = append(asked, strings.TrimSpace(r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api/v1/operators")+" "+string(data)))
			if body == "" {
				w.WriteHeader(status)
				return
			}
			reply(t, w, status, body)
		}
	}
	h.mux.HandleFunc("POST /api/v1/operators", answer(201, `{"name":"new","role":"viewer","enabled":true,"tokens":[],"token":"op_new"}`))
	h.mux.HandleFunc("PATCH /api/v1/operators/eve", answer(200, eve))
	h.mux.HandleFunc("DELETE /api/v1/operators/eve", answer(204, ""))
	h.mux.HandleFunc("POST /api/v1/operators/eve/token", answer(201, `{"name":"ci","token":"op_ci"}`))
	h.mux.HandleFunc("DELETE /api/v1/operators/eve/tokens/{token}", answer(200, eve))

	status, out, stderr := h.hubctl(t, "operators", "ls")
	wantStatus(t, status, exitOK, stderr)
	for _, want := range []string{"NAME", "admin  admin", "all", "tagged hall or yard", "disabled", "ci (expired), default"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	status, out, stderr = h.hubctl(t, "operators", "show", "eve")
	wantStatus(t, status, exitOK, stderr)
	if !strings.Contains(out, "2026-01-03T03:04:05.000Z (expired)") || !strings.Contains(out, "never") {
		t.Errorf("show:\n%s", out)
	}
	for _, c := range []struct {
		args, asked, out string
	}{
		{"operators add new --role viewer --tag hall --tag yard --expires 90d", `POST  {"name":"new","role":"viewer","scope":{"tags":["hall","yard"]},"expires_in":"90d"}`, "op_new\n"},
		{"operators add new --role admin --token-name laptop", `POST  {"name":"new","role":"admin","token_name":"laptop"}`, "op_new\n"},
		{"operators set eve --role admin --all-devices", `PATCH /eve {"role":"admin","scope":null}`, "operator"},
		{"operators set eve --tag a --disable", `PATCH /eve {"enabled":false,"scope":{"tags":["a"]}}`, "operator"},
		{"operators rm eve", "DELETE /eve", "removed eve"},
		{"operators token eve --name ci --expires 30d", `POST /eve/token {"expires_in":"30d","name":"ci"}`, "op_ci\n"},
		{"operators token eve --revoke", "DELETE /eve/tokens/default", "operator"},
	} {
		asked = nil
		status, out, stderr := h.hubctl(t, strings.Fields(c.args)...)
		wantStatus(t, status, exitOK, stderr)
		if len(asked) != 1 || asked[0] != c.asked || !strings.HasPrefix(out, c.out) {
			t.Errorf("%s: asked %q, want %q; said %q", c.args, asked, c.asked, out)
		}
	}
	for _, wrong := range []string{"operators add new", "operators add new --role root", "operators set eve", "operators set eve --tag a --all-devices", "operators token eve --revoke --expires 1d"} {
		if status, _, stderr := h.hubctl(t, strings.Fields(wrong)...); status != exitUsage {
			t.Errorf("%s: status %d: %s", wrong, status, stderr)
		}
	}
}

func TestWhoami(t *testing.T) {
	for body, want := range map[string]string{
		`{"name":"admin","role":"admin"}`: "admin, admin of all devices, at https://",
		`{"name":"eve","role":"viewer","scope":{"tags":["a","b"]},"until":"2026-01-02T03:04:05Z"}`: "eve, viewer of devices tagged a or b, until 2026-01-02T03:04:05.000Z, at https://",
	} {
		h := newHub(t)
		h.serve(t, "GET /api/v1/me", 200, body)
		status, out, stderr := h.hubctl(t, "whoami")
		wantStatus(t, status, exitOK, stderr)
		if !strings.HasPrefix(out, want) {
			t.Errorf("%q, want %q", out, want)
		}
	}
}
