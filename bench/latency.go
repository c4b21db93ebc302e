package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"telemetryhub/api/client"
)

// The steady load beside which latencies are taken: 5,000 readings/s.
const (
	steadyDevices = 500
	steadyRate    = 10 // readings/s of each
	steadyTotal   = steadyDevices * steadyRate
	// steadyAchieved is how much of the rate must have been sent for the latency to be that of this load.
	steadyAchieved = 0.95
)

func steadyFlags() []string {
	return []string{"--devices", strconv.Itoa(steadyDevices), "--rate", strconv.Itoa(steadyRate), "--window", "20"}
}

const (
	commandWarmUp = 20
	commandWait   = 10 * time.Second
)

// measureAcks gives the time from a frame's sending to its acknowledgement, as the devices see it.
func measureAcks(ctx context.Context, l *lab, dir string) ([]float64, error) {
	h, err := l.startHub(ctx, dataFolder(dir), "", anyPort)
	if err != nil {
		return nil, err
	}
	defer h.discard()
	sim, err := l.startSim(h, append(steadyFlags(), "--duration", l.pace.ackTime.String())...)
	if err != nil {
		return nil, err
	}
	defer sim.kill()
	s, err := result(ctx, sim)
	if err != nil {
		return nil, err
	}
	achieved := float64(s.Acked) / s.Seconds
	l.tell("acked %d of %d in %.1f s (%.0f/s)", s.Acked, s.Sent, s.Seconds, achieved)
	switch {
	case s.Connected != steadyDevices || s.Reconnects > 0:
		return nil, fmt.Errorf("%d devices connected, %d reconnects", s.Connected, s.Reconnects)
	case s.Acked != s.Sent || s.Refused > 0:
		return nil, fmt.Errorf("sent %d, acked %d, refused %d", s.Sent, s.Acked, s.Refused)
	case achieved < steadyAchieved*steadyTotal:
		return nil, fmt.Errorf("only %.0f readings/s of %d", achieved, steadyTotal)
	}
	return []float64{s.AckMs.P50, s.AckMs.P99}, nil
}

// measureCommands gives the time from an operator's request to the device's answer in the operator's hands: one command
// after the other, over one connection, to each device in turn.
func measureCommands(ctx context.Context, l *lab, dir string) ([]float64, error) {
	h, err := l.startHub(ctx, dataFolder(dir), "", anyPort)
	if err != nil {
		return nil, err
	}
	defer h.discard()
	sim, err := l.startSim(h, steadyFlags()...)
	if err != nil {
		return nil, err
	}
	defer sim.kill()
	if err := h.awaitOnline(ctx, steadyDevices, startLimit, sim); err != nil {
		return nil, err
	}
	if err := wait(ctx, l.pace.warmUp); err != nil {
		return nil, err
	}
	before, err := h.api.Audit(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	began := time.Now()
	var took []time.Duration
	for n := range commandWarmUp + l.pace.commands {
		start := time.Now()
		cmd, err := h.api.SendCommand(ctx, deviceID(n%steadyDevices), client.CommandRequest{Method: "ping", Wait: commandWait})
		if err != nil {
			return nil, fmt.Errorf("command %d: %w", n, err)
		}
		if cmd.State != "done" {
			return nil, fmt.Errorf("command %d to %s ended as %s: %s", n, cmd.Device, cmd.State, cmd.Cause())
		}
		if n >= commandWarmUp {
			took = append(took, time.Since(start))
		}
	}
	after, err := h.api.Audit(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	seconds := time.Since(began).Seconds()
	achieved := float64(after.Total.Received-before.Total.Received) / seconds
	l.tell("%d commands in %.1f s beside %.0f readings/s", len(took), seconds, achieved)
	if achieved < steadyAchieved*steadyTotal {
		return nil, fmt.Errorf("only %.0f readings/s of %d", achieved, steadyTotal)
	}
	return []float64{milliseconds(percentile(took, 50)), milliseconds(percentile(took, 99))}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
