package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/api"
	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

const statePath = "/api/v1/devices/d1/state"

type fakeStates struct{ *fakeHub }

func (f fakeStates) Get(device string) state.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	if device == "d1" && f.state.Version > 0 {
		return f.state
	}
	return state.Document{
		Device: device, Desired: []byte("{}"), Reported: []byte("{}"), DesiredTimes: []byte("{}"), ReportedTimes: []byte("{}"),
	}
}

func (f fakeStates) Desire(_ context.Context, device string, patch []byte, only []uint64, actor string) (state.Document, error) {
	f.mu.Lock()
	f.desires = append(f.desires, fmt.Sprint(device, " ", string(patch), " ", only, " ", actor))
	err := f.stateErr
	f.mu.Unlock()
	return f.Get(device), err
}

func (f fakeStates) Report(device string, patch []byte, done func(uint64, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = append(f.reports, device+" "+string(patch))
	go done(7, f.stateErr)
	return nil
}

func (f fakeStates) History(context.Context, string) ([]state.Change, error) {
	return []state.Change{
		{Version: 7, Time: time.UnixMilli(2000).UTC(), Side: state.Reported, Actor: "device", Patch: []byte(`{"interval":20}`)},
		{Version: 6, Time: time.UnixMilli(1000).UTC(), Side: state.Desired, Actor: "otto", Bytes: 4000},
	}, f.stateErr
}

func (f fakeStates) Forget(_ context.Context, device string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten = append(f.forgotten, device)
	return nil
}

func someState() state.Document {
	return state.Document{
		Device: "d1", Version: 7, Desired: []byte(`{"interval":20,"n":9007199254740993}`), Reported: []byte(`{"interval":10}`), Delta: []byte(`{"interval":20}`),
		DesiredTimes: []byte(`{"interval":1000,"n":1000}`), ReportedTimes: []byte(`{"interval":2000}`),
		DesiredAt: time.UnixMilli(1000).UTC(), DesiredBy: "otto", ReportedAt: time.UnixMilli(2000).UTC(),
	}
}

func TestReadState(t *testing.T) {
	b := newBench(t, api.Config{})
	b.state = someState()
	a := b.ask("GET", statePath, "op_viewer", "").want(200)
	want := `{"device":"d1","online":true,"version":7,"desired":{"interval":20,"n":9007199254740993},"reported":{"interval":10},"delta":{"interval":20},` +
		`"metadata":{"desired":{"interval":1000,"n":1000},"reported":{"interval":2000}},"desired_at":"1970-01-01T00:00:01Z","desired_by":"otto","reported_at":"1970-01-01T00:00:02Z"}`
	if got := strings.TrimSpace(string(a.body)); got != want || a.header.Get("ETag") != `"7"` {
		t.Errorf("ETag %s, %s\nwant %s", a.header.Get("ETag"), got, want)
	}
	if v := b.ask("GET", "/api/v1/devices/d2/state", "op_viewer", "").want(200).json(); v["version"] != 0.0 || len(v["delta"].(map[string]any)) != 0 {
		t.Errorf("a device without a state: %v", v)
	}
	b.ask("GET", "/api/v1/devices/none/state", "op_viewer", "").wantProblem(404, "device_not_found")
	h := b.ask("GET", statePath+"/history", "op_viewer", "").want(200)
	want = `{"changes":[{"version":7,"time":"1970-01-01T00:00:02Z","side":"reported","actor":"device","patch":{"interval":20}},{"version":6,"time":"1970-01-01T00:00:01Z","side":"desired","actor":"otto","bytes":4000}]}`
	if got := strings.TrimSpace(string(h.body)); got != want {
		t.Errorf("history %s\nwant %s", got, want)
	}
	b.ask("GET", "/api/v1/devices/none/state/history", "op_viewer", "").wantProblem(404, "device_not_found")
	b.stateErr = errSecret
	if p := b.ask("GET", statePath+"/history", "op_viewer", "").wantProblem(503, "unavailable"); strings.Contains(p.Detail, "hunter2") {
		t.Error(p.Detail)
	}
}

func TestChangeState(t *testing.T) {
	b := newBench(t, api.Config{})
	b.state = someState()
	patch := func(body string, with ...string) *answer {
		return b.ask("PATCH", statePath, "op_operator", body, with...)
	}
	a := patch(`{"desired":{"a":{"b":null}}}`).want(200)
	if a.header.Get("ETag") != `"7"` || a.json()["version"] != 7.0 {
		t.Errorf("ETag %s: %s", a.header.Get("ETag"), a.body)
	}
	patch(`{"desired":{}}`, `If-Match: "6", W/"7", "x","7"`, "Content-Type: application/merge-patch+json").want(200)
	patch(`{"desired":null}`, `If-Match: *`).want(200)
	patch(`{}`, `If-Match: W/"7"`).want(200)
	want := []string{`d1 {"a":{"b":null}} [] otto`, `d1 {} [6 7] otto`, `d1 null [] otto`, `d1 {} [] otto`}
	if got := b.said(&b.desires); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("desired %q\nwant %q", got, want)
	}

	p := patch(`{"desired":[]}`, "If-Match: 7").wantProblem(400, "bad_if_match")
	if p.Errors[0].Location != "header.If-Match" {
		t.Errorf("%+v", p)
	}
	for body, want := range map[string]string{
		``: "body", `[1]`: "body", `{"desired":{}}x`: "body", `{"reported":{}}`: "body/reported", `{"desired":{"a":1,"a":2}}`: "body/desired/a",
	} {
		if p := patch(body).wantProblem(422, "invalid"); p.Errors[0].Location != want {
			t.Errorf("%s: location %s, want %s", body, p.Errors[0].Location, want)
		}
	}
	patch(`{"desired":{}}`, "Content-Type: text/csv").wantProblem(415, "unsupported_media_type")
	if p := patch(`{"desired":{"a":"`+strings.Repeat("x", 128<<10)+`"}}`).wantProblem(413, "frame_too_large"); p.Limit != 128<<10 {
		t.Errorf("%+v", p)
	}
	b.ask("PATCH", "/api/v1/devices/none/state", "op_operator", `{}`).wantProblem(404, "device_not_found")
	for _, c := range []struct {
		err    error
		status int
		reason string
	}{
		{&state.VersionError{Device: "d1", Current: 8}, 412, "version_mismatch"},
		{&state.InvalidError{Pointer: "/desired", Message: "large", Limit: 4, Value: 5, TooLarge: true}, 413, "state_too_large"},
		{&state.BusyError{Limit: 64}, 503, "too_many_changes"},
		{fmt.Errorf("device d1: %w", state.ErrNoDevice), 404, "device_not_found"},
		{state.ErrClosed, 503, "hub_stopping"},
		{fmt.Errorf("%w: %w", state.ErrNotMade, errSecret), 503, "unavailable"},
		{fmt.Errorf("%w: %w", state.ErrUncertain, errSecret), 503, "unavailable"},
	} {
		b.stateErr = c.err
		a := patch(`{"desired":{"a":1}}`)
		p := a.wantProblem(c.status, c.reason)
		if strings.Contains(p.Detail, "hunter2") {
			t.Error(p.Detail)
		}
		if c.status == http.StatusPreconditionFailed && (p.Value != 8 || a.header.Get("ETag") != `"8"`) {
			t.Errorf("ETag %s, %+v", a.header.Get("ETag"), p)
		}
	}
}

