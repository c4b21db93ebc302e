package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"telemetryhub/api/client"
)

type bridgeTry struct {
	Bridge   string `placeholder:"NAME" help:"The bridge that the message would come by (default: the only external one, else embedded)."`
	Topic    string `required:"" placeholder:"TOPIC" help:"Topic of the message."`
	Payload  string `placeholder:"TEXT" help:"Its payload; - reads it from the standard input."`
	Retained bool   `help:"As a message that the broker had kept."`
}

// Help is what kong shows below the flags.
func (bridgeTry) Help() string {
	return "Nothing is changed, and nothing is counted. Exit status 1: the message, or a part of it, would be refused.\n\n" +
		`Example: hubctl bridge try --bridge home --topic tele/plug/SENSOR --payload '{"Time":"2026-03-01T12:00:00","ENERGY":{"Power":12}}'`
}

// mostTried bounds what is read as a payload: as large as a message may be.
const mostTried = 16 << 20

// Run shows what a message would become.
func (c *bridgeTry) Run(a *app) error {
	payload := []byte(c.Payload)
	if c.Payload == "-" {
		var err error
		if payload, err = io.ReadAll(io.LimitReader(os.Stdin, mostTried)); err != nil {
			return fmt.Errorf("read the payload: %w", err)
		}
	}
	bridge, err := c.bridge(a)
	if err != nil {
		return err
	}
	t, err := a.hub.TryBridge(a.ctx, bridge, c.Topic, payload, c.Retained)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(t); err != nil {
			return err
		}
		return triedStatus(t)
	}
	switch {
	case t.Reason != "":
		if err := a.printf("refused: %s: %s\n", t.Reason, clean(t.Message)); err != nil {
			return err
		}
	case t.Passed:
		if err := a.printf("passed over: a map is for it, and it says nothing of a device\n"); err != nil {
			return err
		}
	}
	for i, o := range t.Outcomes {
		if i > 0 {
			if err := a.printf("\n"); err != nil {
				return err
			}
		}
		if err := a.showTried(o); err != nil {
			return err
		}
	}
	return triedStatus(t)
}

// bridge is the one that is named, or that can only be meant.
func (c *bridgeTry) bridge(a *app) (string, error) {
	if c.Bridge != "" {
		return c.Bridge, nil
	}
	all, err := a.hub.Bridges(a.ctx)
	if err != nil {
		return "", err
	}
	name := "embedded"
	for _, b := range all {
		switch {
		case b.Kind != "external":
		case name != "embedded":
			return "", usageError("there are several bridges: say which with --bridge (hubctl bridge ls)")
		default:
			name = b.Name
		}
	}
	return name, nil
}

// triedStatus is the exit status of what would be refused.
func triedStatus(t client.TriedMessage) error {
	refused := t.Reason != ""
	for _, o := range t.Outcomes {
		refused = refused || o.Reason != ""
	}
	if refused {
		return &statusError{status: exitError}
	}
	return nil
}

func (a *app) showTried(o client.TriedOutcome) error {
	what := o.As
	if o.Progress {
		what += ", in progress"
	}
	at := ""
	switch {
	case o.TS != nil:
		at = moment(time.UnixMilli(*o.TS))
	case o.AgeMs != nil:
		at = fmt.Sprintf("%s before its receipt", time.Duration(*o.AgeMs)*time.Millisecond)
	case o.As == "telemetry" || o.As == "event":
		at = "of receipt"
	}
	device := o.Device
	if !o.Registered {
		device += " (not registered)"
	}
	refused := ""
	if o.Reason != "" {
		refused = o.Reason + ": " + o.Message
	}
	online, seq := "", ""
	if o.Online != nil {
		online = strconv.FormatBool(*o.Online)
	}
	if o.Seq > 0 {
		seq = strconv.FormatUint(o.Seq, 10)
	}
	rows := newTable(a.stdout, what, device)
	for _, line := range [][2]string{
		{"refused", refused},
		{"map", o.Map},
		{"type", o.Type},
		{"label", o.Label},
		{"model", o.Model},
		{"firmware", o.Firmware},
		{"measurement", o.Measurement},
		{"time", at},
		{"boot", o.Boot},
		{"seq", seq},
		{"values", pairs(o.Values, jsonText)},
		{"units", pairs(o.Units, func(s string) string { return s })},
		{"quarantined", o.Quarantined},
		{"state", string(o.State)},
		{"online", online},
		{"method", o.Method},
		{"command", o.Correlation},
		{"result", string(o.Result)},
		{"error", string(o.Error)},
	} {
		if line[1] == "" {
			continue
		}
		if err := rows.row(line[0], line[1]); err != nil {
			return err
		}
	}
	return rows.flush()
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
