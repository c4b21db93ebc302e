package api_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"telemetryhub/api"
)

// operation is what the OpenAPI document says of one operation.
type operation struct {
	method, path string
	ID           string                     `json:"operationId"`
	Role         string                     `json:"x-hub-role"`
	Scope        string                     `json:"x-hub-scope"`
	Summary      string                     `json:"summary"`
	Responses    map[string]json.RawMessage `json:"responses"`
	Security     *[]map[string][]string     `json:"security"`
}

func (b *bench) operations() (all []operation) {
	b.t.Helper()
	var doc struct {
		OpenAPI    string                                `json:"openapi"`
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	a := b.ask("GET", "/api/v1/openapi.json", "", "").want(200)
	if err := json.Unmarshal(a.body, &doc); err != nil {
		b.t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		b.t.Errorf("openapi %q", doc.OpenAPI)
	}
	for _, name := range []string{"Problem", "LiveTelemetry", "LivePresence", "Command", "Device"} {
		if doc.Components.Schemas[name] == nil {
			b.t.Errorf("no schema %s in the document", name)
		}
	}
	for _, part := range strings.Split(string(a.body), `"$ref":"#/components/schemas/`)[1:] {
		if name, _, _ := strings.Cut(part, `"`); doc.Components.Schemas[name] == nil {
			b.t.Errorf("the document refers to a schema %s that is not in it", name)
		}
	}
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			op := operation{method: strings.ToUpper(method), path: path}
			if err := json.Unmarshal(raw, &op); err != nil {
				b.t.Fatalf("%s %s: %v", method, path, err)
			}
			all = append(all, op)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return all
}

// request fills in the path.
func (op operation) request() string {
	id := "d1"
	if strings.HasPrefix(op.path, "/api/v1/commands/") {
		id = commandID
	}
	return strings.NewReplacer("{id}", id, "{token}", "default", "{measurement}", "telemetry", "{field}", "temp").Replace(op.path)
}

// TestRolesOfEveryOperation goes through the document, so that a new operation is tested without being named here.
func TestRolesOfEveryOperation(t *testing.T) {
	callers := []struct {
		name, token string
		rank        int
	}{{"nobody", "", 0}, {"viewer", "op_viewer", 1}, {"operator", "op_operator", 2}, {"admin", "op_admin", 3}, {"wrong token", "op_wrong", 0}, {"device", "dev_2", 0}}
	need := map[string]int{"open": 0, "viewer": 1, "operator": 2, "admin": 3}
	bodies := map[string]string{
		"create-device": `{"id":"d9"}`, "change-device": `{"type":"x"}`, "send-command": `{"method":"ping"}`, "login": `{"token":"op_viewer"}`, "start-replay": `{"from":"-24h"}`, "set-type": `{"type":"float"}`,
		"start-rollout":        `{"to":{"all":true},"method":"ping"}`,
		"create-enrolment-key": `{"name":"batch","limit":3}`, "enrol": `{"id":"d9"}`,
		"create-operator": `{"name":"new","role":"viewer"}`,
	}
	b := newBench(t, api.Config{})
	ops := b.operations()
	if len(ops) < 20 {
		t.Fatalf("the document has %d operations", len(ops))
	}
	for _, op := range ops {
		rank, known := need[op.Role]
		if op.Summary == "" || op.Responses["default"] == nil || op.Security == nil || (!known && op.Role != "device" && op.Role != "enrolment key") {
			t.Errorf("%s: incomplete in the document: role %q, summary %q", op.ID, op.Role, op.Summary)
		}
		for _, caller := range callers {
			t.Run(op.ID+"/"+caller.name, func(t *testing.T) {
				b := newBench(t, api.Config{}) // an operation may delete what the next would need
				body := bodies[op.ID]
				if body == "" && op.method != http.MethodGet {
					body = "{}"
				}
				a := b.ask(op.method, op.request(), caller.token, body)
				switch {
				case op.Role == "device" && caller.token == "dev_2":
					a.wantProblem(403, "wrong_device")
				case op.Role == "device", op.Role == "enrolment key", known && rank > 0 && caller.rank == 0:
					if a.want(401).wantProblem(401, a.problem().Reason); a.header.Get("WWW-Authenticate") == "" {
						t.Error("401 without WWW-Authenticate")
					}
				case caller.rank < rank:
					a.wantProblem(403, "role")
				default:
					if a.status == 401 || a.status == 403 || a.status >= 500 {
						t.Errorf("status %d: %s", a.status, a.body)
					}
				}
			})
		}
	}
}

// TestWhatRolesMayDo holds the roles themselves: a viewer changes nothing, devices are an admin's.
func TestWhatRolesMayDo(t *testing.T) {
	b := newBench(t, api.Config{})
	least := map[string]string{
		"list-acts": "admin", "list-enrolment-keys": "admin", "get-enrolment-key": "admin", "enrol": "enrolment key",
		"list-operators": "admin", "get-operator": "admin",
		"login": "open", "logout": "open", "healthz": "open", "readyz": "open", "ca": "open", "post-telemetry": "device", "report-state": "device", "renew-credentials": "device", "change-state": "operator", "try-bridge": "viewer",
		"unfreeze-device": "operator", "probe-device": "operator", "send-command": "operator", "cancel-command": "operator", "retry-command": "operator", "retry-quarantined": "operator", "retry-quarantine": "operator",
		"start-rollout": "operator", "pause-rollout": "operator", "resume-rollout": "operator", "cancel-rollout": "operator",
	}
	for _, op := range b.operations() {
		want := least[op.ID]
		if want == "" {
			want = "viewer"
			if op.method != http.MethodGet {
				want = "admin"
			}
		}
		if op.Role != want {
			t.Errorf("%s %s needs %s, want %s", op.method, op.path, op.Role, want)
		}
	}
}

func (a *answer) problem() (p api.Problem) {
	_ = json.Unmarshal(a.body, &p) // wantProblem complains
	return p
}

func TestCookieLoginAndCSRF(t *testing.T) {
	b := newBench(t, api.Config{})
	a := b.ask("POST", "/api/v1/login", "", `{"token":"op_admin"}`, "Sec-Fetch-Site: same-origin").want(204)
	cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if cookie.Name != "hub_session" || !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Expires.IsZero() {
		t.Errorf("cookie %+v", cookie)
	}
	with := "Cookie: hub_session=" + cookie.Value
	if me := b.ask("GET", "/api/v1/me", "", "", with).want(200).json(); me["name"] != "ada" || me["role"] != "admin" {
		t.Errorf("me: %v", me)
	}
	own := "Origin: " + b.url
	for _, c := range []struct {
		name    string
		headers []string
		token   string
		status  int
	}{
		{"own page", []string{with, "Sec-Fetch-Site: same-origin"}, "", 200},
		{"own page, old browser", []string{with, own}, "", 200},
		{"another site", []string{with, "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, "", 403},
		{"a sibling's page", []string{with, "Sec-Fetch-Site: same-site", "Origin: https://b.localhost"}, "", 403},
		{"another site, old browser", []string{with, "Origin: https://evil.example"}, "", 403},
		{"says nothing", []string{with}, "", 403},
		{"token from anywhere", []string{"Origin: https://evil.example"}, "op_admin", 200},
		{"wrong cookie", []string{"Cookie: hub_session=x", own}, "", 401},
		{"wrong token beside a good cookie", []string{with, own}, "op_wrong", 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := b.ask("PATCH", "/api/v1/devices/d1", c.token, `{}`, c.headers...).want(c.status)
			if c.status == 403 {
				a.wantProblem(403, "cross_origin")
			}
		})
	}
	b.ask("POST", "/api/v1/login", "", `{"token":"op_viewer"}`, "Origin: https://evil.example").wantProblem(403, "cross_origin")

	out := b.ask("POST", "/api/v1/logout", "", "", with, own).want(204)
	if c, err := http.ParseSetCookie(out.header.Get("Set-Cookie")); err != nil || c.Value != "" || c.MaxAge >= 0 {
		t.Errorf("logout: cookie %v, %v", c, err)
	}
}

// A wrong token costs the address that it comes from, at login and of any request; who shares the address and has a right
// one is let in all the same.
func TestWrongTokensAreLimitedAndRightOnesAreNot(t *testing.T) {
	clock := newClock()
	b := newBench(t, api.Config{Now: clock.now})
	for range 3 {
		b.ask("POST", "/api/v1/login", "", `{"token":"op_secret-typo"}`).wantProblem(401, "bad_token")
	}
	b.ask("GET", "/api/v1/devices", "op_secret-typo", "").wantProblem(401, "bad_token")
	b.ask("DELETE", "/api/v1/devices/d1", "op_secret-typo", "").wantProblem(401, "bad_token")
	for name, a := range map[string]*answer{
		"login":     b.ask("POST", "/api/v1/login", "", `{"token":"op_secret-typo"}`),
		"a request": b.ask("GET", "/api/v1/devices", "op_secret-typo", ""),
		"a change":  b.ask("PATCH", "/api/v1/devices/d1", "op_secret-typo", `{}`),
	} {
		if p := a.wantProblem(429, "too_many_logins"); p.RetryAfterMs != 10_000 || a.header.Get("Retry-After") != "10" {
			t.Errorf("%s: try again after %d ms, %q s", name, p.RetryAfterMs, a.header.Get("Retry-After"))
		}
	}
	b.ask("GET", "/api/v1/me", "op_admin", "").want(200)
	b.ask("POST", "/api/v1/login", "", `{"token":"op_admin"}`).want(204)

	clock.advance(10_000)
	b.ask("GET", "/api/v1/devices", "op_secret-typo", "").wantProblem(401, "bad_token")
	b.ask("GET", "/api/v1/devices", "op_secret-typo", "").wantProblem(429, "too_many_logins")
	if strings.Contains(b.log.String(), "secret-typo") {
		t.Errorf("a token is in the log: %s", b.log)
	}
	failed := 0
	for _, line := range b.recorded() {
		if strings.Contains(line, "login.failed") {
			failed++
		}
	}
	if failed != 10 {
		t.Errorf("%d failures are in the audit log, want 10", failed)
	}
	if text := string(b.ask("GET", "/metrics", "op_viewer", "").want(200).body); !strings.Contains(text, "hub_login_failures_total 10") {
		t.Error("not each failure is counted")
	}
}
