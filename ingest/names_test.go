package ingest

import (
	"fmt"
	"testing"

	"telemetryhub/wire"
)

const maxNames = 1024

func fieldsNamed(names ...string) (fields []wire.Field) {
	for _, n := range names {
		fields = append(fields, wire.Field{Name: []byte(n)})
	}
	return fields
}

func TestADeviceHasABudgetOfFieldNames(t *testing.T) {
	var n names
	for i := range maxNames / 2 {
		if !n.admit(nil, fieldsNamed(fmt.Sprint("a", i), fmt.Sprint("b", i)), maxNames) {
			t.Fatalf("refused at %d names", 2*i)
		}
	}
	if n.admit(nil, fieldsNamed("a1", "one more"), maxNames) {
		t.Error("a name over the budget was admitted")
	}
	for range 2 { // the second time it has the shape of the last
		if !n.admit(nil, fieldsNamed("a1", "b7"), maxNames) {
			t.Error("names within the budget were refused after one over it")
		}
	}
	if n.admit([]byte("other"), fieldsNamed("a1"), maxNames) {
		t.Error("the same field of another measurement is another name")
	}
	if !n.admit([]byte(wire.DefaultMeasurement), fieldsNamed("a2"), maxNames) {
		t.Error("the default measurement by its name is another one")
	}
	if len(n.known) != maxNames {
		t.Errorf("%d names known, want %d: what was refused left something behind", len(n.known), maxNames)
	}
}

func TestAReadingLikeTheLastCostsNoMemory(t *testing.T) {
	var n names
	fields := fieldsNamed("temp", "hum", "co2", "n")
	n.admit(nil, fields, maxNames)
	if allocs := testing.AllocsPerRun(100, func() { n.admit(nil, fields, maxNames) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}
