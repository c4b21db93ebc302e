package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestEachCrossingWarnsOnce(t *testing.T) {
	var log bytes.Buffer
	f := &fullness{of: "the disk", log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, step := range []struct {
		percent uint64
		logged  string // the level, empty if nothing is
		message string
	}{
		{10, "", ""},
		{69, "", ""},
		{70, "WARN", "70 % of 100 MiB are used"},
		{84, "", "84 %"},
		{69, "", "69 %"}, // to and fro is one crossing
		{71, "", "71 %"},
		{85, "WARN", "85 %"},
		{81, "", "81 %"},
		{99, "", "99 %"},
		{79, "INFO", "79 %"},
		{66, "", "66 %"},
		{64, "INFO", ""},
		{90, "WARN", "90 %"}, // over both at once
		{0, "INFO", ""},
	} {
		log.Reset()
		f.note(step.percent<<20, 100<<20)
		got := log.String()
		if step.logged == "" && got != "" || !strings.Contains(got, "level="+step.logged) && step.logged != "" || strings.Count(got, "\n") > 1 {
			t.Errorf("at %d %% it logged %q, want %q", step.percent, got, step.logged)
		}
		if m := f.message(); (step.message == "") != (m == "") || !strings.HasPrefix(m, step.message) {
			t.Errorf("at %d %% the message is %q, want %q", step.percent, m, step.message)
		}
	}
	f.note(5, 0)
	if f.message() != "" {
		t.Error("what has no limit is full")
	}
}
