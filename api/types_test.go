package api_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"telemetryhub/api"
)

type fakeTypes struct{ *fakeHub }

func (f fakeTypes) List(_ context.Context, q api.TypesQuery) ([]api.FieldType, string, error) {
	if q.Measurement == "none" {
		return nil, "", nil
	}
	return []api.FieldType{{Measurement: "telemetry", Field: "temp", Type: "float", StoredAs: "temp"}}, "more", nil
}

func (f fakeTypes) Get(_ context.Context, measurement, field string) (api.FieldType, bool, error) {
	return api.FieldType{Measurement: measurement, Field: field, Type: "float", StoredAs: field}, field != "none", nil
}

func (f fakeTypes) Set(_ context.Context, c api.TypeChange) (api.FieldTypeSet, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retyped = append(f.retyped, c)
	switch c.Field {
	case "taken":
		return api.FieldTypeSet{}, fmt.Errorf("%w: %q", api.ErrFieldTaken, c.StoredAs)
	case "over":
		return api.FieldTypeSet{}, api.ErrNoRoomForField
	case "away":
		return api.FieldTypeSet{}, &api.UnavailableError{Message: "the store does not say"}
	}
	return api.FieldTypeSet{
		FieldType: api.FieldType{Measurement: c.Measurement, Field: c.Field, Type: c.Type, StoredAs: c.Field + "_float", ChangedBy: c.By, ChangedAt: time.UnixMilli(1)},
		State:     "applied", Message: "stored by another name",
	}, nil
}

func TestTypesAreListedShownAndChanged(t *testing.T) {
	b := newBench(t, api.Config{})
	if got := b.ask("GET", "/api/v1/types", "op_viewer", "").want(200).json(); got["next"] != "more" || len(got["items"].([]any)) != 1 {
		t.Errorf("list: %v", got)
	}
	if got := b.ask("GET", "/api/v1/types?measurement=none", "op_viewer", "").want(200).json(); got["items"] == nil {
		t.Error("an empty list is null")
	}
	b.ask("GET", "/api/v1/types/telemetry/temp", "op_viewer", "").want(200)
	b.ask("GET", "/api/v1/types/telemetry/none", "op_viewer", "").wantProblem(404, "field_not_found")
	got := b.ask("PUT", "/api/v1/types/power/a%2Fb.c%20d", "op_admin", `{"type":"float","stored_as":"x"}`).want(200).json()
	if got["stored_as"] != "a/b.c d_float" || got["changed_by"] != "ada" || got["message"] == "" {
		t.Errorf("set: %v", got)
	}
	if want := (api.TypeChange{Measurement: "power", Field: "a/b.c d", Type: "float", StoredAs: "x", By: "ada"}); len(b.retyped) != 1 || b.retyped[0] != want {
		t.Errorf("the registry was told %+v", b.retyped)
	}
	if b.recorded()[0] != "ada admin type.set accepted" || fmt.Sprint(b.acts[0].Facts) != "map[field:a/b.c d measurement:power stored_as:a/b.c d_float type:float]" {
		t.Errorf("the audit log has %q with %v", b.recorded(), b.acts[0].Facts)
	}
	for _, c := range []struct {
		path, body, reason string
		status             int
	}{
		{"telemetry/taken", `{"type":"float"}`, "field_taken", 409},
		{"telemetry/over", `{"type":"float"}`, "field_limit", 409},
		{"telemetry/away", `{"type":"float"}`, "unavailable", 503},
		{"telemetry/temp", `{"type":"double"}`, "invalid", 422},
		{"telemetry/temp", `{}`, "invalid", 422},
		{"telemetry/_time", `{"type":"float"}`, "reserved_field_name", 422},
		{"telemetry/a%5Cb", `{"type":"float"}`, "bad_field_name", 422},
		{"telemetry/temp", `{"type":"float","stored_as":"device"}`, "reserved_field_name", 422},
		{"%23x/temp", `{"type":"float"}`, "bad_parameter", 422},
	} {
		b.ask("PUT", "/api/v1/types/"+c.path, "op_admin", c.body).wantProblem(c.status, c.reason)
	}
}
