package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

// fakeRollouts knows one rollout, and notes what it is asked.
type fakeRollouts struct{ *fakeHub }

const rolloutID = "20260102-030405-abcdef"

func oneRollout() rollouts.Rollout {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return rollouts.Rollout{
		Plan: rollouts.Plan{
			ID: rolloutID, To: rollouts.Selector{Tags: []string{"hall"}}, Method: "ping", Params: json.RawMessage(`{"a":1}`), Offline: rollouts.QueueOffline,
			Waves: rollouts.Waves{Sizes: []rollouts.Amount{{Count: 1}, {Percent: 12.5}}, Pause: time.Minute}, Longest: 30 * time.Second,
			Actor: "otto", Created: at, Devices: 3,
		},
		State: rollouts.Stopped, Limits: rollouts.Limits{Failures: rollouts.Amount{Count: 2}},
		Counts: map[rollouts.Outcome]int{"done": 1, "failed": 2}, Failures: 2, Wave: rollouts.Wave{Number: 2, Of: 3, Size: 1},
		History: []rollouts.Change{{State: rollouts.Running, Time: at, Actor: "otto"}, {State: rollouts.Stopped, Time: at, Cause: "2 of 3 devices failed"}},
	}
}

func (f fakeRollouts) note(word string, r rollouts.Request) (rollouts.Rollout, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Method = strings.TrimSpace(word + " " + r.Method)
	f.asked = append(f.asked, r)
	return oneRollout(), f.rolloutErr
}

func (f fakeRollouts) Create(_ context.Context, r rollouts.Request) (rollouts.Rollout, error) {
	return f.note("create", r)
}

func (f fakeRollouts) Preview(r rollouts.Request) (rollouts.Preview, error) {
	_, err := f.note("preview", r)
	return rollouts.Preview{
		Devices: []rollouts.PreviewDevice{{Device: "d1", Online: true}, {Device: "d2"}, {Device: "d3"}}, Online: 1, Waves: 2,
		Refused: 1, Refusals: []rollouts.Refusal{{Device: "d2", Reason: "method: no"}},
	}, err
}

func (f fakeRollouts) Get(_ context.Context, id string) (rollouts.Rollout, error) {
	if id == "none" {
		return rollouts.Rollout{}, rollouts.ErrNotFound
	}
	return f.rollout(), nil
}

// rollout is oneRollout, made for the part of the devices that a test says.
func (f fakeRollouts) rollout() rollouts.Rollout {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := oneRollout()
	r.Within = f.within
	return r
}

func (f fakeRollouts) List(_ rollouts.State, _ int, cursor string) ([]rollouts.Rollout, string) {
	if cursor == "more" {
		return nil, ""
	}
	return []rollouts.Rollout{f.rollout()}, "more"
}

func (f fakeRollouts) Devices(_ context.Context, id string, outcomes []rollouts.Outcome, limit int, cursor string) ([]rollouts.DeviceOutcome, string, error) {
	if cursor == "x" {
		return nil, "", &commands.InvalidError{Field: "cursor", Message: "it is not one"}
	}
	return []rollouts.DeviceOutcome{{Device: "d1", Outcome: "failed", Command: commandID, Cause: fmt.Sprint(id, outcomes, limit)}}, "", nil
}

func (f fakeRollouts) Pause(_ context.Context, id, actor string) (rollouts.Rollout, error) {
	return f.note("pause "+id+" "+actor, rollouts.Request{})
}

func (f fakeRollouts) Resume(_ context.Context, id, actor string, limits *rollouts.Limits) (rollouts.Rollout, error) {
	r := rollouts.Request{}
	if limits != nil {
		r.Limits = *limits
	}
	return f.note("resume "+id+" "+actor, r)
}

func (f fakeRollouts) Cancel(_ context.Context, id, actor string) (rollouts.Rollout, error) {
	return f.note("cancel "+id+" "+actor, rollouts.Request{})
}

