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
		if !n.admit(nil, fieldsNamed(fmt.Sprint("a", i), fmt.Sprint("b", i)), nameLimit{of: of(maxNames)}) {
			t.Fatalf("refused at %d names", 2*i)
		}
	}
	if n.admit(nil, fieldsNamed("a1", "one more"), nameLimit{of: of(maxNames)}) {
		t.Error("a name over the budget was admitted")
	}
	for range 2 { // the second time it has the shape of the last
		if !n.admit(nil, fieldsNamed("a1", "b7"), nameLimit{of: of(maxNames)}) {
			t.Error("names within the budget were refused after one over it")
		}
	}
	if n.admit([]byte("other"), fieldsNamed("a1"), nameLimit{of: of(maxNames)}) {
		t.Error("the same field of another measurement is another name")
	}
	if !n.admit([]byte(wire.DefaultMeasurement), fieldsNamed("a2"), nameLimit{of: of(maxNames)}) {
		t.Error("the default measurement by its name is another one")
	}
	if len(n.known) != maxNames {
		t.Errorf("%d names known, want %d: what was refused left something behind", len(n.known), maxNames)
	}
}

func TestAReadingLikeTheLastCostsNoMemory(t *testing.T) {
	var n names
	fields := fieldsNamed("temp", "hum", "co2", "n")
	most := nameLimit{of: of(maxNames)}
	n.admit(nil, fields, most)
	if allocs := testing.AllocsPerRun(100, func() { n.admit(nil, fields, most) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// of is a limit that is the same for all devices.
func of(most int) func(string) int { return func(string) int { return most } }

// A device's own limit counts, and only where a name is new.
func TestEachDeviceHasItsOwnLimitOfNames(t *testing.T) {
	asked := 0
	limit := func(device string) int {
		asked++
		return map[string]int{"small": 2}[device]
	}
	var n names
	for i, c := range []struct {
		names []string
		taken bool
		asked int
	}{{[]string{"a", "b"}, true, 1}, {[]string{"a", "b"}, true, 1}, {[]string{"b"}, true, 1}, {[]string{"c"}, false, 2}, {[]string{"a"}, true, 2}} {
		if taken := n.admit(nil, fieldsNamed(c.names...), nameLimit{limit, "small"}); taken != c.taken || asked != c.asked {
			t.Errorf("%d: %v taken %v, asked %d times", i, c.names, taken, asked)
		}
	}
}
