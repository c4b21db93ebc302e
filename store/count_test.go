package store_test

import (
	"fmt"
	"testing"

	"telemetryhub/store"
)

func TestCountOfAllPointsOfADevice(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		var lines []string
		const many = store.MaxRows + 500 // more than a page
		for k := range many {
			lines = append(lines, fmt.Sprintf("telemetry,device=a n=%d %d", k, t0+int64(k)))
		}
		// Different fields, other measurements with awkward names, and another device.
		lines = append(lines, fmt.Sprintf("telemetry,device=a other=true %d", t0-1), fmt.Sprintf(`m\ "\,x,device=a y="t" %d`, t0),
			fmt.Sprintf("event,device=a y=1 %d", t0), fmt.Sprintf("event,device=b y=1 %d", t0))
		write(t, s, lines...)
		write(t, s, lines[0])
		for device, want := range map[string]uint64{"a": many + 3, "b": 1, "nobody": 0} {
			if got, err := s.Count(t.Context(), device); err != nil || got != want {
				t.Errorf("%s has %d points (%v), want %d", device, got, err, want)
			}
		}
	})
}
