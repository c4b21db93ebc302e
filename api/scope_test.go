package api_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"telemetryhub/api"
	"telemetryhub/auth"
)

// reaches says of each operation how it keeps to its caller's scope. One that is new must be put here, by its id or, where
// its path begins with a device's, by nothing: that is "path".
func reaches() map[string]string {
	return map[string]string{
		"login": "none", "logout": "none", "me": "none", "healthz": "none", "readyz": "none", "ca": "none", "post-telemetry": "none", "renew-credentials": "none", "report-state": "none", "enrol": "none",

		"get-command": "path", "cancel-command": "path", "retry-command": "path",
		"get-rollout": "path", "list-rollout-devices": "path", "pause-rollout": "path", "resume-rollout": "path", "cancel-rollout": "path",
		"get-quarantined": "path", "retry-quarantined": "path", "drop-quarantined": "path",

		"list-devices": "filtered", "create-device": "filtered", "list-commands": "filtered", "start-rollout": "filtered", "list-rollouts": "filtered",
		"live": "filtered", "get-audit": "filtered", "list-quarantine": "filtered", "retry-quarantine": "filtered", "drop-quarantine": "filtered",
		"list-device-types": "filtered", "get-device-type": "filtered", "list-acts": "filtered",

		"import-devices": "all", "start-replay": "all", "get-replay": "all", "cancel-replay": "all", "list-types": "all", "get-type": "all", "set-type": "all", "metrics": "all",
		"list-enrolment-keys": "all", "get-enrolment-key": "all", "create-enrolment-key": "all", "delete-enrolment-key": "all", "update-enrolment-key": "all",
		"list-discovered": "all", "get-discovered": "all", "admit-device": "all", "drop-discovered": "all", "list-ignored": "all", "ignore-device": "all", "notice-device": "all",
		"list-bridges": "all", "get-bridge": "all", "try-bridge": "all",
		"list-operators": "all", "create-operator": "all", "get-operator": "all", "change-operator": "all", "delete-operator": "all",
		"new-operator-token": "all", "revoke-operator-token": "all",
	}
}

// TestEveryOperationKeepsToAScope goes through the document: with a scope in which nothing of the fakes is but d3.
func TestEveryOperationKeepsToAScope(t *testing.T) {
	known := reaches()
	paths := map[string]string{"get-device-type": "/api/v1/device-types/node"} // d1's
	bodies := map[string]string{
		"create-device": `{"id":"d9","tags":["warm"]}`, "change-device": `{"type":"x"}`, "send-command": `{"method":"ping"}`, "start-replay": `{"from":"-24h"}`,
		"set-type": `{"type":"float"}`, "start-rollout": `{"to":{"all":true},"method":"ping"}`, "create-operator": `{"name":"new","role":"viewer"}`,
		"create-enrolment-key": `{"name":"batch","limit":3}`,
	}
	for _, op := range newBench(t, api.Config{}).operations() {
		want := known[op.ID]
		if want == "" && strings.HasPrefix(op.path, "/api/v1/devices/{id}") {
			want = "path"
		}
		if op.Scope != want {
			t.Errorf("%s %s keeps to a scope by %q, the table of this test says %q", op.method, op.path, op.Scope, want)
		}
		if op.ID == "live" || want == "none" {
			continue
		}
		t.Run(op.ID, func(t *testing.T) {
			b := scopedBench(t)
			body := bodies[op.ID]
			if body == "" && op.method != http.MethodGet {
				body = "{}"
			}
			path := cmp.Or(paths[op.ID], op.request())
			a := b.ask(op.method, path, "op_part", body)
			switch want {
			case "all":
				a.wantProblem(403, "scope")
			case "path":
				// In the same words as for what does not exist.
				ghost := scopedBench(t)
				delete(ghost.devices, "d1")
				g := ghost.ask(op.method, op.request(), "op_part", body)
				if a.status != 404 || !bytes.Equal(a.body, g.body) {
					t.Errorf("%d %s, of one that does not exist %d %s", a.status, a.body, g.status, g.body)
				}
				if op.method != http.MethodGet && len(b.recorded()) != 1 {
					t.Errorf("the audit log has %q", b.recorded())
				}
			case "filtered":
				if text := strings.ReplaceAll(string(a.body), `no type \"node\"`, ""); strings.Contains(text, "d1") || strings.Contains(text, "d2") || strings.Contains(text, "node") {
					t.Errorf("%d %s", a.status, text)
				}
			}
			if did := fmt.Sprint(b.said(&b.left), b.said(&b.enrolment), b.said(&b.settled), b.said(&b.desires), b.said(&b.forgotten), b.sent, b.accounts.asked, b.discovery.did); did != "[] [] [] [] [] [] [] []" {
				t.Errorf("it did %s", did)
			}
		})
	}
}

// scopedBench has an administrator, op_part, of the devices tagged hall, of which there is d3.
func scopedBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, api.Config{})
	b.tokens["op_part"] = auth.Operator{Name: "pat", Role: auth.RoleAdmin, Scope: auth.Scope{Tags: []string{"hall"}}}
	d1 := b.devices["d1"]
	d1.Tags = []string{"warm"}
	b.devices["d1"] = d1
	b.held = []api.Quarantined{{ID: "7", Device: "d1"}, {ID: "8", Device: "d2"}}
	b.within = []string{"hall", "warm"}
	return b
}

