package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// backlog lets 50 devices bring what they kept over an outage while 200 live ones send, and compares the live ones'
// acks with those of a time without.
func backlog(ctx context.Context, s *scene) error {
	if err := s.embedded(ctx); err != nil {
		return err
	}
	const keepers, live = 50, 200
	total := scale(s.lab, 20_000, 100_000)
	file := filepath.Join(s.dir, "kept-location_backlog.csv")
	if err := os.WriteFile(file, kept(keepers, total), 0o600); err != nil {
		return fmt.Errorf("write the backlog: %w", err)
	}
	alive := load{devices: live, rate: 5, duration: scale(s.lab, 8*time.Second, 30*time.Second)}
	calm, err := s.simulate(alive)
	if err != nil {
		return err
	}
	if err := s.conclude(ctx, calm); err != nil {
		return err
	}
	quiet, err := calm.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	busy, err := s.simulate(alive)
	if err != nil {
		return err
	}
	if _, err := s.hub.received(ctx, s.stored+live); err != nil {
		return err
	}
	flood, err := s.simulate(load{args: []string{"--replay", file, "--speed", "0", "--batch", "20"}})
	if err != nil {
		return err
	}
	if err := s.conclude(ctx, busy, flood); err != nil {
		return err
	}
	loud, err := busy.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	s.happened("backlog", total)
	s.fact("live_p99_ms_without", quiet.AckMs.P99)
	s.fact("live_p99_ms_with", loud.AckMs.P99)
	s.fact("ratio", math.Round(loud.AckMs.P99/quiet.AckMs.P99*100)/100)
	return nil
}

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
