package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/auth/acts"
	"telemetryhub/commands"
)

// recorded returns what was told to the audit log, as texts.
func (b *bench) recorded() (texts []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.acts {
		texts = append(texts, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s%s %s %s", a.Actor, a.Role, a.Act, a.Device, a.Target, a.Outcome, a.Reason)), " "))
	}
	return texts
}

// TestEachChangeIsAnAct goes through the document, so that an operation that is new cannot be left out.
func TestEachChangeIsAnAct(t *testing.T) {
	bodies := map[string]string{"create-device": `{"id":"d9"}`, "start-replay": `{"from":"-24h"}`, "set-type": `{"type":"float"}`, "create-enrolment-key": `{"name":"batch","limit":3}`}
	for _, op := range newBench(t, api.Config{}).operations() {
		if op.method == http.MethodGet || op.Role == "open" || op.Role == "device" || op.Role == "enrolment key" || op.ID == "send-command" {
			continue
		}
		t.Run(op.ID, func(t *testing.T) {
			b := newBench(t, api.Config{})
			body := bodies[op.ID]
			if body == "" {
				body = "{}"
			}
			a := b.ask(op.method, op.request(), "op_admin", body)
			if a.status == http.StatusUnprocessableEntity && len(b.acts) == 0 {
				return // not even understood: that is no act
			}
			if len(b.acts) != 1 {
				t.Fatalf("status %d, and the audit log has %q", a.status, b.recorded())
			}
			act := b.acts[0]
			if act.Actor != "ada" || act.Role != "admin" || act.Origin != "127.0.0.1" || act.Act == "" || act.Time.IsZero() {
				t.Errorf("act %+v", act)
			}
			if accepted := a.status/100 == 2; accepted != (act.Outcome == acts.Accepted) || accepted != (act.Reason == "") {
				t.Errorf("status %d is told as %s %s", a.status, act.Outcome, act.Reason)
			}

			b = newBench(t, api.Config{})
			b.ask(op.method, op.request(), "op_viewer", body).wantProblem(403, "role")
			if len(b.acts) != 1 || b.acts[0].Outcome != acts.Refused || b.acts[0].Actor != "vera" || b.acts[0].Act != act.Act {
				t.Errorf("refused for its role, and the audit log has %q", b.recorded())
			}

			b = newBench(t, api.Config{})
			b.actsOff = errors.New("no room")
			b.ask(op.method, op.request(), "op_admin", body).wantProblem(503, "audit_unavailable")
			if len(b.left)+len(b.settled)+len(b.retyped)+len(b.enrolment)+len(b.acts) != 0 || b.replay.State != "" || len(b.devices) != 3 {
				t.Errorf("something was done that cannot be recorded: %v %v %v", b.left, b.settled, b.recorded())
			}
		})
	}
}

func TestActsSayWhat(t *testing.T) {
	b := newBench(t, api.Config{})
	b.ask("POST", "/api/v1/devices", "op_admin", `{"id":"d9","type":"meter","tags":["hall"]}`).want(201)
	b.ask("PATCH", "/api/v1/devices/d9", "op_admin", `{"enabled":false,"attributes":{"room":"b"}}`).want(200)
	b.ask("POST", "/api/v1/devices/d9/token", "op_admin", "").want(200)
	b.ask("POST", "/api/v1/devices", "op_admin", `{"id":"d9"}`).wantProblem(409, "device_exists")
	b.ask("DELETE", "/api/v1/devices/d9", "op_admin", "").want(200)
	b.ask("POST", "/api/v1/quarantine/7/retry", "op_operator", "").want(200)
	b.ask("GET", "/api/v1/devices", "op_viewer", "").want(200) // changes nothing
	want := []string{
		"ada admin device.create d9 accepted", "ada admin device.update d9 accepted", "ada admin device.token d9 accepted",
		"ada admin device.create d9 refused device_exists", "ada admin device.delete d9 accepted", "otto operator quarantine.retry 7 accepted",
	}
	if got := b.recorded(); !slices.Equal(got, want) {
		t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text, err := json.Marshal(b.acts)
	if err != nil {
		t.Fatal(err)
	}
	for _, fact := range []string{`"type":"meter"`, `"tags":["hall"]`, `"enabled":false`, `"room":"b"`, `"state":"stored"`} {
		if !strings.Contains(string(text), fact) {
			t.Errorf("no fact %s in %s", fact, text)
		}
	}
	for _, secret := range []string{"dev_new", "dev_renewed", "op_admin", "op_operator"} {
		if strings.Contains(string(text), secret) || strings.Contains(b.log.String(), secret) {
			t.Errorf("the token %s is in the audit log or in the log", secret)
		}
	}
}

func TestARefusedCommandIsAnActWithoutItsParams(t *testing.T) {
	b := newBench(t, api.Config{})
	b.sendErr = &commands.InvalidError{
		Field: "params", Reason: "bad_params", Message: "the params do not fit",
		Faults: []commands.Fault{{Pointer: "/psk", Message: "must have at least 8 characters, not 7"}, {Pointer: "/ssid", Message: "is missing"}},
	}
	p := b.ask("POST", sendPath, "op_operator", `{"method":"wifi","params":{"psk":"hunter2"}}`).wantProblem(422, "bad_params")
	if len(p.Errors) != 2 || p.Errors[0].Pointer != "/psk" || p.Errors[0].Location != "body.params" || p.Errors[1].Pointer != "/ssid" {
		t.Errorf("errors %+v", p.Errors)
	}
	b.sendErr = &commands.InvalidError{Field: "method", Reason: "unknown_method", Message: "the type has none"}
	b.ask("POST", sendPath, "op_operator", `{"method":"wify","params":{"psk":"hunter2"}}`).wantProblem(422, "unknown_method")
	b.sendErr = &commands.ForbiddenError{Method: "wifi", Needs: "admin"}
	if p := b.ask("POST", sendPath, "op_operator", `{"method":"wifi"}`).wantProblem(403, "role"); !strings.Contains(p.Detail, "otto is operator") {
		t.Errorf("detail %q", p.Detail)
	}
	want := []string{"otto operator command.send d1 refused bad_params", "otto operator command.send d1 refused unknown_method", "otto operator command.send d1 refused role"}
	if got := b.recorded(); !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	text, err := json.Marshal(b.acts)
	if err != nil || strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), `"method":"wifi"`) || !strings.Contains(string(text), `"pointer":"/psk"`) {
		t.Errorf("%s, %v", text, err)
	}

	b = newBench(t, api.Config{})
	b.actsOff = errors.New("no room")
	b.ask("POST", sendPath, "op_operator", `{"method":"ping"}`).want(201) // the ledger has it
	if len(b.acts) != 0 || b.sent[0].Role != "operator" || b.sent[0].Origin != "127.0.0.1" {
		t.Errorf("acts %v, sent %+v", b.acts, b.sent)
	}
}

