package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A backlog is behind live data if live acks take less than behindMost times what they take without one, by the median of
// several pairs of measurements: one pair on a busy machine says little.
const behindMost = 3

// readBackAfter is how long the backlog's judge waits until it reads back, so that this is not measured.
const readBackAfter = 10 * time.Second

// backlog lets 50 devices bring what they kept over an outage while 200 live ones send, and compares the live ones'
// acks with those of a time without. Both end with the backlog's last ack: what is measured is the time of the backlog
// alone. The devices that bring it would have processors of their own; here their simulator gets what the live ones'
// and the hub leave (nice 10).
func backlog(ctx context.Context, s *scene) error {
	if err := s.embedded(ctx); err != nil {
		return err
	}
	total := scale(s.lab, 20_000, 100_000)
	var without, with, ratios []float64
	for n := range scale(s.lab, 3, 5) {
		quiet, loud, err := s.backlogPair(ctx, n, total)
		if err != nil {
			return err
		}
		s.lab.say("backlog: pair %d: p99 ack %.1f ms without, %.1f ms with", n+1, quiet, loud)
		without, with, ratios = append(without, quiet), append(with, loud), append(ratios, loud/quiet)
	}
	s.happened("backlog", total*len(ratios))
	s.fact("pairs", len(ratios))
	s.fact("live_p99_ms_without", median(without))
	s.fact("live_p99_ms_with", median(with))
	ratio := math.Round(median(ratios)*100) / 100
	s.fact("ratio", ratio)
	if !s.lab.quick && s.lab.races == "" && ratio >= behindMost { // the short form runs beside other tests
		s.problem("live acks took %v times as long with a backlog, want less than %d", ratio, behindMost)
	}
	return nil
}

// backlogPair returns the live devices' p99 ack in ms, first without a backlog and then with one of total readings.
func (s *scene) backlogPair(ctx context.Context, number, total int) (quiet, loud float64, err error) {
	const keepers, live = 50, 200
	file := filepath.Join(s.dir, fmt.Sprintf("kept-location_backlog%d.csv", number))
	if err := os.WriteFile(file, kept(keepers, total), 0o600); err != nil {
		return 0, 0, fmt.Errorf("write the backlog: %w", err)
	}
	alive := load{devices: live, rate: 5, duration: scale(s.lab, 4*time.Second, 15*time.Second)}
	calm, err := s.simulate(alive)
	if err != nil {
		return 0, 0, err
	}
	if err := s.conclude(ctx, calm); err != nil {
		return 0, 0, err
	}
	before, err := calm.judge(ctx, judgeLimit)
	if err != nil {
		return 0, 0, err
	}
	alive.duration = 0
	busy, err := s.simulate(alive)
	if err != nil {
		return 0, 0, err
	}
	if _, err := s.hub.received(ctx, s.stored+live); err != nil {
		return 0, 0, err
	}
	flood, err := s.simulate(load{background: true, args: []string{"--replay", file, "--speed", "0", "--batch", "20", "--verify-after", readBackAfter.String()}})
	if err != nil {
		return 0, 0, err
	}
	if err := s.brought(ctx, uint64(total*(number+1))); err != nil {
		return 0, 0, err
	}
	if err := busy.finish(); err != nil {
		return 0, 0, err
	}
	if err := s.conclude(ctx, busy, flood); err != nil {
		return 0, 0, err
	}
	during, err := busy.judge(ctx, judgeLimit)
	return before.AckMs.P99, during.AckMs.P99, err
}

// brought waits until so many readings of the backlogs are durable.
func (s *scene) brought(ctx context.Context, total uint64) error {
	return until(ctx, fmt.Sprintf("a backlog of %d readings to be acked", total), judgeLimit, func() (bool, error) {
		audit, err := s.hub.audit(ctx)
		var received uint64
		for _, d := range audit.Devices {
			if !strings.HasPrefix(d.Device, "sim-") {
				received += d.Received
			}
		}
		return received >= total, err
	})
}

// median of an odd number of values.
func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// kept is a replay of readings of the last hours, spread over devices: as many rows as total.
func kept(devices, total int) []byte {
	var b strings.Builder
	start := time.Now().Add(-3 * time.Hour).UnixMilli()
	for i := range total {
		node, row := i%devices+1, i/devices
		fmt.Fprintf(&b, "%d, %d, %d, %d, %.2f, %.3f, 185.71, 492.2, 0, 0, 0, %d\n",
			i+1, start+int64(row)*100+int64(node), i, node, 20+float64(row%100)/100, 40+float64(row%1000)/1000, row%2)
	}
	return []byte(b.String())
}
