package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"telemetryhub/api"
	"telemetryhub/commands"
)

const sendPath = "/api/v1/devices/d1/commands"

func TestSendCommand(t *testing.T) {
	b := newBench(t, api.Config{})
	a := b.ask("POST", sendPath, "op_operator", `{"method":"set","params":{"n":9007199254740993},"expires":"24h","timeout":"5s","delivery":"at-least-once"}`,
		"Idempotency-Key: k1").want(201)
	if v := a.json(); v["id"] != commandID || v["state"] != "sent" || v["late"] == nil || yes(v["late"]) || a.header.Get("Location") != "/api/v1/commands/"+commandID {
		t.Errorf("%s, Location %q", a.body, a.header.Get("Location"))
	}
	got := b.sent[0]
	if string(got.Params) != `{"n":9007199254740993}` { // not through a float
		t.Errorf("params %s", got.Params)
	}
	if got.Device != "d1" || got.Method != "set" || got.Actor != "otto" || got.IdempotencyKey != "k1" || got.Expires != 24*time.Hour || got.Timeout != 5*time.Second || got.Delivery != "at-least-once" {
		t.Errorf("request %+v", got)
	}
}

func TestSendAndWait(t *testing.T) {
	// The body's deadline is shorter than the wait: it must not end the request.
	b := newBench(t, api.Config{BodyTimeout: time.Second})
	b.wait = func(ctx context.Context) commands.Command {
		deadline, _ := ctx.Deadline()
		if left := time.Until(deadline); left < 4*time.Minute {
			t.Errorf("the wait ends in %v", left)
		}
		ended := time.After(1200 * time.Millisecond) // the device's answer
		c := sentCommand()
		select {
		case <-ctx.Done():
			t.Error("the wait was cut:", ctx.Err())
		case <-ended:
			c.State, c.Result = "done", json.RawMessage(`{"ok":true}`)
		}
		return c
	}
	v := b.ask("POST", sendPath+"?wait=5m", "op_operator", `{"method":"ping"}`).want(201).json()
	if v["state"] != "done" || !yes(v["result"].(map[string]any)["ok"]) {
		t.Errorf("%v", v)
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	b := newBench(t, api.Config{})
	waiting := make(chan struct{})
	b.wait = func(ctx context.Context) commands.Command {
		close(waiting)
		<-ctx.Done()
		return sentCommand()
	}
	go func() {
		<-waiting
		b.api.Close()
	}()
	if v := b.ask("POST", sendPath+"?wait=5m", "op_operator", `{"method":"ping"}`).want(201).json(); v["state"] != "sent" {
		t.Errorf("%v", v)
	}
}

func TestSendRefusals(t *testing.T) {
	b := newBench(t, api.Config{MaxParams: 1000})
	big := `{"method":"set","params":{"a":"` + strings.Repeat("x", 1000) + `"}}`
	for name, c := range map[string]struct {
		path, body string
		status     int
		reason     string
		says       string
	}{
		"no such device":  {"/api/v1/devices/none/commands", `{"method":"ping"}`, 404, "device_not_found", "none"},
		"no method":       {sendPath, `{}`, 422, "invalid", "method"},
		"wait too long":   {sendPath + "?wait=6m", `{"method":"ping"}`, 422, "bad_parameter", "5m"},
		"wait not a time": {sendPath + "?wait=soon", `{"method":"ping"}`, 422, "bad_parameter", "wait=soon"},
		"expires":         {sendPath, `{"method":"ping","expires":"x"}`, 422, "bad_parameter", "expires=x"},
		"timeout":         {sendPath, `{"method":"ping","timeout":"-1s"}`, 422, "bad_parameter", "timeout=-1s"},
		"delivery":        {sendPath, `{"method":"ping","delivery":"maybe"}`, 422, "invalid", "delivery"},
		"large params":    {sendPath, big, 413, "params_too_large", "1000"},
		"large body":      {sendPath, `{"method":"` + strings.Repeat("x", 6000), 413, "body_too_large", "5096"},
	} {
		t.Run(name, func(t *testing.T) {
			if p := b.ask("POST", c.path, "op_operator", c.body).wantProblem(c.status, c.reason); !strings.Contains(p.Detail, c.says) {
				t.Errorf("detail %q does not say %q", p.Detail, c.says)
			}
		})
	}
	if len(b.sent) != 0 {
		t.Errorf("sent %v", b.sent)
	}

	b.sendErr = &commands.QueueFullError{Device: "d1", Limit: 100, Value: 100}
	p := b.ask("POST", sendPath, "op_operator", `{"method":"ping"}`).wantProblem(429, "queue_full")
	if p.Limit != 100 || p.Value != 100 || p.RetryAfterMs == 0 || !strings.Contains(p.Detail, "commands.queue") {
		t.Errorf("problem %+v", p)
	}
	if p = b.ask("POST", "/api/v1/devices/d3/commands", "op_operator", `{"method":"ping"}`).wantProblem(409, "device_disabled"); !strings.Contains(p.Detail, "d3") {
		t.Errorf("detail %q", p.Detail)
	}
	b.sendErr = &commands.InvalidError{Field: "params", Message: "must be an object or array"}
	p = b.ask("POST", sendPath, "op_operator", `{"method":"ping"}`).wantProblem(422, "invalid")
	if len(p.Errors) != 1 || p.Errors[0].Location != "body.params" {
		t.Errorf("errors %+v", p.Errors)
	}
	b.sendErr = &commands.BusyError{Limit: 7, Value: 8, Unit: "commands"}
	if p = b.ask("POST", sendPath, "op_operator", `{"method":"ping"}`).wantProblem(503, "too_many_commands"); p.Limit != 7 || p.Value != 8 || p.RetryAfterMs == 0 {
		t.Errorf("problem %+v", p)
	}
}

func TestReadAndCancelCommands(t *testing.T) {
	b := newBench(t, api.Config{})
	for _, path := range []string{sendPath, "/api/v1/commands?device=d1&state=sent"} {
		v := b.ask("GET", path, "op_viewer", "").want(200).json()
		if list := v["commands"].([]any); len(list) != 1 || v["next"] != "more" || list[0].(map[string]any)["actor"] != "otto" {
			t.Errorf("%s: %v", path, v)
		}
	}
	if a := b.ask("GET", "/api/v1/devices/d2/commands", "op_viewer", "").want(200); string(a.body) != "{\"commands\":[],\"next\":\"\"}\n" {
		t.Errorf("no commands: %s", a.body)
	}
	b.ask("GET", "/api/v1/commands?state=asleep", "op_viewer", "").wantProblem(422, "invalid")
	if v := b.ask("GET", "/api/v1/commands/"+commandID, "op_viewer", "").want(200).json(); len(v["history"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
	for _, id := range []string{"none", "%20", strings.Repeat("0", 26)} {
		b.ask("GET", "/api/v1/commands/"+id, "op_viewer", "").wantProblem(404, "command_not_found")
	}
	b.ask("GET", "/api/v1/commands?from=soon", "op_viewer", "").wantProblem(422, "bad_parameter")
	b.ask("GET", "/api/v1/commands?device=d1&state=queued,sent&actor=otto&from=1000&to=2026-01-01T00:00:00Z", "op_viewer", "").want(200)
	got := b.filters[len(b.filters)-1]
	if got.Device != "d1" || got.Actor != "otto" || len(got.States) != 2 || got.States[1] != "sent" || got.From.UnixMilli() != 1000 || got.To.Year() != 2026 {
		t.Errorf("filter %+v", got)
	}
	b.ask("DELETE", "/api/v1/commands/"+commandID, "op_operator", "").wantProblem(409, "too_late")
}

func TestCancelSaysWhetherItIsOrTheDeviceWasAsked(t *testing.T) {
	b := newBench(t, api.Config{})
	c := sentCommand()
	c.CancelAsked = time.UnixMilli(5000)
	b.cancelled = &c
	if v := b.ask("DELETE", "/api/v1/commands/"+commandID, "op_operator", "").want(202).json(); v["state"] != "sent" || v["cancel_asked"] != "1970-01-01T00:00:05Z" {
		t.Errorf("%v", v)
	}
	c.State = commands.Cancelled
	if v := b.ask("DELETE", "/api/v1/commands/"+commandID, "op_operator", "").want(200).json(); v["state"] != "cancelled" {
		t.Errorf("%v", v)
	}
	b.ask("DELETE", "/api/v1/commands/"+commandID, "op_viewer", "").wantProblem(403, "role")
}

func TestRetryCommand(t *testing.T) {
	b := newBench(t, api.Config{})
	b.ask("POST", "/api/v1/commands/"+commandID+"/retry", "op_operator", "", "Idempotency-Key: k2").want(201)
	if got := b.sent[0]; got.RetryOf != commandID || got.Actor != "otto" || got.Role != "operator" || got.IdempotencyKey != "k2" {
		t.Errorf("request %+v", got)
	}
	b.ask("POST", "/api/v1/commands/"+strings.Repeat("0", 26)+"/retry", "op_operator", "").wantProblem(404, "command_not_found")
	b.sendErr = fmt.Errorf("%w: it is sent", commands.ErrOpen)
	b.ask("POST", "/api/v1/commands/"+commandID+"/retry", "op_operator", "").wantProblem(409, "not_ended")
}
