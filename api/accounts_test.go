package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/auth"
)

// fakeAccounts knows the operator d1 (as the paths of tests name it), and notes what it is asked.
type fakeAccounts struct{ asked []string }

func oneAccount() auth.Account {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return auth.Account{Name: "d1", Role: auth.RoleOperator, Scope: auth.Scope{Tags: []string{"hall"}}, Enabled: true, Created: at, Tokens: []auth.Token{
		{Name: "ci", Created: at, Expires: at.Add(time.Hour)}, {Name: "default", Created: at, LastUsed: at},
	}}
}

func (f *fakeAccounts) List() []auth.Account { return []auth.Account{oneAccount()} }

func (f *fakeAccounts) Get(name string) (auth.Account, bool) { return oneAccount(), name == "d1" }

func (f *fakeAccounts) Add(_ context.Context, n auth.NewOperator) (auth.Account, string, error) {
	f.asked = append(f.asked, fmt.Sprintf("add %+v", n))
	a := auth.Account{Name: n.Name, Role: n.Role, Scope: n.Scope, Enabled: true}
	switch n.Name {
	case "d1":
		return a, "", auth.ErrOperatorExists
	case "a.b":
		return a, "", &auth.InvalidOperatorError{Field: "name", Message: "no dots"}
	}
	return a, "op_made", nil
}

func (f *fakeAccounts) Change(_ context.Context, name string, change auth.OperatorChange) (auth.Account, error) {
	text, _ := json.Marshal(change)
	f.asked = append(f.asked, "change "+name+" "+string(text))
	if name != "d1" {
		return auth.Account{}, auth.ErrOperatorNotFound
	}
	return oneAccount(), nil
}

func (f *fakeAccounts) Remove(_ context.Context, name string) error {
	if name == "admin" {
		return auth.ErrLastAdmin
	}
	return nil
}

func (f *fakeAccounts) NewToken(_ context.Context, operator, name string, expires time.Time) (string, auth.Account, error) {
	f.asked = append(f.asked, fmt.Sprint("token ", operator, " ", name, " ", expires.Format(time.RFC3339)))
	return "op_made", oneAccount(), nil
}

func (f *fakeAccounts) RemoveToken(_ context.Context, operator, name string) (auth.Account, error) {
	f.asked = append(f.asked, "revoke "+operator+" "+name)
	return oneAccount(), nil
}

func TestOperatorsAreAdministered(t *testing.T) {
	clock := newClock()
	b := newBench(t, api.Config{Now: clock.now})
	list := b.ask("GET", "/api/v1/operators", "op_admin", "").want(200)
	for _, want := range []string{`"name":"d1"`, `"tags":["hall"]`, `"last_used":"2026-01-02T03:04:05Z"`} {
		if !strings.Contains(string(list.body), want) {
			t.Errorf("no %s in %s", want, list.body)
		}
	}
	clock.advance(10 * 365 * 24 * 3_600_000)
	if list = b.ask("GET", "/api/v1/operators/d1", "op_admin", "").want(200); !strings.Contains(string(list.body), `"expired":true`) {
		t.Errorf("after its end: %s", list.body)
	}
	made := b.ask("POST", "/api/v1/operators", "op_admin", `{"name":"eve","role":"operator","scope":{"tags":["hall"]},"expires_in":"90d"}`).want(201)
	if v := made.json(); v["token"] != "op_made" || v["name"] != "eve" || made.header.Get("Location") != "/api/v1/operators/eve" {
		t.Errorf("%s", made.body)
	}
	token := b.ask("POST", "/api/v1/operators/d1/token", "op_admin", `{"name":"ci","expires_in":"1h"}`).want(201).json()
	if token["token"] != "op_made" || token["name"] != "ci" || token["expires"] != clock.now().UTC().Truncate(time.Second).Add(time.Hour).Format(time.RFC3339) {
		t.Errorf("%v", token)
	}
	for body, want := range map[string]int{
		`{"role":"viewer"}`: 200, `{"scope":null}`: 200, `{"scope":{"tags":["a"]},"enabled":false}`: 200, `{}`: 200,
		`{"scope":{"tags":[]}}`: 422, `{"scope":{}}`: 422, `{"scope":"hall"}`: 422, `{"role":"root"}`: 422, `{"name":"x"}`: 422,
	} {
		b.ask("PATCH", "/api/v1/operators/d1", "op_admin", body).want(want)
	}
	for body, want := range map[string]string{
		`{"name":"d1","role":"viewer"}`:                         "409 operator_exists",
		`{"name":"a.b","role":"viewer"}`:                        "422 invalid",
		`{"name":"x","role":"viewer","scope":{"tags":[]}}`:      "422 invalid",
		`{"name":"x","role":"viewer","expires_in":"yesterday"}`: "422 bad_parameter",
	} {
		a := b.ask("POST", "/api/v1/operators", "op_admin", body)
		if got := fmt.Sprint(a.status, " ", a.problem().Reason); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	b.ask("PATCH", "/api/v1/operators/nobody", "op_admin", `{}`).wantProblem(404, "operator_not_found")
	b.ask("GET", "/api/v1/operators/nobody", "op_admin", "").wantProblem(404, "operator_not_found")
	b.ask("DELETE", "/api/v1/operators/admin", "op_admin", "").wantProblem(409, "last_admin")
	b.ask("DELETE", "/api/v1/operators/eve", "op_admin", "").want(204)
	b.ask("DELETE", "/api/v1/operators/d1/tokens/ci", "op_admin", "").want(200)

	log := strings.Join(b.recorded(), "\n")
	for _, want := range []string{
		"ada admin operator.create eve accepted", "ada admin operator.token d1 accepted", "ada admin operator.update d1 accepted",
		"ada admin operator.delete eve accepted", "ada admin operator.token.revoke d1 accepted", "ada admin operator.delete admin refused last_admin",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q among the acts:\n%s", want, log)
		}
	}
	if facts, _ := json.Marshal(b.acts); strings.Contains(string(facts), "op_made") || strings.Contains(b.log.String(), "op_made") {
		t.Error("a token is in the audit log, or in the log")
	}
	if me := string(b.ask("GET", "/api/v1/me", "op_admin", "").want(200).body); strings.Contains(me, "scope") || strings.Contains(me, "until") {
		t.Errorf("me: %s", me)
	}
}

// A null scope is all devices, one that is left out stays.
func TestAChangedScopeIsToldFromNone(t *testing.T) {
	for body, want := range map[string]string{
		`{"scope":null}`:           `"Scope":{"tags":null}`,
		`{}`:                       `"Scope":null`,
		`{"scope":{"tags":["a"]}}`: `"Scope":{"tags":["a"]}`,
	} {
		b := newBench(t, api.Config{})
		b.ask("PATCH", "/api/v1/operators/d1", "op_admin", body).want(200)
		if got := b.accounts.asked[0]; !strings.Contains(got, want) {
			t.Errorf("%s asks for %s, want %s", body, got, want)
		}
	}
}
