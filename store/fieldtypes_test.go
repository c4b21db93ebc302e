package store_test

import (
	"fmt"
	"maps"
	"testing"

	"telemetryhub/store"
)

func TestFieldTypesAreWhatTheEngineHas(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		if types, err := s.FieldTypes(t.Context(), ""); err != nil || len(types) != 0 {
			t.Fatalf("before the first point: %v, %v", types, err)
		}
		year := int64(365 * 24 * 3600_000)
		write(t, s,
			fmt.Sprintf(`telemetry,device=a f=1,i=1i,s="x",b=true,odd\ name=2 %d`, t0),
			fmt.Sprintf(`telemetry,device=b twice="x" %d`, t0),
			fmt.Sprintf(`telemetry,device=b twice=1 %d`, t0+year), // another shard, where the engine takes another type
			fmt.Sprintf(`it's"\,\ else,device=a f="x" %d`, t0))
		types, err := s.FieldTypes(t.Context(), "")
		want := map[string]string{"f": "float", "i": "integer", "s": "string", "b": "boolean", "odd name": "float", "twice": "float"}
		if err != nil || !maps.Equal(types, want) {
			t.Errorf("got %v, %v\nwant %v", types, err, want)
		}
		types, err = s.FieldTypes(t.Context(), `it's", else`)
		if want := map[string]string{"f": "string"}; err != nil || !maps.Equal(types, want) {
			t.Errorf("got %v, %v; want %v", types, err, want)
		}
	})
}

// Readings of one millisecond are told apart below it: they stay apart, bear the same time, and no page loses one.
func TestManyPointsOfOneMillisecond(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		for _, ms := range []int64{t0, -86_400_000} {
			const points = 25
			device := fmt.Sprint("d", ms)
			var lines []byte
			for k := range int64(points) {
				lines = fmt.Appendf(lines, "telemetry,device=%s n=%d %d\n", device, k, ms*1_000_000+k*41_666)
			}
			lines = fmt.Appendf(lines, "telemetry,device=%s n=%d %d\n", device, points, (ms+1)*1_000_000)
			for range 2 { // again: the same points
				if err := s.Write(t.Context(), lines); err != nil {
					t.Fatal(err)
				}
			}
			for _, limit := range []int{1, 4, 25, 100} {
				q := store.Query{Device: device, Limit: limit, From: at(ms)}
				n := 0
				for pages := 0; pages == 0 || q.Cursor != ""; pages++ {
					page, err := s.Query(t.Context(), q)
					if err != nil || pages > points {
						t.Fatalf("limit %d, page %d: %v", limit, pages, err)
					}
					for _, r := range page.Rows {
						if want := ms + int64(n/points); r.Time != want || r.Values["n"] != float64(n) {
							t.Fatalf("limit %d: row %d is %v; want the time %d", limit, n, r, want)
						}
						n++
					}
					q.Cursor = page.Next
				}
				if n != points+1 {
					t.Errorf("limit %d: %d rows", limit, n)
				}
			}
			wantRows(t, read(t, s, store.Query{Device: device, From: at(ms), To: at(ms + 1), Fn: "count"}), row(ms, "n", float64(points)))
			latest, err := s.Latest(t.Context(), device, "")
			if err != nil || latest["n"] != (store.Value{Value: float64(points), Time: ms + 1}) {
				t.Errorf("latest %v, %v", latest, err)
			}
		}
	})
}