func TestStartRollout(t *testing.T) {
	b := newBench(t, api.Config{})
	a := b.ask("POST", "/api/v1/commands", "op_operator", `{"to":{"tags":["hall"],"attributes":{"floor":"1"},"online":true},"method":"set","params":{"n":9007199254740993},
		"expires":"1h","timeout":"5s","delivery":"at-least-once","offline":"skip","waves":{"sizes":["1","12.5%"],"pause":"1m","timeout":"90s"},
		"limits":{"failures":"2","wave_failures":"50%","minimum":4}}`, "Idempotency-Key: k1").want(201)
	if a.header.Get("Location") != "/api/v1/rollouts/"+rolloutID {
		t.Errorf("Location %q", a.header.Get("Location"))
	}
	var got api.Rollout
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatal(err)
	}
	if got.State != "stopped" || got.Cause != "2 of 3 devices failed" || got.Counts["failed"] != 2 || got.Waves.PauseMs != 60_000 || got.Waves.TimeoutMs != 35_000 ||
		fmt.Sprint(got.Waves.Sizes) != "[1 12.5%]" || got.Limits.Failures != "2" || got.Wave.Of != 3 || len(got.History) != 2 {
		t.Errorf("%s", a.body)
	}
	r := b.asked[0]
	if string(r.Params) != `{"n":9007199254740993}` || r.Method != "create set" || r.Actor != "otto" || r.Role != "operator" || r.Origin == "" || r.IdempotencyKey != "k1" {
		t.Errorf("%+v", r)
	}
	if r.To.String() != "tag=hall attr.floor=1 online" || r.Expires != time.Hour || r.Timeout != 5*time.Second || r.Delivery != commands.AtLeastOnce || r.Offline != rollouts.SkipOffline {
		t.Errorf("%+v", r)
	}
	if fmt.Sprint(r.Waves.Sizes) != "[1 12.5%]" || r.Waves.Pause != time.Minute || r.Waves.Timeout != 90*time.Second || r.Limits.Failures.Count != 2 || r.Limits.WaveFailures.Percent != 50 || r.Limits.Minimum != 4 {
		t.Errorf("%+v %+v", r.Waves, r.Limits)
	}
}

func TestDryRun(t *testing.T) {
	b := newBench(t, api.Config{})
	var ids []string
	for cursor := ""; ; {
		var p api.RolloutPreview
		a := b.ask("POST", "/api/v1/commands?dry_run=true&limit=2&cursor="+cursor, "op_operator", `{"to":{"all":true},"method":"m"}`).want(200)
		if err := json.Unmarshal(a.body, &p); err != nil || p.Count != 3 || p.Online != 1 || p.Offline != 2 || p.Refused != 1 || p.Refusals[0].Reason != "method: no" || p.Waves != 2 {
			t.Fatalf("%s, %v", a.body, err)
		}
		for _, d := range p.Devices {
			ids = append(ids, fmt.Sprint(d.ID, d.Online))
		}
		if cursor = p.Next; cursor == "" {
			break
		}
	}
	if fmt.Sprint(ids) != "[d1true d2false d3false]" {
		t.Errorf("%v", ids)
	}
	for _, r := range b.asked {
		if r.Method != "preview m" {
			t.Errorf("asked to %s", r.Method)
		}
	}
	b.ask("POST", "/api/v1/commands?dry_run=true&cursor=x", "op_operator", `{"to":{"all":true},"method":"m"}`).wantProblem(422, "bad_parameter")
}

