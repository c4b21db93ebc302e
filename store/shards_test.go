package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxdb/services/meta"

	"telemetryhub/store"
)

const day = 24 * time.Hour

// shardsOf counts the shards on the disk.
func shardsOf(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "data", "telemetry", "autogen"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// weekly are readings of each of the weeks before until, one line each.
func weekly(device string, until time.Time, weeks int) string {
	var lines strings.Builder
	for k := range weeks {
		fmt.Fprintf(&lines, "telemetry,device=%s n=%d %d\n", device, k, until.Add(-time.Duration(k)*7*day).UnixMilli())
	}
	return lines.String()
}

func TestReadingsSpreadOverYearsOpenFewFiles(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, dir, 0)
	const weeks = 26 * 52
	write(t, s, weekly("a", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), weeks))
	if n := shardsOf(t, dir); n > 28 {
		t.Errorf("%d shards for 26 years", n)
	}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		inDir := 0
		for _, f := range files {
			if to, err := os.Readlink(filepath.Join("/proc/self/fd", f.Name())); err == nil && strings.HasPrefix(to, dir) {
				inDir++
			}
		}
		if inDir > 400 {
			t.Errorf("%d files are open", inDir)
		}
	}
	if rows := read(t, s, store.Query{Device: "a", Limit: weeks}); len(rows) != weeks {
		t.Errorf("%d readings are stored, want %d", len(rows), weeks)
	}
}

func TestRetentionIsKeptInAFewShards(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, dir, 40*day)
	var lines strings.Builder
	for k := range 39 {
		fmt.Fprintf(&lines, "telemetry,device=a n=1 %d\n", time.Now().Add(-time.Duration(k)*day).UnixMilli())
	}
	write(t, s, lines.String())
	if n := shardsOf(t, dir); n < 5 || n > 10 {
		t.Errorf("%d shards for 40 days, want about 8", n)
	}
}

// A folder of an earlier version has shards of a week. What is written again must find its own, in whatever company.
func TestShardsOfAnotherSpanKeepTheirTimes(t *testing.T) {
	dir := t.TempDir()
	until := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const weeks = 120
	makeWeeks(t, dir, until, weeks)
	for _, retention := range []time.Duration{0, 5000 * day, 1500 * day, 0} {
		s := openEmbedded(t, dir, retention)
		for k := 0; k < weeks; k += 2 {
			write(t, s, fmt.Sprintf("telemetry,device=a n=%d %d", k, until.Add(-time.Duration(k)*7*day).UnixMilli()))
		}
		write(t, s, weekly("a", until, weeks))
		if rows := read(t, s, store.Query{Device: "a"}); len(rows) != weeks {
			t.Errorf("retention %s: %d readings, want %d", retention, len(rows), weeks)
		}
		closeStore(t, s)
	}
}

// makeWeeks writes the metadata of a folder that has a shard of the engine's default span in every other week.
func makeWeeks(t *testing.T, dir string, until time.Time, weeks int) {
	t.Helper()
	c := meta.NewConfig()
	c.Dir = filepath.Join(dir, "meta")
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	client := meta.NewClient(c)
	if err := client.Open(); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.CreateDatabase("telemetry"); err != nil {
		t.Fatal(err)
	}
	for k := 0; k < weeks; k += 2 {
		if _, err := client.CreateShardGroup("telemetry", "autogen", until.Add(-time.Duration(k)*7*day)); err != nil {
			t.Fatal(err)
		}
	}
}
