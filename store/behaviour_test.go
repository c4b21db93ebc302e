package store_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"telemetryhub/store"
)

// t0 is a Monday's midnight and a multiple of a minute: 2016-03-14.
const t0 = int64(1_457_913_600_000)

func wantRows(t *testing.T, got []store.Row, want ...store.Row) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func row(ms int64, values ...any) store.Row {
	r := store.Row{Time: ms, Values: map[string]any{}}
	for i := 0; i < len(values); i += 2 {
		r.Values[values[i].(string)] = values[i+1]
	}
	return r
}

func TestTypesComeBackAsWritten(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		write(t, s,
			fmt.Sprintf(`telemetry,device=a f=0.1,neg=-1e-300,whole=5,big=1.7976931348623157e308,i=7i,exact=9007199254740993i,b=true,s="x" %d`, t0),
			fmt.Sprintf(`telemetry,device=a b=false,s="" %d`, t0+1))
		wantRows(t, read(t, s, store.Query{Device: "a"}),
			row(t0, "f", 0.1, "neg", -1e-300, "whole", 5.0, "big", math.MaxFloat64, "i", 7.0, "exact", int64(9007199254740993), "b", true, "s", "x"),
			row(t0+1, "b", false, "s", ""))
	})
}

func TestLateAndOutOfOrder(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		week := 7 * 24 * time.Hour.Milliseconds()
		var want []store.Row
		for _, k := range []int64{5, 1, 3, 0, 4, 2} { // over several shards, newest first among others
			write(t, s, fmt.Sprintf("telemetry,device=a n=%d %d", k, t0+k*week))
		}
		for k := range int64(6) {
			want = append(want, row(t0+k*week, "n", float64(k)))
		}
		wantRows(t, read(t, s, store.Query{Device: "a"}), want...)
	})
}

func TestOverwriteMakesNoSecondPoint(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		line := fmt.Sprintf("telemetry,device=a x=1,y=1 %d", t0)
		write(t, s, line, line)
		write(t, s, line)
		write(t, s, fmt.Sprintf("telemetry,device=a y=2 %d", t0))
		wantRows(t, read(t, s, store.Query{Device: "a"}), row(t0, "x", 1.0, "y", 2.0))
		wantRows(t, read(t, s, store.Query{Device: "a", Fn: "count"}), row(0, "x", 1.0, "y", 1.0))
	})
}

func TestNamesAndTextsSurvive(t *testing.T) {
	const (
		device      = "urn:x.1_2-3"
		measurement = `m ,=é"'\x`
		field       = `f ,=é"'/.*[]$^\x`
		text        = "quote \" back \\ comma , eq = apos ' line\nbreak tab\t é 🜁 \\n end\\"
	)
	escapeName := strings.NewReplacer(",", `\,`, " ", `\ `, "=", `\=`).Replace
	escapeText := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace
	eachEngine(t, func(t *testing.T, s *store.Store) {
		write(t, s,
			fmt.Sprintf(`%s,device=%s %s="%s",other=1 %d`,
				strings.NewReplacer(",", `\,`, " ", `\ `).Replace(measurement), device, escapeName(field), escapeText(text), t0),
			fmt.Sprintf(`telemetry,device=urn:x n=1 %d`, t0+1))
		q := store.Query{Device: device, Measurement: measurement}
		wantRows(t, read(t, s, q), row(t0, field, text, "other", 1.0))
		q.Fields = []string{field}
		wantRows(t, read(t, s, q), row(t0, field, text))
		q.Fn = "last"
		wantRows(t, read(t, s, q), row(0, field, text))
		latest, err := s.Latest(t.Context(), device, measurement)
		if err != nil || latest[field] != (store.Value{Value: text, Time: t0}) {
			t.Errorf("Latest: %v, %v", latest, err)
		}
	})
}

func TestTypeConflictIsRejectedAndTheRestIsStored(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		write(t, s, fmt.Sprintf("telemetry,device=a x=1 %d", t0))
		err := s.Write(t.Context(), inNanos(fmt.Sprintf("telemetry,device=a x=2 %d\ntelemetry,device=a x=\"bad\" %d\ntelemetry,device=a x=3 %d\n", t0+1, t0+2, t0+3)))
		var rejected *store.RejectedError
		if !errors.As(err, &rejected) || !strings.Contains(rejected.Message, "type") || rejected.Line != -1 {
			t.Fatalf("got %#v, want a RejectedError about the type", err)
		}
		wantRows(t, read(t, s, store.Query{Device: "a"}), row(t0, "x", 1.0), row(t0+1, "x", 2.0), row(t0+3, "x", 3.0))
	})
}

