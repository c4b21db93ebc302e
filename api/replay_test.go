package api_test

import (
	"testing"

	"telemetryhub/api"
)

func TestReplayIsStartedOnceShownAndCancelled(t *testing.T) {
	b := newBench(t, api.Config{Now: newClock().now})
	b.ask("GET", "/api/v1/replay", "op_viewer", "").wantProblem(404, "no_replay")
	b.ask("POST", "/api/v1/replay", "op_admin", `{"from":"-1h","to":"-2h"}`).wantProblem(422, "bad_parameter")
	b.ask("POST", "/api/v1/replay", "op_admin", `{"from":"yesterday"}`).wantProblem(422, "bad_parameter")
	b.ask("POST", "/api/v1/replay", "op_admin", `{}`).wantProblem(422, "invalid")
	got := b.ask("POST", "/api/v1/replay", "op_admin", `{"from":"1000","to":"2000","device":"d1"}`).want(202).json()
	if got["state"] != "running" || got["device"] != "d1" {
		t.Errorf("started: %v", got)
	}
	if r, _ := (fakeReplays{b.fakeHub}).Last(); r.From.UnixMilli() != 1000 || r.To.UnixMilli() != 2000 {
		t.Errorf("asked for %v to %v", r.From, r.To)
	}
	b.ask("POST", "/api/v1/replay", "op_admin", `{"from":"-24h"}`).wantProblem(409, "replay_running")
	if got := b.ask("DELETE", "/api/v1/replay", "op_admin", "").want(200).json(); got["state"] != "cancelled" {
		t.Errorf("cancelled: %v", got)
	}
	b.ask("GET", "/api/v1/replay", "op_viewer", "").want(200)
}
