package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"telemetryhub/api"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

const importPath = "/api/v1/devices/import"

func TestImportDevices(t *testing.T) {
	b := newBench(t, api.Config{})
	list := "id,enabled\nn1,\nd1,false\n"
	b.ask("POST", importPath+"?on_existing=update&check=true", "op_admin", list, "Content-Type: text/csv").want(200)
	if _, ok := b.devices["n1"]; ok {
		t.Error("a check made a device")
	}
	a := b.ask("POST", importPath+"?on_existing=update", "op_admin", list, "Content-Type: text/csv; charset=utf-8", "Accept: text/csv").want(200)
	if want := "id,token,outcome\nn1,dev_n1,created\nd1,,updated\n"; string(a.body) != want || a.header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("%s %q", a.header.Get("Content-Type"), a.body)
	}
	if left := b.said(&b.left); !slices.Contains(left, "d1 abandoned by ada: the device was disabled") {
		t.Errorf("the device that was disabled: %v", left)
	}
	a = b.ask("POST", importPath, "op_admin", `{"id":"n2"}`, "Content-Type: application/x-ndjson", "Accept: application/x-ndjson").want(200)
	if want := `{"id":"n2","outcome":"created","token":"dev_n2"}` + "\n"; string(a.body) != want {
		t.Errorf("%q", a.body)
	}
	v := b.ask("POST", importPath+"?on_existing=skip", "op_admin", `{"id":"n2"}`, "Content-Type: application/x-ndjson").want(200).json()
	if v["skipped"] != 1.0 || v["created"] != 0.0 {
		t.Errorf("%v", v)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	act := b.acts[1]
	if act.Act != "devices.import" || fmt.Sprint(act.Facts) != "map[created:1 devices:2 on_existing:update skipped:0 updated:1]" {
		t.Errorf("the audit log: %s %v", act.Act, act.Facts)
	}
	for _, a := range b.acts {
		if strings.Contains(fmt.Sprintf("%+v", a), "dev_") {
			t.Errorf("a token is in the audit log: %+v", a)
		}
	}
}

func TestAFaultyImportTellsAllOfIt(t *testing.T) {
	b := newBench(t, api.Config{})
	p := b.ask("POST", importPath, "op_admin", "id,enabled\nno good,true\nn1,maybe\nd1,\nn3\n", "Content-Type: text/csv").wantProblem(422, "bad_import")
	var at []string
	for _, e := range p.Errors {
		at = append(at, e.Location)
	}
	if got := strings.Join(at, "|"); got != "line 2, id|line 3, enabled|line 4, id|line 5" {
		t.Errorf("faults at %s: %+v", got, p)
	}
	if _, ok := b.devices["n1"]; ok {
		t.Error("half imported")
	}
	p = b.ask("POST", importPath, "op_admin", "id\n"+strings.Repeat("no good\n", 500), "Content-Type: text/csv").wantProblem(422, "bad_import")
	if len(p.Errors) != 100 || !strings.Contains(p.Detail, "500 faults in 500 lines; the first 100 are told") {
		t.Errorf("%d faults: %s", len(p.Errors), p.Detail)
	}
	b.ask("POST", importPath, "op_admin", `[]`, "Content-Type: application/json").wantProblem(415, "unsupported_media_type")
	b.ask("POST", importPath+"?on_existing=replace", "op_admin", "id\nx\n", "Content-Type: text/csv").wantProblem(422, "invalid")
	b.ask("POST", importPath, "op_operator", "id\nx\n", "Content-Type: text/csv").wantProblem(403, "role")
}

type fakeImporter struct{ *fakeHub }

func (f fakeImporter) Import(_ context.Context, entries []devices.Entry, existing devices.Existing, check bool) ([]devices.Imported, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var (
		all    []devices.Imported
		faults []devices.ImportFault
	)
	for i, e := range entries {
		one := devices.Imported{Device: devices.Device{ID: e.ID}, Outcome: devices.Created}
		if _, ok := f.devices[e.ID]; ok {
			one.Outcome = map[devices.Existing]devices.Outcome{devices.SkipExisting: devices.Skipped, devices.UpdateExisting: devices.Updated}[existing]
			one.Device.Enabled = e.Enabled == nil || *e.Enabled
		}
		if err := wire.CheckDeviceID(e.ID); err != nil {
			faults = append(faults, devices.ImportFault{Index: i, Err: &devices.InvalidError{Field: "id", Message: err.Error()}})
		}
		if one.Outcome == "" {
			faults = append(faults, devices.ImportFault{Index: i, Err: devices.ErrExists})
		}
		if one.Outcome == devices.Created && !check {
			one.Token = "dev_" + e.ID
		}
		all = append(all, one)
	}
	if faults != nil {
		return nil, &devices.ImportError{Faults: faults}
	}
	if !check {
		for _, one := range all {
			f.devices[one.Device.ID] = one.Device
		}
	}
	return all, nil
}