func TestAnActThatCouldNotBeWrittenIsNotAnsweredAsDone(t *testing.T) {
	b := newBench(t, api.Config{})
	b.actErr = errors.New("no room")
	p := b.ask("POST", "/api/v1/devices", "op_admin", `{"id":"d9"}`).wantProblem(503, "audit_unavailable")
	if !strings.Contains(p.Detail, "it was done all the same") || strings.Contains(p.Detail, "no room") {
		t.Errorf("detail %q", p.Detail)
	}
	b.ask("POST", "/api/v1/login", "", `{"token":"op_admin"}`).wantProblem(503, "audit_unavailable")
}

func TestFailedLoginsAreCountedAndNotAllWritten(t *testing.T) {
	clock := newClock()
	b := newBench(t, api.Config{Now: clock.now})
	for range 60 {
		b.ask("POST", "/api/v1/login", "", `{"token":"wrong"}`)
		b.ask("GET", "/api/v1/devices", "op_wrong", "")
	}
	b.ask("GET", "/api/v1/devices", "", "").wantProblem(401, "no_credentials") // nobody tried anything
	if n := len(b.acts); n != 10 {
		t.Fatalf("%d of 120 failures are written, want 10: %q", n, b.recorded())
	}
	for _, a := range b.acts {
		if a.Act != "login.failed" || a.Outcome != acts.Refused || a.Origin != "127.0.0.1" || a.Actor != "" {
			t.Errorf("act %+v", a)
		}
	}
	clock.advance(60_000)
	b.ask("GET", "/api/v1/devices", "op_wrong", "")
	if last := b.acts[len(b.acts)-1]; len(b.acts) != 11 || last.Suppressed != 110 {
		t.Errorf("%d acts, the last stands for %d more, want 11 and 110", len(b.acts), last.Suppressed)
	}
	if text := string(b.ask("GET", "/metrics", "op_viewer", "").want(200).body); !strings.Contains(text, `hub_acts_suppressed_total{act="login.failed"} 110`) {
		t.Errorf("the metric does not count 110")
	}
	b.ask("POST", "/api/v1/login", "", `{"token":"op_admin"}`).want(204) // and one that is right is written
	if got := b.recorded(); got[len(got)-1] != "ada admin login accepted" {
		t.Errorf("the last act is %q", got[len(got)-1])
	}
	if text := b.log.String() + fmt.Sprint(b.acts); strings.Contains(text, "op_wrong") || strings.Contains(text, "op_admin") {
		t.Error("a token is in a log")
	}
}

