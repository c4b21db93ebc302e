package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// simulation is what is taken from the simulator's last line (DESIGN: device-sim --json).
type simulation struct {
	Connected  int     `json:"connected"`
	Sent       uint64  `json:"sent"`
	Acked      uint64  `json:"acked"`
	Refused    uint64  `json:"refused"`
	Reconnects uint64  `json:"reconnects"`
	Seconds    float64 `json:"seconds"`
	AckMs      struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"ack_ms"`
}

// startSim starts a fleet of wss devices; flags are those that tell what it does. They report no state: its writes, one
// a device when it comes first, would be measured too.
func (l *lab) startSim(h *hub, flags ...string) (*child, error) {
	args := append([]string{"--url", "https://" + h.address, "--ca", h.caFile(), "--admin-token-file", h.tokenFile(), "--json", "--no-state"}, flags...)
	return spawn(filepath.Join(l.bin, "device-sim"), args...)
}

// result waits for the simulator's end and reads what it says.
func result(ctx context.Context, sim *child) (simulation, error) {
	select {
	case <-sim.ended:
	case <-ctx.Done():
		return simulation{}, context.Cause(ctx)
	}
	if sim.err != nil {
		return simulation{}, sim.alive()
	}
	var s simulation
	if err := json.Unmarshal(sim.stdout.lastLine(), &s); err != nil {
		return simulation{}, fmt.Errorf("what device-sim says: %w", err)
	}
	return s, nil
}

// deviceID is the simulator's name for its device number n, from 0.
func deviceID(n int) string { return fmt.Sprintf("sim-%05d", n+1) }

// simLine is how the figures name a fleet.
func simLine(flags []string) string { return "device-sim " + strings.Join(flags, " ") }
