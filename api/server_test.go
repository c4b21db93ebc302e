package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"telemetryhub/api"
	"telemetryhub/commands"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// yes reports whether a member of JSON is true.
func yes(v any) bool {
	is, ok := v.(bool)
	return ok && is
}

func itoa(n int) string { return strconv.Itoa(n) }

// bench is an API with fakes behind it, on a real listener.
type bench struct {
	*fakeHub
	t      *testing.T
	api    *api.Server
	url    string
	client *http.Client
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newAPI makes a Server over fakes, without a listener.
func newAPI(t *testing.T, hub *fakeHub, cfg api.Config, log io.Writer) *api.Server {
	t.Helper()
	registry := prometheus.NewRegistry()
	s, err := api.New(cfg, api.Deps{
		Operators: fakeOperators{hub}, Accounts: &hub.accounts, Registry: fakeRegistry{hub}, Importer: fakeImporter{hub}, Proofs: fakeProofs{hub}, Sessions: fakeSessions{hub}, Commands: fakeCommands{hub},
		Profiles: hub.profiles(cfg), Throttle: fakeThrottle{hub},
		Ingest: fakeIngest{hub}, History: fakeHistory{hub}, Quarantine: fakeQuarantine{hub}, Replays: fakeReplays{hub}, Types: fakeTypes{hub}, Acts: fakeActs{hub},
		Rollouts: fakeRollouts{hub}, Catalogue: fakeCatalogue(t), Enrolment: fakeEnrolment{hub}, Discovery: &hub.discovery, Bridges: fakeBridges{}, States: fakeStates{hub},
		Certificates: noCertificates{}, Issuer: fakeIssuer{hub},
		Readiness: fakeReadiness{hub},
		Feeds: api.Feeds{
			Telemetry: func(_ []string, n int) api.Feed[api.LiveTelemetry] { return hub.telemetry.open(n) },
			Presence:  hub.changes.open, Commands: hub.commands.open, Rollouts: hub.rollouts.open, States: hub.states.open,
			Discovery: hub.discovery.found.open,
		},
		CAPEM: []byte("-----BEGIN CERTIFICATE-----\n"), Gatherer: registry, Metrics: registry, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newBench(t *testing.T, cfg api.Config) *bench {
	t.Helper()
	b := &bench{fakeHub: newFakeHub(), t: t, log: &lockedBuffer{}}
	b.api = newAPI(t, b.fakeHub, cfg, b.log)
	server := httptest.NewServer(b.api.Handler())
	b.url, b.client = server.URL, server.Client()
	b.client.Timeout = time.Minute
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() {
		b.api.Close()
		server.Close()
	})
	return b
}

// ask makes a request; with are headers as "Name: value".
func (b *bench) ask(method, path, token, body string, with ...string) *answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, line := range with {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := &answer{t: b.t, what: method + " " + path, status: resp.StatusCode, header: resp.Header}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return a // it does not end by itself
	}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		b.t.Fatal(err)
	}
	return a
}

type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	body   []byte
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// wantProblem checks that the answer is a problem of that status and reason, and returns it.
func (a *answer) wantProblem(status int, reason string) (p api.Problem) {
	a.t.Helper()
	a.want(status)
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		a.t.Errorf("%s: Content-Type %q", a.what, ct)
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		a.t.Fatalf("%s: %v: %s", a.what, err, a.body)
	}
	if p.Reason != reason || p.Status != status || p.Type != "about:blank" || p.Title != http.StatusText(status) || p.Detail == "" {
		a.t.Errorf("%s: problem %s, want reason %q", a.what, a.body, reason)
	}
	return p
}