func TestDeviceReportsByHTTP(t *testing.T) {
	b := newBench(t, api.Config{})
	b.state = someState()
	a := b.ask("POST", statePath, "dev_1", `{"reported":{"a":1}}`).want(200)
	if got, want := strings.TrimSpace(string(a.body)), `{"desired":{"interval":20,"n":9007199254740993},"version":7,"delta":{"interval":20}}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	b.ask("POST", statePath, "dev_1", `{"a":2}`).want(200)
	b.ask("POST", statePath, "dev_1", `{"reported":5}`).wantProblem(422, wire.ReasonBadParams)
	b.ask("POST", statePath, "dev_1", `{"a"`).wantProblem(400, wire.ReasonBadJSON)
	b.ask("POST", statePath, "dev_2", `{}`).wantProblem(403, "wrong_device")
	b.stateErr = &wire.Error{Code: wire.CodeTooLarge, Reason: wire.ReasonStateTooLarge, Message: "large"}
	b.ask("POST", statePath, "dev_1", `{"a":3}`).wantProblem(413, wire.ReasonStateTooLarge)
	b.stateErr = errors.New("the hub stops")
	b.ask("POST", statePath, "dev_1", `{"a":4}`).wantProblem(503, "unavailable")
	want := []string{`d1 {"a":1}`, `d1 {"a":2}`, `d1 {"a":3}`, `d1 {"a":4}`}
	if got := b.said(&b.reports); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("reported %q\nwant %q", got, want)
	}
	refused := "d1 bad_params d1 bad_json d1 state_too_large"
	if got := strings.Join(b.said(&b.refused), " "); got != refused {
		t.Errorf("refused %s, want %s", got, refused)
	}
}

// A device made with the id of a deleted one begins without its state.
func TestStateEndsWithItsDevice(t *testing.T) {
	b := newBench(t, api.Config{})
	b.ask("DELETE", "/api/v1/devices/d1", "op_admin", "").want(200)
	b.ask("POST", "/api/v1/devices", "op_admin", `{"id":"d9"}`).want(201)
	if got := strings.Join(b.said(&b.forgotten), " "); got != "d1 d9" {
		t.Errorf("forgotten: %s", got)
	}
}

func TestLiveStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newFakeHub()
		s := newAPI(t, hub, api.Config{}, &lockedBuffer{})
		c := newSlowClient()
		close(c.take)
		ended, hangUp := stream(t, s, hub, "?device=d1&kind=state", c)
		<-hub.states.opened
		hub.states.c <- state.Update{Document: state.Document{Device: "d2", Version: 1}, DesiredChanged: true}
		hub.states.c <- state.Update{Document: someState(), DesiredChanged: true, ReportedChanged: true}
		synctest.Wait()
		want := "event: state\ndata: " + `{"device":"d1","version":7,"time":"1970-01-01T00:00:02Z","changed":["desired","reported"],"by":"otto",` +
			`"desired":{"interval":20,"n":9007199254740993},"reported":{"interval":10},"delta":{"interval":20}}` + "\n\n"
		if got := c.text(); !strings.HasSuffix(got, "\n\n"+want) || strings.Contains(got, "d2") {
			t.Errorf("stream %q\nwant %q", got, want)
		}
		hangUp()
		<-ended
		<-hub.states.closed
	})
}