func TestWithinItsScopeAnAdministratorMayDoAll(t *testing.T) {
	b := scopedBench(t)
	b.tokens["op_part"] = auth.Operator{Name: "pat", Role: auth.RoleAdmin, Scope: auth.Scope{Tags: []string{"hall", "warm"}}} // d1 and d3
	list := string(b.ask("GET", "/api/v1/devices", "op_part", "").want(200).body)
	if !strings.Contains(list, `"id":"d1"`) || strings.Contains(list, `"id":"d2"`) || !strings.Contains(list, `"id":"d3"`) {
		t.Errorf("devices: %s", list)
	}
	for _, path := range []string{
		"/api/v1/devices/d1", "/api/v1/devices/d1/why", "/api/v1/devices/d1/telemetry", "/api/v1/devices/d1/latest", "/api/v1/devices/d1/state", "/api/v1/devices/d1/commands",
		"/api/v1/commands/" + commandID, "/api/v1/rollouts/" + rolloutID, "/api/v1/rollouts/" + rolloutID + "/devices", "/api/v1/quarantine/7", "/api/v1/device-types/node",
	} {
		b.ask("GET", path, "op_part", "").want(200)
	}
	for path, want := range map[string]string{
		"/api/v1/commands": `"device":"d1"`, "/api/v1/rollouts": rolloutID, "/api/v1/quarantine": `"id":"7"`, "/api/v1/device-types": `"node"`, "/api/v1/audit": `"received":3`,
	} {
		if text := string(b.ask("GET", path, "op_part", "").want(200).body); !strings.Contains(text, want) || strings.Contains(text, "d2") {
			t.Errorf("%s: %s", path, text)
		}
	}
	b.ask("POST", "/api/v1/devices/d1/commands", "op_part", `{"method":"ping"}`).want(201)
	b.ask("POST", "/api/v1/devices/d1/token", "op_part", "").want(200)
	b.ask("DELETE", "/api/v1/quarantine?device=d1", "op_part", "").want(200)
	b.ask("DELETE", "/api/v1/quarantine?all=true", "op_part", "").wantProblem(422, "bad_parameter")
	b.ask("DELETE", "/api/v1/quarantine?device=d2", "op_part", "").wantProblem(404, "device_not_found")
	b.ask("GET", "/api/v1/audit?device=d2", "op_part", "").wantProblem(404, "device_not_found")
	b.ask("POST", "/api/v1/commands", "op_part", `{"to":{"all":true},"method":"ping"}`).want(201)
	if r := b.asked[0]; fmt.Sprint(r.Within) != "[hall warm]" {
		t.Errorf("a rollout within %v", r.Within)
	}

	// A device neither leaves the scope nor comes from outside it.
	b.ask("PATCH", "/api/v1/devices/d1", "op_part", `{"tags":["cold"]}`).wantProblem(403, "scope")
	b.ask("PATCH", "/api/v1/devices/d1", "op_part", `{"tags":["cold","hall"]}`).want(200)
	b.ask("POST", "/api/v1/devices", "op_part", `{"id":"d8"}`).wantProblem(403, "scope")
	b.ask("POST", "/api/v1/devices", "op_part", `{"id":"d8","tags":["hall"]}`).want(201)
	b.ask("DELETE", "/api/v1/devices/d8", "op_part", "").want(200)

	// Of the audit log their own acts.
	b.ask("GET", "/api/v1/acts?actor=ada", "op_part", "").wantProblem(403, "scope")
	b.ask("GET", "/api/v1/acts", "op_part", "").want(200)
	if actor := b.actQueries[len(b.actQueries)-1].Actor; actor != "pat" {
		t.Errorf("acts of %q are shown", actor)
	}
	b.ask("GET", "/api/v1/acts", "op_part", "", "Accept: application/x-ndjson").want(200)
	if actor := b.actQueries[len(b.actQueries)-1].Actor; actor != "pat" {
		t.Errorf("acts of %q are exported", actor)
	}
	me := b.ask("GET", "/api/v1/me", "op_part", "").want(200).body
	if !strings.Contains(string(me), `"scope":{"tags":["hall","warm"]}`) {
		t.Errorf("me: %s", me)
	}
}

func TestAccountsOfAScopeAddUp(t *testing.T) {
	b := newBench(t, api.Config{})
	b.tokens["op_part"] = auth.Operator{Name: "pat", Role: auth.RoleViewer, Scope: auth.Scope{Tags: []string{"warm"}}} // d1
	total, _ := b.ask("GET", "/api/v1/audit", "op_part", "").want(200).json()["total"].(map[string]any)
	if total["received"] != 3.0 || total["stored"] != 2.0 || fmt.Sprint(total["refused"]) != "map[bad_json:1]" {
		t.Errorf("total %v", total)
	}
	all, _ := b.ask("GET", "/api/v1/audit", "op_viewer", "").want(200).json()["total"].(map[string]any)
	if all["received"] != 10.0 {
		t.Errorf("the fleet's total %v", all)
	}
}
