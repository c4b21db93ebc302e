package main

import (
	"fmt"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type devicesUnfreeze struct {
	Device string `arg:"" help:"Its id."`
}

// Run lets a frozen device in again.
func (c *devicesUnfreeze) Run(a *app) error {
	d, err := a.hub.Unfreeze(a.ctx, c.Device)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d)
	}
	return a.printf("%s is let in again\n", clean(d.ID))
}

type devicesProbe struct {
	Device string `arg:"" help:"Its id."`
}

// Run probes a device.
func (c *devicesProbe) Run(a *app) error {
	p, err := a.hub.Probe(a.ctx, c.Device)
	if err != nil {
		return err
	}
	took := time.Duration(p.TookMs * float64(time.Millisecond)).Round(100 * time.Microsecond)
	text := map[string]string{
		"answered":     "answered after %s",
		"unresponsive": "is unresponsive: it shows signs of life, and its program did not answer within %s",
		"silent":       "said nothing within %s, and showed no sign of life either",
		"gone":         "was disconnected after %s",
	}[p.Outcome]
	if text == "" {
		text = clean(p.Outcome) + " after %s"
	}
	if a.json {
		err = a.printJSON(p)
	} else {
		err = a.printf("%s "+text+"\n", clean(c.Device), took)
	}
	if err == nil && p.Outcome != "answered" {
		return &statusError{status: exitUnknown}
	}
	return err
}

// silenceText says how long a device's network let it be silent.
func silenceText(s *client.Silence) string {
	if s == nil {
		return ""
	}
	var parts []string
	if s.Survived > 0 {
		parts = append(parts, fmt.Sprintf("survived %d s", s.Survived))
	}
	if s.Losses > 0 {
		parts = append(parts, fmt.Sprintf("lost after %d s (%d in a row)", s.Lost, s.Losses))
	}
	return strings.Join(parts, ", ")
}

// frozenText says who displaced whom, and until when nobody is let in; nothing of a device that is not frozen.
func frozenText(f *client.Freeze) string {
	if f == nil {
		return ""
	}
	sides := make([]string, len(f.Sides))
	for i, s := range f.Sides {
		sides[i] = s.Remote + " by " + s.Transport
		if s.Boot != "" {
			sides[i] += ", boot " + s.Boot
		}
	}
	until := "until hubctl devices unfreeze"
	if !f.Until.IsZero() {
		until = "until " + moment(f.Until)
	}
	return fmt.Sprintf("since %s %s; %d times displaced each other: %s", moment(f.Since), until, f.Count, strings.Join(sides, "; "))
}