func (a *answer) json() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.t.Fatalf("%s: %v: %s", a.what, err, a.body)
	}
	return v
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	b := newBench(t, api.Config{})
	p := b.ask("GET", "/api/v1/nothing", "op_admin", "").wantProblem(404, "no_such_path")
	if !strings.Contains(p.Detail, "/api/v1/nothing") {
		t.Errorf("detail %q does not name the path", p.Detail)
	}
	b.ask("GET", "/api", "", "").wantProblem(404, "no_such_path")
	a := b.ask("PUT", "/api/v1/devices", "op_admin", "{}")
	a.wantProblem(405, "method_not_allowed")
	if allow := a.header.Get("Allow"); !strings.Contains(allow, "GET") || !strings.Contains(allow, "POST") {
		t.Errorf("Allow: %q", allow)
	}
	head := b.ask("HEAD", "/api/v1/devices", "op_viewer", "").want(200)
	if len(head.body) != 0 {
		t.Errorf("HEAD has a body: %q", head.body)
	}
}

func TestErrorsOfTheInsideStayInside(t *testing.T) {
	b := newBench(t, api.Config{})
	b.historyErr = errSecret
	a := b.ask("GET", "/api/v1/devices/d1/telemetry", "op_viewer", "")
	a.wantProblem(500, "internal")
	if strings.Contains(string(a.body), "hunter2") {
		t.Errorf("the error went out: %s", a.body)
	}
	if !strings.Contains(b.log.String(), "hunter2") {
		t.Error("the error is not in the log")
	}

	b.historyErr = &api.UnavailableError{Message: "InfluxDB does not answer", After: 3 * time.Second, Err: errSecret}
	a = b.ask("GET", "/api/v1/devices/d1/telemetry", "op_viewer", "")
	if p := a.wantProblem(503, "unavailable"); p.RetryAfterMs != 3000 || a.header.Get("Retry-After") != "3" || p.Detail != "InfluxDB does not answer" {
		t.Errorf("%s, Retry-After %q", a.body, a.header.Get("Retry-After"))
	}
}

func TestPanicBecomesAProblem(t *testing.T) {
	b := newBench(t, api.Config{})
	b.wait = func(context.Context) commands.Command { panic("hunter2") }
	a := b.ask("POST", "/api/v1/devices/d1/commands?wait=1s", "op_operator", `{"method":"ping"}`)
	a.wantProblem(500, "internal")
	if strings.Contains(string(a.body), "hunter2") || !strings.Contains(b.log.String(), "hunter2") {
		t.Errorf("answer %s, log %s", a.body, b.log)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := api.New(api.Config{MaxLive: -1}, api.Deps{Log: slog.New(slog.DiscardHandler)})
	for _, want := range []string{"max_live: -1", "Operators", "Registry", "History", "Gatherer", "feed"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestHealth(t *testing.T) {
	b := newBench(t, api.Config{})
	if got := b.ask("GET", "/healthz", "", "").want(200).json(); got["status"] != "ok" {
		t.Errorf("healthz: %v", got)
	}
	if got := b.ask("GET", "/readyz", "", "").want(200).json(); !yes(got["ready"]) {
		t.Errorf("readyz: %v", got)
	}
	b.ready = []api.Part{{Name: "journal", OK: true}, {Name: "store", Message: "does not answer"}}
	if got := b.ask("GET", "/readyz", "", "").want(503).json(); yes(got["ready"]) || len(got["parts"].([]any)) != 2 {
		t.Errorf("readyz: %v", got)
	}
	ca := b.ask("GET", "/ca.pem", "", "").want(200)
	if !strings.HasPrefix(string(ca.body), "-----BEGIN") || ca.header.Get("Content-Type") != "application/x-pem-file" {
		t.Errorf("ca.pem: %q %s", ca.body, ca.header)
	}
	metrics := string(b.ask("GET", "/metrics", "op_viewer", "").want(200).body)
	if want := `hub_http_request_seconds_count{code="5xx",route="/readyz"} 1`; !strings.Contains(metrics, want) {
		t.Errorf("no %s in:\n%s", want, metrics)
	}
	if strings.Contains(metrics, "d1") {
		t.Error("a device's id is a label")
	}
}
