package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/store"
)

func TestFunctionsOverAll(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		random := rand.New(rand.NewPCG(1, 2))
		var lines []string
		var values []float64
		for k := range 5000 {
			v := random.NormFloat64() * 1000
			values = append(values, v)
			lines = append(lines, fmt.Sprintf(`telemetry,device=a x=%v,s="text",b=%t %d`, v, k%2 == 0, t0+int64(k)*200_000)) // 11 days: several shards
		}
		write(t, s, lines...)
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		want := map[string]float64{
			"mean": sum / 5000, "sum": sum, "count": 5000, "min": slices.Min(values), "max": slices.Max(values),
			"first": values[0], "last": values[4999],
		}
		for fn, exact := range want {
			rows := read(t, s, store.Query{Device: "a", Fields: []string{"x"}, Fn: fn, From: at(t0)})
			if len(rows) != 1 || len(rows[0].Values) != 1 || rows[0].Time != t0 {
				t.Fatalf("%s: %v", fn, rows)
			}
			if got := rows[0].Values["x"].(float64); math.Abs(got-exact) > 1e-9*math.Max(1, math.Abs(exact)) {
				t.Errorf("%s: got %v, want %v", fn, got, exact)
			}
		}
		// Fields whose type a function does not take are left out, named or not.
		fields := map[string][]string{
			"mean": {"x"}, "sum": {"x"}, "min": {"b", "x"}, "max": {"b", "x"},
			"count": {"b", "s", "x"}, "first": {"b", "s", "x"}, "last": {"b", "s", "x"},
		}
		for fn, want := range fields {
			for _, named := range [][]string{nil, {"x", "s", "b", "x"}} {
				rows := read(t, s, store.Query{Device: "a", Fields: named, Fn: fn})
				if len(rows) != 1 || !slices.Equal(slices.Sorted(maps.Keys(rows[0].Values)), want) {
					t.Errorf("%s of %v: %v, want fields %v", fn, named, rows, want)
				}
			}
		}
		wantRows(t, read(t, s, store.Query{Device: "a", Fields: []string{"s"}, Fn: "mean"}))
	})
}

func TestPrefixIsStrippedOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		write(t, s, fmt.Sprintf("telemetry,device=a mean_x=1,mean_mean_x=2,x=3,ax=4,x.a=5 %d", t0))
		wantRows(t, read(t, s, store.Query{Device: "a", Fn: "mean"}), row(0, "mean_x", 1.0, "mean_mean_x", 2.0, "x", 3.0, "ax", 4.0, "x.a", 5.0))
		wantRows(t, read(t, s, store.Query{Device: "a", Fn: "mean", Fields: []string{"x", "mean_x"}}), row(0, "mean_x", 1.0, "x", 3.0))
		wantRows(t, read(t, s, store.Query{Device: "a", Fields: []string{"mean_x"}}), row(t0, "mean_x", 1.0))
	})
}

func TestWindows(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		for k, v := range []float64{1, 2, 3, 10, 20} { // the third minute has no points
			ms := t0 + int64(k)*20_000
			if k >= 3 {
				ms = t0 + 120_000 + int64(k)*20_000
			}
			write(t, s, fmt.Sprintf(`telemetry,device=a x=%v,s="t" %d`, v, ms))
		}
		q := store.Query{Device: "a", From: at(t0), To: at(t0 + 600_000), Every: time.Minute}
		wantRows(t, read(t, s, q), row(t0, "x", 2.0), row(t0+180_000, "x", 15.0)) // mean unless said otherwise
		q.Fn = "count"
		wantRows(t, read(t, s, q), row(t0, "x", 3.0, "s", 3.0), row(t0+180_000, "x", 2.0, "s", 2.0))
		q.Fn, q.Fields = "max", []string{"x", "s"}
		wantRows(t, read(t, s, q), row(t0, "x", 3.0), row(t0+180_000, "x", 20.0))
		q.From = at(t0 + 20_000) // within the first window
		q.Fn = "first"
		wantRows(t, read(t, s, q), row(t0, "x", 2.0, "s", "t"), row(t0+180_000, "x", 10.0, "s", "t"))
		q.Fields, q.Limit = []string{"x"}, 1
		page, err := s.Query(t.Context(), q)
		if err != nil || page.Next == "" {
			t.Fatalf("first page of windows: %v, %v", page, err)
		}
		wantRows(t, page.Rows, row(t0, "x", 2.0))
		q.Cursor = page.Next
		wantRows(t, read(t, s, q), row(t0+180_000, "x", 10.0))
	})
}

func TestLatestIsNewestByMeasuredTimePerField(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		write(t, s, fmt.Sprintf(`telemetry,device=a x=3,s="new" %d`, t0+30))
		write(t, s, fmt.Sprintf(`telemetry,device=a x=1,y=1,b=true,z=1 %d`, t0+10)) // came later, was measured earlier
		write(t, s, fmt.Sprintf(`telemetry,device=a y=2 %d`, t0+20))
		write(t, s, fmt.Sprintf(`telemetry,device=b x=9,y=9 %d`, t0+99))
		write(t, s, fmt.Sprintf(`other,device=a x=8 %d`, t0+99))
		got, err := s.Latest(t.Context(), "a", "")
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]store.Value{
			"x": {3.0, t0 + 30}, "s": {"new", t0 + 30}, "y": {2.0, t0 + 20}, "b": {true, t0 + 10}, "z": {1.0, t0 + 10},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
}