func TestUnreadableLineIsRejectedByItsIndex(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		err := s.Write(t.Context(), inNanos(fmt.Sprintf("telemetry,device=a x=1 %d\ntelemetry,device=a x= %d\ntelemetry,device=a x=3 %d\n", t0, t0+1, t0+2)))
		var rejected *store.RejectedError
		if !errors.As(err, &rejected) || rejected.Line != 1 {
			t.Fatalf("got %#v, want a RejectedError of line 1", err)
		}
		wantRows(t, read(t, s, store.Query{Device: "a"}), row(t0, "x", 1.0), row(t0+2, "x", 3.0))
	})
}

// A field of 1 MB and more is stored whole by both engines: the bound on a reading's size is the caller's.
func TestLongText(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		text := strings.Repeat("long ", 300_000)
		write(t, s, fmt.Sprintf("telemetry,device=a s=\"%s\" %d", text, t0))
		rows := read(t, s, store.Query{Device: "a"})
		if len(rows) != 1 || rows[0].Values["s"] != text {
			t.Errorf("the text of %d bytes did not come back", len(text))
		}
	})
}

func TestEmpty(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		if err := s.Write(t.Context(), nil); err != nil {
			t.Errorf("writing nothing: %v", err)
		}
		ask := func() {
			t.Helper()
			for _, q := range []store.Query{
				{Device: "a"},
				{Device: "a", Fields: []string{"none"}},
				{Device: "a", Fn: "mean"},
				{Device: "a", Fn: "mean", Fields: []string{"none"}},
				{Device: "a", Fn: "count", From: at(t0), To: at(t0 + 1)},
				{Device: "a", From: at(t0), To: at(t0)},
				{Device: "a", From: at(t0), To: at(t0 + 60_000), Every: time.Second, Fields: []string{"none"}},
			} {
				wantRows(t, read(t, s, q))
			}
			if latest, err := s.Latest(t.Context(), "a", ""); err != nil || len(latest) != 0 {
				t.Errorf("Latest: %v, %v", latest, err)
			}
		}
		ask() // without a measurement
		write(t, s, fmt.Sprintf("telemetry,device=b x=1 %d", t0))
		ask() // with one, of another device
	})
}

func TestRangeIsFromInclusiveToExclusive(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		for k := range int64(4) {
			write(t, s, fmt.Sprintf("telemetry,device=a n=%d %d", k, t0+k))
		}
		wantRows(t, read(t, s, store.Query{Device: "a", From: at(t0 + 1), To: at(t0 + 3)}), row(t0+1, "n", 1.0), row(t0+2, "n", 2.0))
		half := 500 * time.Microsecond
		wantRows(t, read(t, s, store.Query{Device: "a", From: at(t0).Add(half), To: at(t0 + 2).Add(half)}), row(t0+1, "n", 1.0), row(t0+2, "n", 2.0))
		wantRows(t, read(t, s, store.Query{Device: "a", From: at(t0 + 3), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}), row(t0+3, "n", 3.0))
	})
}

func TestBefore1970(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		write(t, s, "telemetry,device=a n=1 -86400000")
		wantRows(t, read(t, s, store.Query{Device: "a", From: at(-86_400_000), To: at(-86_399_999)}), row(-86_400_000, "n", 1.0))
	})
}

// Two series of one device (another tag) have rows of the same times; no page may lose or repeat one.
func TestPagesLoseAndRepeatNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *store.Store) {
		const times, sites = 40, 5
		var lines []string
		for k := range times {
			for site := range sites {
				lines = append(lines, fmt.Sprintf("telemetry,device=a,site=s%d n=%d %d", site, k*sites+site, t0+int64(k)))
			}
		}
		write(t, s, lines...)
		for _, limit := range []int{1, 3, 5, 7, 200} {
			seen := make(map[float64]int)
			last := int64(math.MinInt64)
			q := store.Query{Device: "a", Fields: []string{"n"}, Limit: limit, From: at(t0)}
			for pages := 0; pages == 0 || q.Cursor != ""; pages++ {
				page, err := s.Query(t.Context(), q)
				if err != nil || pages > times*sites {
					t.Fatalf("limit %d: page %d: %v", limit, pages, err)
				}
				if len(page.Rows) == 0 || len(page.Rows) > limit {
					t.Fatalf("limit %d: a page of %d rows", limit, len(page.Rows))
				}
				for _, r := range page.Rows {
					if r.Time < last {
						t.Fatalf("limit %d: %d after %d", limit, r.Time, last)
					}
					last = r.Time
					seen[r.Values["n"].(float64)]++
				}
				q.Cursor = page.Next
			}
			if len(seen) != times*sites {
				t.Errorf("limit %d: %d rows of %d", limit, len(seen), times*sites)
			}
			for n, count := range seen {
				if count != 1 {
					t.Errorf("limit %d: row %v came %d times", limit, n, count)
				}
			}
		}
	})
}