func TestRolloutsProblems(t *testing.T) {
	b := newBench(t, api.Config{MaxParams: 100})
	post := func(body string) *answer { return b.ask("POST", "/api/v1/commands", "op_operator", body) }
	const ok = `{"to":{"all":true},"method":"m"}`
	post(`{"method":"m"}`).wantProblem(422, "invalid")
	post(`{"to":{"everything":true},"method":"m"}`).wantProblem(422, "invalid")
	for location, part := range map[string]string{
		"body.waves.sizes[1]":       `"waves":{"sizes":["1","0%"]}`,
		"body.waves.pause":          `"waves":{"sizes":["1"],"pause":"soon"}`,
		"body.limits.failures":      `"limits":{"failures":"none"}`,
		"body.limits.wave_failures": `"limits":{"wave_failures":"200%"}`,
		"body.expires":              `"expires":"-1h"`,
	} {
		p := post(`{"to":{"all":true},"method":"m",`+part+`}`).wantProblem(422, "bad_parameter")
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%s: %+v", location, p)
		}
	}
	if p := post(`{"to":{"all":true},"method":"m","params":"`+strings.Repeat("x", 200)+`"}`).wantProblem(413, "params_too_large"); p.Limit != 100 {
		t.Errorf("%+v", p)
	}
	many := make([]string, 120)
	for i := range many {
		many[i] = fmt.Sprint("d", i)
	}
	for _, c := range []struct {
		err    error
		status int
		reason string
		errors int
	}{
		{&rollouts.UnknownDevicesError{Unknown: many, Disabled: []string{"x"}}, 422, "unknown_devices", 101},
		{&rollouts.RefusedError{Count: 2, Of: 3, Refusals: []rollouts.Refusal{{Device: "d1", Reason: "no"}}}, 422, "devices_refuse", 1},
		{&rollouts.BusyError{What: "rollouts", Limit: 50, Value: 51}, 503, "too_many_rollouts", 0},
		{&commands.InvalidError{Field: "to", Message: "no"}, 422, "invalid", 1},
		{&commands.ForbiddenError{Method: "m", Needs: "admin"}, 403, "role", 0},
		{rollouts.ErrClosed, 503, "hub_stopping", 0},
		{fmt.Errorf("disk"), 500, "internal", 0},
	} {
		b.rolloutErr = c.err
		if p := post(ok).wantProblem(c.status, c.reason); len(p.Errors) != c.errors {
			t.Errorf("%v: %d errors, want %d", c.err, len(p.Errors), c.errors)
		}
	}
	b.rolloutErr = &rollouts.StateError{ID: "x", State: rollouts.Done, Want: "one that is running"}
	b.ask("POST", "/api/v1/rollouts/x/pause", "op_operator", "").wantProblem(409, "rollout_state")
	b.ask("GET", "/api/v1/rollouts/none", "op_viewer", "").wantProblem(404, "rollout_not_found")
	b.ask("GET", "/api/v1/rollouts/x/devices?outcome=great", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("GET", "/api/v1/rollouts/x/devices?outcome=done%20failed", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("GET", "/api/v1/rollouts/x/devices?cursor=x", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("POST", sendPath, "op_operator", `{"method":"m"}`, "Idempotency-Key: rollout.x").wantProblem(422, "invalid")
}

func TestReadAndControlRollouts(t *testing.T) {
	b := newBench(t, api.Config{})
	if v := b.ask("GET", "/api/v1/rollouts?state=stopped", "op_viewer", "").want(200).json(); v["next"] != "more" || len(v["rollouts"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
	a := b.ask("GET", "/api/v1/rollouts/"+rolloutID+"/devices?outcome=failures,skipped&limit=7", "op_viewer", "").want(200)
	if !bytes.Contains(a.body, []byte(`"cause":"`+rolloutID+`[failed rejected expired unknown skipped] 7"`)) {
		t.Errorf("%s", a.body)
	}
	b.ask("POST", "/api/v1/rollouts/a/pause", "op_operator", "").want(200)
	b.ask("POST", "/api/v1/rollouts/a/resume", "op_operator", "").want(200)
	b.ask("POST", "/api/v1/rollouts/a/resume", "op_operator", `{"limits":{"failures":"9"}}`).want(200)
	b.ask("DELETE", "/api/v1/rollouts/a", "op_operator", "").want(200)
	var asked []string
	for _, r := range b.asked {
		asked = append(asked, r.Method+" "+r.Limits.Failures.String())
	}
	if got := strings.Join(asked, "|"); got != "pause a otto |resume a otto |resume a otto 9|cancel a otto " {
		t.Errorf("asked %q", got)
	}
	b.ask("POST", "/api/v1/rollouts/a/resume", "op_operator", `{"limits":{"failures":"no"}}`).wantProblem(422, "bad_parameter")
}

// TestTheDocumentKnowsBothAnswersToAStart looks at the part of the document that is written by hand.
func TestTheDocumentKnowsBothAnswersToAStart(t *testing.T) {
	b := newBench(t, api.Config{})
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
	}
	if err := json.Unmarshal(b.ask("GET", "/api/v1/openapi.json", "", "").want(200).body, &doc); err != nil {
		t.Fatal(err)
	}
	refs := map[string]string{}
	for status, r := range doc.Paths["/api/v1/commands"]["post"].Responses {
		for _, content := range r.Content {
			refs[status] = content.Schema.Ref
		}
	}
	want := map[string]string{"200": "#/components/schemas/RolloutPreview", "201": "#/components/schemas/Rollout", "default": "#/components/schemas/Problem"}
	if !maps.Equal(refs, want) {
		t.Errorf("%v, want %v", refs, want)
	}
}
