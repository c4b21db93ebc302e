package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/api/client"
)

func TestChoose(t *testing.T) {
	all := parts()
	names := figureNames(all)
	if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(names) {
		t.Errorf("a figure's name is there twice: %v", names)
	}
	for _, test := range []struct {
		only string
		want []string // first figure of each part
	}{
		{"ack_ms_p99", []string{"ack_ms_p50"}},
		{"rss,command", []string{"command_ms_p50", "rss_kb_per_idle_device_200", "rss_kb_per_idle_device_2000"}},
	} {
		chosen, err := choose(all, strings.Split(test.only, ","))
		var got []string
		for _, p := range chosen {
			got = append(got, p.gives[0].name)
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("-only %s: %v, %v, want %v", test.only, got, err, test.want)
		}
	}
	if chosen, err := choose(all, nil); err != nil || len(chosen) != len(all) {
		t.Errorf("without -only: %d of %d, %v", len(chosen), len(all), err)
	}
	if _, err := choose(all, []string{"ack", "latency"}); err == nil || !strings.Contains(err.Error(), "latency") {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-only", "nothing"}, {"-runs", "-1"}, {"stray"}, {"-unknown"}} {
		var usage usageError
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.As(err, &usage) {
			t.Errorf("%v: %v, want a usage error", args, err)
		}
	}
	err := run(t.Context(), []string{"-bin", t.TempDir()}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without the programs: %v", err)
	}
}

// testLab is one whose measurements write nowhere.
func testLab(t *testing.T, runs int) (l *lab, stdout *bytes.Buffer) {
	t.Helper()
	stdout = &bytes.Buffer{}
	return &lab{dir: t.TempDir(), runs: runs, pace: quickPace(), stdout: stdout, stderr: io.Discard, start: time.Now()}, stdout
}

func TestMeasurePart(t *testing.T) {
	boom := errors.New("boom")
	n := 0
	p := part{gives: []quantity{{"a", "s"}, {"b", "KB"}}, ran: "nothing", run: func(context.Context, *lab, string) ([]float64, error) {
		if n++; n == 2 {
			return nil, boom
		}
		return []float64{float64(n), 10 * float64(n)}, nil
	}}
	l, stdout := testLab(t, 3)
	if err := l.measurePart(t.Context(), p); !errors.Is(err, boom) {
		t.Errorf("the failed run is not told: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"name":"a","value":2,"unit":"s","runs":2`) || !strings.Contains(lines[1], `"spread":{"min":10,"max":30}`) {
		t.Errorf("the two runs that succeeded: %s", stdout)
	}
}

func TestMeasurePartLeftOut(t *testing.T) {
	p := part{gives: []quantity{{"a", "s"}}, run: func(context.Context, *lab, string) ([]float64, error) {
		return nil, &leftOut{errors.New("no database")}
	}}
	l, stdout := testLab(t, 3)
	if err := l.measure(t.Context(), []part{p}); err != nil || stdout.Len() > 0 {
		t.Errorf("what cannot be measured here is no failure and no figure: %v, %q", err, stdout)
	}
}

func TestJudge(t *testing.T) {
	l, _ := testLab(t, 1)
	s := saturation{devices: 200, batch: 1, rate: 1000}
	start := time.Now()
	first := instant{at: start, cpu: time.Second, readings: client.Counts{Received: 1000, Stored: 900, Queued: 100}}
	last := instant{at: start.Add(10 * time.Second), cpu: 11 * time.Second, readings: client.Counts{Received: 1_001_000, Stored: 500_900, Queued: 500_100}}
	drained := instant{at: start.Add(15 * time.Second), cpu: 13 * time.Second, readings: client.Counts{Received: 1_001_000, Stored: 1_001_000}}

	cost, perSecond, err := s.judge(l, first, last, drained)
	if err != nil || cost != 12 || perSecond != 50_000 {
		t.Errorf("%v us, %v/s, %v; want 12 (with what was put off), 50000", cost, perSecond, err)
	}
	slow := s
	slow.rate = 250
	if _, _, err := slow.judge(l, first, last, drained); err == nil || !strings.Contains(err.Error(), "not saturated") {
		t.Errorf("all that was asked for came through: %v", err)
	}
	lost := drained
	lost.readings.Stored--
	if _, _, err := s.judge(l, first, last, lost); err == nil || !strings.Contains(err.Error(), "1 are missing") {
		t.Errorf("a reading is missing: %v", err)
	}
	refused := drained
	refused.readings.Received++
	refused.readings.Refused = map[string]uint64{"bad_json": 1}
	if _, _, err := s.judge(l, first, last, refused); err == nil {
		t.Error("a refused reading made no error")
	}
}

func TestSettled(t *testing.T) {
	for _, test := range []struct {
		name   string
		read   func(n int) float64
		want   float64
		stable bool
		after  time.Duration
	}{
		{"at once", func(int) float64 { return 1000 }, 1000, true, settleAtLeast},
		{"within 1 %", func(n int) float64 { return 1000 + float64(n%2)*9 }, 1000, true, settleAtLeast},
		{"later", func(n int) float64 { return float64(1000 + 100*min(n, 8)) }, 1800, true, 13 * settleEvery},
		{"never", func(n int) float64 { return float64(1000 * (1 + n%2)) }, 1000, false, settleLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, n := time.Now(), -1
				got, stable, err := settled(t.Context(), func() (float64, error) { n++; return test.read(n), nil })
				if err != nil || got != test.want || stable != test.stable || time.Since(start) != test.after {
					t.Errorf("%v, %v after %v, %v; want %v, %v after %v", got, stable, time.Since(start), err, test.want, test.stable, test.after)
				}
			})
		})
	}
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, n := time.Now(), 0
		if err := until(t.Context(), "three", time.Second, time.Minute, func() (bool, error) { n++; return n == 3, nil }); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		boom := errors.New("boom")
		if err := until(t.Context(), "it", time.Second, time.Minute, func() (bool, error) { return false, boom }); !errors.Is(err, boom) {
			t.Errorf("%v, want %v", err, boom)
		}
		if err := until(t.Context(), "it", time.Second, time.Minute, func() (bool, error) { return false, nil }); err == nil || !strings.Contains(err.Error(), "not within 1m0s") {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := until(ctx, "it", time.Second, time.Minute, func() (bool, error) { return false, nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestTail(t *testing.T) {
	out := newTail()
	_, changed := out.now()
	for range 1000 {
		if _, err := out.Write([]byte("a line that is long enough\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.Write([]byte("{\"sent\":1}\n\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("a write was not told")
	}
	if text, _ := out.now(); len(text) > tailBytes {
		t.Errorf("%d bytes are kept", len(text))
	}
	if got := string(out.lastLine()); got != `{"sent":1}` {
		t.Errorf("the last line is %q", got)
	}
}
