package main

import (
	"runtime"
	"testing"
)

// TestProcessorsAreThoseOfBefore: when nobody waits any more the hub uses as many as before, also where an operator said how many.
func TestProcessorsAreThoseOfBefore(t *testing.T) {
	defer runtime.SetDefaultGOMAXPROCS()
	most := runtime.GOMAXPROCS(0)
	for name, c := range map[string]struct {
		variable string
		at       int
	}{"as Go chose": {"", most}, "as the operator chose": {"7", 7}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOMAXPROCS", c.variable)
			runtime.GOMAXPROCS(c.at) // which Go does at the start of a process
			share := shareProcessors()
			share(true)
			if got := runtime.GOMAXPROCS(0); got != 2*c.at {
				t.Errorf("%d while devices wait, not %d", got, 2*c.at)
			}
			share(false)
			if got := runtime.GOMAXPROCS(0); got != c.at {
				t.Errorf("%d afterwards, not %d", got, c.at)
			}
		})
	}
}
