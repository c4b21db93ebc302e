package main

import (
	"fmt"
	"strconv"
	"time"

	"telemetryhub/api/client"
)

type bridgeLs struct{}

// Run lists the bridges.
func (*bridgeLs) Run(a *app) error {
	all, err := a.hub.Bridges(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	rows := newTable(a.stdout, "BRIDGE", "STATE", "DEVICES", "RECEIVED", "PER SECOND", "STORED", "REFUSED", "UNMAPPED", "LAG", "ACK", "RECONNECTS", "ADDRESS")
	for _, b := range all {
		refused := uint64(0)
		for _, n := range b.Refused {
			refused += n
		}
		err := rows.row(b.Name, bridgeState(b), strconv.Itoa(b.Devices), number(b.Received), perSecond(b.PerSecond), number(b.Stored), number(refused), number(b.Unmapped),
			took(float64(b.LagMs)), took(b.AckMs.P50), number(b.Reconnects), b.Address)
		if err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil {
		return err
	}
	for _, b := range all {
		if b.Failure != "" {
			say(a.stderr, "hubctl: "+clean(b.Name)+" is not connected: "+clean(b.Failure))
		}
	}
	return nil
}

func bridgeState(b client.Bridge) string {
	switch {
	case b.Kind == "embedded" && b.Connected:
		return "serves"
	case b.Connected:
		return "connected"
	}
	return "not connected"
}

func perSecond(n float64) string { return strconv.FormatFloat(n, 'f', 1, 64) }

// took writes a time that may be none.
func took(ms float64) string {
	switch {
	case ms == 0:
		return ""
	case ms < 100:
		return strconv.FormatFloat(ms, 'f', 1, 64) + "ms"
	}
	return age(time.Duration(ms * float64(time.Millisecond)))
}

// unlessSame leaves out what is said already.
func unlessSame(text, said string) string {
	if text == said {
		return ""
	}
	return text
}

func fullText(full bool) string {
	if !full {
		return ""
	}
	return "nothing is read until some of what is in flight is durable"
}

type bridgeShow struct {
	Bridge string `arg:"" help:"Its name, as ls shows it."`
}

// Run shows a bridge and the last messages that it refused.
func (c *bridgeShow) Run(a *app) error {
	b, err := a.hub.GetBridge(a.ctx, c.Bridge)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(b)
	}
	state := bridgeState(b)
	if !b.Since.IsZero() {
		state += " since " + moment(b.Since)
	}
	acks := ""
	if b.AckMs.Max > 0 {
		acks = fmt.Sprintf("p50 %s, p99 %s, max %s", took(b.AckMs.P50), took(b.AckMs.P99), took(b.AckMs.Max))
	}
	rows := newTable(a.stdout, "bridge", b.Name)
	for _, line := range [][2]string{
		{"kind", b.Kind},
		{"address", b.Address},
		{"state", state},
		{"failure", b.Failure},
		{"last failure", unlessSame(b.LastFailure, b.Failure)},
		{"devices", strconv.Itoa(b.Devices)},
		{"received", fmt.Sprintf("%d messages, %s a second", b.Received, perSecond(b.PerSecond))},
		{"redelivered", zeroless(b.Redelivered)},
		{"stored", fmt.Sprintf("%d readings", b.Stored)},
		{"refused", pairs(b.Refused, number)},
		{"unmapped", zeroless(b.Unmapped)},
		{"in flight", zeroless(uint64(max(b.InFlight, 0)))},
		{"full", fullText(b.Full)},
		{"lag", took(float64(b.LagMs))},
		{"acknowledged in", acks},
		{"commands", zeroless(b.Commands)},
		{"reconnects", zeroless(b.Reconnects)},
	} {
		if line[1] == "" {
			continue
		}
		if err := rows.row(line[0], line[1]); err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil || len(b.Examples) == 0 {
		return err
	}
	if err := a.printf("\nThe last messages that were refused (of devices that are not registered: hubctl bridge seen):\n"); err != nil {
		return err
	}
	rows = newTable(a.stdout, "TIME", "REASON", "TOPIC", "DEVICE", "WHY", "PAYLOAD")
	for _, e := range b.Examples {
		payload := shorten(e.Payload)
		if e.PayloadBase64 != "" {
			payload = fmt.Sprintf("%d bytes that are no text", e.Size)
		}
		if err := rows.row(moment(e.Time), e.Reason, e.Topic, e.Device, e.Message, payload); err != nil {
			return err
		}
	}
	return rows.flush()
}
