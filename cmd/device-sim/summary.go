package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// summary is what a run ends with. Its JSON is fixed for scripts; stored, lost and duplicated are null where nothing
// was read back, as they are then not known.
type summary struct {
	Devices       int         `json:"devices"`
	Connected     uint64      `json:"connected"`      // devices that were connected at least once
	ConnectFailed uint64      `json:"connect_failed"` // devices that never were
	Enrolled      uint64      `json:"enrolled"`       // by --enrol-key
	Sent          uint64      `json:"sent"`           // readings, each once however often it went out
	Acked         uint64      `json:"acked"`
	Stored        *uint64     `json:"stored"`     // of those sent, found as they were sent
	Lost          *uint64     `json:"lost"`       // acked, and not found as they were sent
	Duplicated    *uint64     `json:"duplicated"` // points too many
	Refused       uint64      `json:"refused"`
	Quarantined   uint64      `json:"quarantined"`
	Reconnects    uint64      `json:"reconnects"`
	Postponed     postponed   `json:"postponed"` // connections that the hub refused for now
	AckMs         ackTimes    `json:"ack_ms"`    // from a frame's first sending to its acknowledgement
	Commands      commands    `json:"commands"`
	CommandMs     commandTime `json:"command_ms"` // from a command's arrival to its answer being written
	Rotated       uint64      `json:"rotated"`    // tokens that the hub gave devices on their connections, and that were stored
	Seconds       float64     `json:"seconds"`    // from the first reading to the last acknowledgement
}

// postponed is how devices fared that were told to come later, at a refusal or at the hub's stop.
type postponed struct {
	Refused uint64   `json:"refused"`
	Again   uint64   `json:"again"`   // refused although told so before, without a connection in between
	Told    int64    `json:"told"`    // devices that were told a time and came
	LateMs  ackTimes `json:"late_ms"` // from that time until connected
}

type ackTimes struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

type commands struct {
	Received uint64 `json:"received"`
	Answered uint64 `json:"answered"`

	Verified *reconciled `json:"verified,omitempty"` // with --verify
}

type commandTime struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func (f *fleet) summarize(elapsed time.Duration) *summary {
	t := f.tally
	connected := t.connected.Load()
	s := &summary{
		Devices: len(f.devices), Connected: connected, Enrolled: t.enrolled.Load(), ConnectFailed: uint64(len(f.devices)) - connected,
		Sent: t.sent.Load(), Acked: t.acked.Load(), Refused: t.refused.Load(), Quarantined: t.quarantined.Load(),
		Reconnects: t.reconnects.Load(),
		Commands:   commands{Received: t.commandsReceived.Load(), Answered: t.commandsAnswered.Load()},
		Rotated:    t.rotated.Load(),
		Seconds:    math.Round(elapsed.Seconds()*1000) / 1000,
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.AckMs = ackTimes{P50: millis(t.ack, 50), P99: millis(t.ack, 99), Max: float64(t.ack.Max()) / 1000}
	s.Postponed = postponed{
		Refused: t.postponements.Load(), Again: t.postponedAgain.Load(), Told: t.late.TotalCount(),
		LateMs: ackTimes{P50: millis(t.late, 50), P99: millis(t.late, 99), Max: float64(t.late.Max()) / 1000},
	}
	s.CommandMs = commandTime{P50: millis(t.command, 50), P99: millis(t.command, 99)}
	return s
}

func millis(h *hdrhistogram.Histogram, percentile float64) float64 {
	return float64(h.ValueAtPercentile(percentile)) / 1000
}

// print writes the summary for people.
func (s *summary) print(w io.Writer, t *tally) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	line("devices", "%d, connected %d, never connected %d, reconnects %d, failed attempts %d",
		s.Devices, s.Connected, s.ConnectFailed, s.Reconnects, t.failedAttempts.Load())
	if s.Enrolled > 0 {
		line("enrolled", "%d devices, each with a token of its own", s.Enrolled)
	}
	if p := s.Postponed; p.Refused > 0 || p.Told > 0 {
		line("postponed", "%d refused for now, %d of them again; %d came when told, p50 %.0f ms late, p99 %.0f ms, max %.0f ms", p.Refused, p.Again, p.Told, p.LateMs.P50, p.LateMs.P99, p.LateMs.Max)
	}
	perSecond := 0.0
	if s.Seconds > 0 {
		perSecond = float64(s.Acked) / s.Seconds
	}
	line("readings", "sent %d, acked %d in %.1f s (%.0f/s), refused %d, quarantined %d", s.Sent, s.Acked, s.Seconds, perSecond, s.Refused, s.Quarantined)
	if skipped := t.skipped.Load(); skipped > 0 {
		line("skipped", "%d readings, as devices kept %d that were not acknowledged", skipped, maxBacklog)
	}
	line("ack", "p50 %.1f ms, p99 %.1f ms, max %.1f ms", s.AckMs.P50, s.AckMs.P99, s.AckMs.Max)
	line("commands", "received %d, answered %d, p50 %.2f ms, p99 %.2f ms", s.Commands.Received, s.Commands.Answered, s.CommandMs.P50, s.CommandMs.P99)
	if v := s.Commands.Verified; v != nil {
		line("ledger", "%d commands, executed %d (%d more than once), open %d, unknown %d, wrong %d", v.Ledger, v.Executed, v.Twice, v.Open, v.Unknown, v.Wrong)
	}
	for _, fault := range t.texts(func(t *tally) map[string]uint64 { return t.injected }) {
		line("fault", "%s played %d times", fault.text, fault.count)
	}
	for _, notice := range t.texts(func(t *tally) map[string]uint64 { return t.notices }) {
		line("notice", "%s: %d", notice.text, notice.count)
	}
	for _, note := range t.texts(func(t *tally) map[string]uint64 { return t.notes }) {
		line("attention", "%s (%d)", note.text, note.count)
	}
	switch {
	case s.Stored == nil:
		line("verify", "nothing was read back (--verify)")
	case *s.Lost == 0 && *s.Duplicated == 0:
		line("verify", "good: stored %d, lost 0, duplicated 0", *s.Stored)
	default:
		line("verify", "FAILED: stored %d, lost %d, duplicated %d", *s.Stored, *s.Lost, *s.Duplicated)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}
