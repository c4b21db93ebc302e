package api_test

import (
	"slices"
	"testing"

	"telemetryhub/api"
)

func TestQuarantineIsRetriedAndDropped(t *testing.T) {
	b := newBench(t, api.Config{})
	if got := b.ask("POST", "/api/v1/quarantine/7/retry", "op_operator", "").want(200).json(); got["state"] != "stored" || got["id"] != "7" {
		t.Errorf("retried: %v", got)
	}
	if got := b.ask("DELETE", "/api/v1/quarantine/7", "op_admin", "").want(200).json(); got["state"] != "dropped" {
		t.Errorf("dropped: %v", got)
	}
	b.ask("POST", "/api/v1/quarantine/8/retry", "op_operator", "").wantProblem(404, "not_quarantined")
	b.ask("DELETE", "/api/v1/quarantine/8", "op_admin", "").wantProblem(404, "not_quarantined")
	b.ask("GET", "/api/v1/quarantine/8", "op_viewer", "").wantProblem(404, "not_quarantined")
	b.ask("GET", "/api/v1/quarantine/7", "op_viewer", "").want(200)
	// Nobody empties it by leaving something out.
	b.ask("DELETE", "/api/v1/quarantine", "op_admin", "").wantProblem(422, "bad_parameter")
	b.ask("DELETE", "/api/v1/quarantine?all=true", "op_admin", "").want(200)
	if got := b.ask("POST", "/api/v1/quarantine/retry?device=d1&reason=time_past&cursor=5&limit=2", "op_operator", "").want(200).json(); got["next"] != "9" {
		t.Errorf("retried several: %v", got)
	}
	want := []string{
		"retry 7", "drop 7", "{Device: Reason: Cursor: Limit:100} drop=true", "{Device:d1 Reason:time_past Cursor:5 Limit:2} drop=false",
	}
	if got := b.said(&b.settled); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestDeepAuditComparesWithTheStore(t *testing.T) {
	b := newBench(t, api.Config{})
	for _, c := range []struct {
		points uint64
		agrees bool
	}{{2, true}, {1, false}, {3, false}} {
		b.mu.Lock()
		b.points = c.points
		b.mu.Unlock()
		device := b.ask("GET", "/api/v1/audit?deep=true", "op_viewer", "").want(200).json()["devices"].([]any)[0].(map[string]any)
		store, ok := device["store"].(map[string]any)
		if !ok || store["points"] != float64(c.points) || store["agrees"] != c.agrees {
			t.Errorf("%d points: %v", c.points, device)
		}
	}
	if device := b.ask("GET", "/api/v1/audit", "op_viewer", "").want(200).json()["devices"].([]any)[0].(map[string]any); device["store"] != nil {
		t.Errorf("not asked for: %v", device)
	}
}
