package ingest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"telemetryhub/wire"
)

// TestLatestIsBoundedByField lets a device make up a name with each reading.
func TestLatestIsBoundedByField(t *testing.T) {
	l := &Latest{}
	l.Seed("a", map[string]Value{"oldest": {Value: 1.0, Time: 1}})
	const readings = 5000
	for i := range readings {
		r := &wire.Reading{Time: int64(10 + i), Fields: []wire.Field{{Name: fmt.Appendf(nil, "f%d", i), Kind: wire.Float}, {Name: []byte("steady"), Kind: wire.Float}}}
		l.note("a", nil, r)
		if values, _ := l.Get("a"); len(values) > maxLatest {
			t.Fatalf("%d fields after %d readings", len(values), i+1)
		}
	}
	values, _ := l.Get("a")
	for _, name := range []string{"steady", fmt.Sprint("f", readings-1), fmt.Sprint("f", readings-maxLatest/2)} {
		if _, ok := values[name]; !ok {
			t.Errorf("%s, measured lately, was dropped", name)
		}
	}
	if _, ok := values["oldest"]; ok {
		t.Error("the oldest is still there")
	}
	many := map[string]Value{}
	for i := range 2 * maxLatest {
		many[fmt.Sprint("f", i)] = Value{Value: 1.0, Time: 5}
	}
	l.Seed("b", many)
	if values, complete := l.Get("b"); len(values) > maxLatest || !complete {
		t.Errorf("%d fields from the store, complete %v", len(values), complete)
	}
}

func TestLatestForgetsADevice(t *testing.T) {
	l := &Latest{}
	for _, device := range []string{"a", "b"} {
		l.Seed(device, map[string]Value{"x": {Value: 1.0, Time: 1}})
	}
	l.Forget("a")
	l.Forget("nobody")
	if values, complete := l.Get("a"); len(values) != 0 || complete {
		t.Errorf("%v, complete %v", values, complete)
	}
	if values, _ := l.Get("b"); len(values) != 1 {
		t.Errorf("the other device has %v", values)
	}
}

// A device whose readings stand in another measurement shows those, and begins anew when its type changes.
func TestLatestIsOfTheDevicesHome(t *testing.T) {
	home := "tasmota"
	l := &Latest{home: func(device string) string {
		if device == "plug" {
			return home
		}
		return ""
	}}
	reading := func(field string) *wire.Reading {
		return &wire.Reading{Time: 1, Fields: []wire.Field{{Name: []byte(field), Kind: wire.Float, Number: 1}}}
	}
	fields := func(device string) string {
		values, _ := l.Get(device)
		return strings.Join(slices.Sorted(maps.Keys(values)), " ")
	}
	for _, device := range []string{"plug", "node"} {
		l.note(device, []byte("tasmota"), reading("POWER"))
		l.note(device, nil, reading("a"))
		l.note(device, []byte(wire.DefaultMeasurement), reading("b"))
		l.note(device, []byte("other"), reading("c"))
	}
	if plug, node := fields("plug"), fields("node"); plug != "POWER" || node != "a b" {
		t.Errorf("plug %q, node %q", plug, node)
	}
	home = wire.DefaultMeasurement
	l.note("plug", nil, reading("a"))
	if plug := fields("plug"); plug != "a" {
		t.Errorf("plug %q after its type changed", plug)
	}
}
