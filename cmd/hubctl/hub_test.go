package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

type object = map[string]any

// hub is a server that speaks the REST shapes, and the environment that hubctl finds it by.
type hub struct {
	*httptest.Server
	mux *http.ServeMux
	env map[string]string
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{mux: http.NewServeMux()}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if open := r.URL.Path == "/readyz"; !open && r.Header.Get("Authorization") != "Bearer op_secret" {
			reply(t, w, http.StatusUnauthorized, object{"title": "Unauthorized", "detail": "credentials are missing or wrong", "reason": "unauthorized"})
			return
		}
		h.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	h.env = map[string]string{"HUB_URL": h.URL, "HUB_TOKEN": "op_secret", "HUB_CA": ca}
	writeFile(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
	return h
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serve answers a path with a fixed body.
func (h *hub) serve(t *testing.T, pattern string, status int, body any) {
	t.Helper()
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { reply(t, w, status, body) })
}

func reply(t *testing.T, w http.ResponseWriter, status int, body any) {
	t.Helper()
	kind := "application/json"
	if status >= 400 {
		kind = "application/problem+json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	if text, ok := body.(string); ok {
		_, _ = io.WriteString(w, text)
		return
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		t.Error(err)
	}
}

// hubctl runs the command line as main does.
func (h *hub) hubctl(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	status = run(t.Context(), args, &out, &errOut, func(name string) string { return h.env[name] })
	return status, out.String(), errOut.String()
}

// wantGolden compares with a file in testdata; go test -update writes it.
func wantGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		writeFile(t, file, []byte(got))
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func wantStatus(t *testing.T, got, want int, stderr string) {
	t.Helper()
	if got != want {
		t.Errorf("exit status %d, want %d; stderr: %s", got, want, stderr)
	}
}

func wantText(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%q does not say %q", got, part)
		}
	}
}