func TestLatestOfManySparseFields(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		var lines []string
		for k := range 250 {
			lines = append(lines, fmt.Sprintf("telemetry,device=a f%d=%d %d", k, k, t0+int64(k)))
		}
		write(t, s, lines...)
		got, err := s.Latest(t.Context(), "a", "")
		if err != nil || len(got) != 250 || got["f7"] != (store.Value{Value: 7.0, Time: t0 + 7}) {
			t.Errorf("%d fields, %v, %v", len(got), got["f7"], err)
		}
	})
}

// Nothing that a user can put into a name is read as InfluxQL.
func TestNamesAreNoStatements(t *testing.T) {
	attacks := []string{
		`a' OR 'x'='x`, `a'; DROP MEASUREMENT telemetry --`, `a\' OR 1=1 --`, `a\`, `"; DROP DATABASE x; SELECT "`, `x") FROM telemetry; --`,
		`/x/`, `*`, `x|device`, `.*`, `$/); DROP MEASUREMENT telemetry; SELECT (/^`, `\Q`, `\/`, `x"::field FROM "telemetry`, `telemetry" WHERE true --`,
	}
	eachEngine(t, func(t *testing.T, s *store.Store) {
		write(t, s, fmt.Sprintf("telemetry,device=secret x=42 %d", t0))
		for _, attack := range attacks {
			for _, q := range []store.Query{
				{Device: attack},
				{Device: attack, Fn: "count"},
				{Device: "secret", Fields: []string{attack}},
				{Device: "secret", Fields: []string{attack}, Fn: "count"},
				{Device: "secret", Measurement: attack},
				{Device: "secret", Measurement: attack, Fn: "count"},
			} {
				wantRows(t, read(t, s, q))
			}
			if latest, err := s.Latest(t.Context(), attack, attack); err != nil || len(latest) != 0 {
				t.Errorf("Latest(%q): %v, %v", attack, latest, err)
			}
		}
		wantRows(t, read(t, s, store.Query{Device: "secret"}), row(t0, "x", 42.0))
	})
}

func TestInvalidQueriesNameTheirField(t *testing.T) {
	s := openEmbedded(t, t.TempDir(), 0)
	for _, c := range []struct {
		field, text string
		query       store.Query
	}{
		{"device", "empty", store.Query{}},
		{"device", "control", store.Query{Device: "a\nb"}},
		{"device", "control", store.Query{Device: "a\x00"}},
		{"device", "UTF-8", store.Query{Device: "a\xff"}},
		{"measurement", "1024", store.Query{Device: "a", Measurement: strings.Repeat("m", 2000)}},
		{"fields", "time", store.Query{Device: "a", Fields: []string{"time"}}},
		{"fields", "500", store.Query{Device: "a", Fields: make([]string, 501)}},
		{"fn", "median", store.Query{Device: "a", Fn: "median"}},
		{"fn", "mean", store.Query{Device: "a", Fn: "mean(x); DROP"}},
		{"limit", "10000", store.Query{Device: "a", Limit: 10_001}},
		{"limit", "10000", store.Query{Device: "a", Limit: -1}},
		{"to", "before", store.Query{Device: "a", From: at(2), To: at(1)}},
		{"every", "10000", store.Query{Device: "a", From: at(0), To: at(20_000_000), Every: time.Second}},
		{"every", "milliseconds", store.Query{Device: "a", From: at(0), Every: time.Microsecond}},
		{"every", "milliseconds", store.Query{Device: "a", From: at(0), Every: -time.Second}},
		{"from", "needed", store.Query{Device: "a", Every: time.Second}},
		{"cursor", "next", store.Query{Device: "a", Cursor: "1"}},
		{"cursor", "next", store.Query{Device: "a", Cursor: "1.-1"}},
		{"cursor", "outside", store.Query{Device: "a", Cursor: "1.0", From: at(5)}},
		{"cursor", "outside", store.Query{Device: "a", Cursor: "5.0", To: at(5)}},
		{"cursor", "one row", store.Query{Device: "a", Cursor: "5.0", Fn: "mean"}},
	} {
		_, err := s.Query(t.Context(), c.query)
		var invalid *store.InvalidQueryError
		if !errors.As(err, &invalid) || invalid.Field != c.field || !strings.Contains(invalid.Message, c.text) {
			t.Errorf("%+v: got %v, want field %s: …%s…", c.query, err, c.field, c.text)
		}
	}
}

func TestAQueryThatTakesTooLongIsEndedAndSaysSo(t *testing.T) {
	s, err := store.OpenEmbedded(t.Context(), store.EmbeddedConfig{Dir: t.TempDir(), QueryTime: time.Millisecond}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	const lines = 200_000
	var batch []byte
	for k := range lines {
		batch = fmt.Appendf(batch, "telemetry,device=a n=%d %d\n", k, t0+int64(k))
	}
	write(t, s, string(batch))
	_, err = s.Query(t.Context(), store.Query{Device: "a", Fn: "mean"})
	var invalid *store.InvalidQueryError
	if !errors.As(err, &invalid) || !strings.Contains(invalid.Message, "longer than the store allows") {
		t.Errorf("a query over %d readings in a millisecond: %v", lines, err)
	}
	write(t, s, fmt.Sprintf("telemetry,device=new n=1 %d", t0)) // no query holds it up any more
}
