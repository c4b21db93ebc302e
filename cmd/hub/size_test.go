package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"telemetryhub/store"
)

// storedBytes returns what the embedded store of a stopped hub has in its files, once its log was written into them.
func storedBytes(t *testing.T, data string) (size int64) {
	t.Helper()
	dir := filepath.Join(data, "tsdb")
	s, err := store.OpenEmbedded(t.Context(), store.EmbeddedConfig{Dir: dir, LongLog: 1}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "data", "telemetry", "autogen", "*", "*.tsm"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the store has no files: %v", err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}
