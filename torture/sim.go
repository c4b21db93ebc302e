package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// judgeLimit is how long the simulator may take from the end of its readings to its verdict.
const judgeLimit = 10 * time.Minute

// load is what a simulator sends.
type load struct {
	devices  int
	rate     int           // readings/s of each
	duration time.Duration // 0: until finish
	args     []string      // further ones
	url      string        // empty: the hub's

	background bool // it gets the processor time that others leave
}

// verdict is the simulator's last line, as far as it is needed here.
type verdict struct {
	Devices     int     `json:"devices"`
	Sent        uint64  `json:"sent"`
	Acked       uint64  `json:"acked"`
	Stored      *uint64 `json:"stored"`
	Lost        *uint64 `json:"lost"`
	Duplicated  *uint64 `json:"duplicated"`
	Refused     uint64  `json:"refused"`
	Quarantined uint64  `json:"quarantined"`
	Reconnects  uint64  `json:"reconnects"`
	Postponed   struct {
		Refused, Again uint64
		Told           int64
		LateMs         struct{ P50, P99, Max float64 } `json:"late_ms"`
	} `json:"postponed"`
	AckMs struct {
		P50, P99, Max float64
	} `json:"ack_ms"`
	Commands struct {
		Verified *ledgerVerdict `json:"verified"`
	} `json:"commands"`
}

// ledgerVerdict is what came of holding the hub's ledger of commands against the devices' journals.
type ledgerVerdict struct {
	Ledger   uint64 `json:"ledger"`
	Executed uint64 `json:"executed"`
	Twice    uint64 `json:"twice"`
	Open     uint64 `json:"open"`
	Wrong    uint64 `json:"wrong"`
}

// sim is a running simulator.
type sim struct{ *child }

// simulate starts a simulator against the hub.
func (s *scene) simulate(l load) (*sim, error) {
	args := []string{"--url", cmp.Or(l.url, s.hub.url()), "--ca", s.hub.caFile(), "--admin-token-file", s.hub.tokenFile(), "--json", "--verify"}
	if l.devices > 0 {
		args = append(args, "--devices", strconv.Itoa(l.devices), "--rate", strconv.Itoa(l.rate))
	}
	if l.duration > 0 {
		args = append(args, "--duration", l.duration.String())
	}
	program, args := s.lab.program("device-sim"), append(args, l.args...)
	if l.background {
		program, args = "nice", append([]string{"-n", "10", program}, args...)
	}
	c, err := spawn(s.lab.environment, program, args...)
	if err != nil {
		return nil, err
	}
	s.children = append(s.children, c)
	return &sim{c}, nil
}

// finish lets a simulator without a duration come to its end, as Ctrl-C does.
func (m *sim) finish() error {
	if err := m.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("interrupt the simulator: %w", err)
	}
	return nil
}

// judge waits for the simulator's verdict. What it says counts, not its exit status.
func (m *sim) judge(ctx context.Context, limit time.Duration) (verdict, error) {
	var v verdict
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the simulator had no verdict within %v: %s", limit, m.stderr.last(5)))
	defer cancel()
	select {
	case <-m.ended:
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
	text := bytes.TrimSpace(m.stdout.text())
	if err := json.Unmarshal(text[bytes.LastIndexByte(text, '\n')+1:], &v); err != nil {
		return v, fmt.Errorf("the simulator said %q and ended with %w: %s", text, m.ending(), m.stderr.last(5))
	}
	if v.Stored == nil || v.Lost == nil || v.Duplicated == nil {
		return v, fmt.Errorf("the simulator could not judge: %w: %s", m.ending(), m.stderr.last(5))
	}
	return v, nil
}
