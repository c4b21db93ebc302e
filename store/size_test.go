package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"telemetryhub/store"
)

// TestAValueTakesFewBytes holds what is said of the size: at times that vary by ms, as ingest stores readings that come in
// order, and each with a place of its own below its ms, which is what one in a thousand of them costs.
func TestAValueTakesFewBytes(t *testing.T) {
	const each = 20_000
	for _, every := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		for _, c := range []struct {
			name  string
			place int64
			most  float64
		}{{"whole ms", 0, 3.5}, {"places", 1, 10}} {
			random := rand.New(rand.NewPCG(1, 2))
			lines := make([]string, each)
			for i := range lines {
				at := t0 + int64(i)*every.Milliseconds() + random.Int64N(20)
				lines[i] = fmt.Sprintf("telemetry,device=a Temp=%g %d", 20+float64(random.IntN(16))/8, at*1e6+int64(i)*c.place)
			}
			got := bytesPerValue(t, lines, each)
			t.Logf("every %v, %s: %.2f bytes a value", every, c.name, got)
			if got > c.most {
				t.Errorf("every %v, %s: %.2f bytes a value are more than %g", every, c.name, got, c.most)
			}
		}
	}
}

// bytesPerValue writes lines of so many values to an engine and returns what a value takes in its files.
func bytesPerValue(t *testing.T, lines []string, values int) float64 {
	t.Helper()
	dir := t.TempDir()
	s := openEmbedded(t, dir, 0)
	for n := 0; n < len(lines); n += 5000 {
		if err := s.Write(t.Context(), []byte(strings.Join(lines[n:min(n+5000, len(lines))], "\n"))); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	closeStore(t, openEmbeddedFlushed(t, dir))
	size := int64(0)
	files, err := filepath.Glob(filepath.Join(dir, "data", "telemetry", "autogen", "*", "*.tsm"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return float64(size) / float64(values)
}

// writeYear writes a year of one field of one device, a reading a minute.
func writeYear(tb testing.TB, s *store.Store) (from time.Time, readings int) {
	tb.Helper()
	from, readings = time.UnixMilli(t0), 365*24*60
	var batch []byte
	for i := range readings {
		batch = fmt.Appendf(batch, "telemetry,device=a Temp=%g %d000000\n", 20+float64(i%64)/8, t0+int64(i)*60_000+int64(i%17))
		if (i+1)%10_000 == 0 || i == readings-1 {
			if err := s.Write(tb.Context(), batch); err != nil {
				tb.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	return from, readings
}

func yearInWindows(tb testing.TB, s *store.Store, from time.Time, windows int) store.Page {
	tb.Helper()
	page, err := s.Query(tb.Context(), store.Query{
		Device: "a", Fields: []string{"Temp"}, From: from, To: from.Add(365 * 24 * time.Hour), Every: 365 * 24 * time.Hour / time.Duration(windows), Limit: windows + 1,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return page
}

// TestAYearInAThousandWindows computes them in the store.
func TestAYearInAThousandWindows(t *testing.T) {
	s := openEmbedded(t, t.TempDir(), 0)
	from, readings := writeYear(t, s)
	began := time.Now()
	page := yearInWindows(t, s, from, 1000)
	t.Logf("%d readings in %d windows: %v", readings, len(page.Rows), time.Since(began))
	if n := len(page.Rows); n < 1000 || n > 1001 || page.Next != "" { // windows are aligned to the epoch
		t.Errorf("%d windows, next %q", n, page.Next)
	}
}

// BenchmarkAYearInAThousandWindows is the figure: it has to be under a second.
func BenchmarkAYearInAThousandWindows(b *testing.B) {
	s := openEmbedded(b, b.TempDir(), 0)
	from, _ := writeYear(b, s)
	for b.Loop() {
		yearInWindows(b, s, from, 1000)
	}
}