func TestReadTheAuditLog(t *testing.T) {
	b := newBench(t, api.Config{})
	b.acts = []acts.Act{{ID: "1-0", Act: "login", Actor: "ada", Time: time.Unix(5, 0).UTC()}, {ID: "1-1", Act: "device.create", Device: "d<1"}}
	b.ask("GET", "/api/v1/acts", "op_operator", "").wantProblem(403, "role")
	b.ask("GET", "/api/v1/acts?cursor=broken", "op_admin", "").wantProblem(422, "bad_parameter")
	b.ask("GET", "/api/v1/acts?from=yesterday", "op_admin", "").wantProblem(422, "bad_parameter")
	a := b.ask("GET", "/api/v1/acts?actor=ada&from=-1h&to=2030-01-01T00:00:00Z&limit=5", "op_admin", "").want(200)
	var page api.ActsPage
	if err := json.Unmarshal(a.body, &page); err != nil || len(page.Acts) != 2 || page.Next != "more" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s, %v, %s", a.body, err, a.header)
	}
	a = b.ask("GET", "/api/v1/acts", "op_admin", "", "Accept: application/x-ndjson").want(200)
	lines := strings.Split(strings.TrimSuffix(string(a.body), "\n"), "\n")
	if a.header.Get("Content-Type") != "application/x-ndjson" || len(lines) != 2 {
		t.Fatalf("%s: %q", a.header, lines)
	}
	for i, line := range lines {
		var act acts.Act
		if err := json.Unmarshal([]byte(line), &act); err != nil || act.ID != b.acts[i].ID || act.Device != b.acts[i].Device {
			t.Errorf("line %q: %v", line, err)
		}
	}
	b.acts = nil
	if a := b.ask("GET", "/api/v1/acts", "op_admin", "").want(200); !strings.Contains(string(a.body), `"acts":[]`) {
		t.Errorf("an empty log: %s", a.body)
	}
}

func TestAnExportThatFailsIsNotTakenForAWholeOne(t *testing.T) {
	b := newBench(t, api.Config{})
	b.acts, b.actErr = []acts.Act{{ID: "1-0"}}, errors.New("the log is gone")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/api/v1/acts", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op_admin")
	r.Header.Set("Accept", "application/x-ndjson")
	resp, err := b.client.Do(r)
	if err == nil {
		defer resp.Body.Close()
		var rest [1 << 10]byte
		for err == nil {
			_, err = resp.Body.Read(rest[:])
		}
		if err.Error() == "EOF" {
			t.Error("half an export ended as if it were whole")
		}
	}
}
