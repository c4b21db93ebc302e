package main

import (
	"fmt"
	"strconv"
	"strings"

	"telemetryhub/api/client"
)

type whyCommand struct {
	Device string `arg:"" help:"Its id."`
}

// Run shows how a device fares on the line.
func (c *whyCommand) Run(a *app) error {
	w, err := a.hub.Why(a.ctx, c.Device)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(w)
	}
	for _, line := range w.Diagnosis {
		if err := a.printf("%s\n", clean(line)); err != nil {
			return err
		}
	}
	if len(w.Events) == 0 {
		return nil
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	rows := newTable(a.stdout, "LAST", "COUNT", "EVENT", "REASON", "FROM", "WHAT")
	for i := range w.Events {
		e := &w.Events[i]
		if err := rows.row(moment(e.Last), strconv.FormatUint(e.Count, 10), e.Kind, eventReason(e), e.Remote, e.Message); err != nil {
			return err
		}
	}
	return rows.flush()
}

// eventReason is the reason with its numbers: the status, the limit and what was measured.
func eventReason(e *client.WhyEvent) string {
	var parts []string
	if e.Status != 0 {
		parts = append(parts, strconv.Itoa(e.Status))
	}
	if e.Reason != "" {
		parts = append(parts, e.Reason)
	}
	if e.Limit != 0 {
		parts = append(parts, fmt.Sprintf("%d > %d", e.Value, e.Limit))
	}
	return strings.Join(parts, " ")
}
