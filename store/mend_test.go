package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"telemetryhub/store"
)

// What a crash leaves between the engine's truncating a manifest and its writing it, and what one leaves within the mending.
func TestEmbeddedMendsAnIndexThatACrashCutShort(t *testing.T) {
	cut := func(t *testing.T, manifest string) {
		t.Helper()
		if err := os.Truncate(manifest, 0); err != nil {
			t.Fatal(err)
		}
	}
	for name, harm := range map[string]func(t *testing.T, index string){
		"one manifest is empty": func(t *testing.T, index string) { cut(t, filepath.Join(index, "3", "MANIFEST")) },
		"all manifests are empty": func(t *testing.T, index string) {
			for partition := range 8 {
				cut(t, filepath.Join(index, fmt.Sprint(partition), "MANIFEST"))
			}
		},
		"half a manifest": func(t *testing.T, index string) {
			if err := os.Truncate(filepath.Join(index, "0", "MANIFEST"), 40); err != nil {
				t.Fatal(err)
			}
		},
		"no index, as a crash within the mending leaves it": func(t *testing.T, index string) {
			if err := os.RemoveAll(index); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openEmbedded(t, dir, 0)
			const devices = 50
			for k := range devices {
				write(t, s, fmt.Sprintf("telemetry,device=d%d n=%d %d", k, k, t0))
			}
			closeStore(t, s)
			s = openEmbeddedFlushed(t, dir) // some points in TSM files,
			write(t, s, fmt.Sprintf("telemetry,device=d0 n=7 %d\nevent,device=new n=8 %d", t0+1, t0+1))
			closeStore(t, s) // some in the log
			harm(t, filepath.Join(dir, "data", "telemetry", "autogen", "1", "index"))

			s = openEmbedded(t, dir, 0)
			if err := s.Check(t.Context()); err != nil {
				t.Fatalf("Check: %v", err)
			}
			write(t, s, fmt.Sprintf("telemetry,device=d1 n=9 %d", t0+2))
			wantRows(t, read(t, s, store.Query{Device: "d0"}), row(t0, "n", 0.0), row(t0+1, "n", 7.0))
			wantRows(t, read(t, s, store.Query{Device: "d1"}), row(t0, "n", 1.0), row(t0+2, "n", 9.0))
			wantRows(t, read(t, s, store.Query{Device: "new", Measurement: "event"}), row(t0+1, "n", 8.0))
			for k := 2; k < devices; k++ {
				wantRows(t, read(t, s, store.Query{Device: fmt.Sprint("d", k)}), row(t0, "n", float64(k)))
			}
		})
	}
}

func TestEmbeddedFlushesALongLog(t *testing.T) {
	dir := t.TempDir()
	s := openEmbedded(t, dir, 0)
	for k := range 20 {
		write(t, s, fmt.Sprintf("telemetry,device=a n=%d %d", k, t0+int64(k)))
	}
	closeStore(t, s)
	s = openEmbeddedFlushed(t, dir)
	if points, err := filepath.Glob(filepath.Join(dir, "data", "telemetry", "autogen", "1", "*.tsm")); err != nil || len(points) != 1 {
		t.Errorf("TSM files: %v, %v", points, err)
	}
	logs, err := os.ReadDir(filepath.Join(dir, "wal", "telemetry", "autogen", "1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		if info, err := log.Info(); err != nil || info.Size() > 0 {
			t.Errorf("%s is left: %v, %v", log.Name(), info, err)
		}
	}
	if rows := read(t, s, store.Query{Device: "a"}); len(rows) != 20 {
		t.Errorf("%d rows", len(rows))
	}
}

// openEmbeddedFlushed opens the engine and has it write its log into TSM files first, whatever its size.
func openEmbeddedFlushed(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.OpenEmbedded(t.Context(), store.EmbeddedConfig{Dir: dir, LongLog: 1}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}
