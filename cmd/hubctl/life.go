package main

import (
	"fmt"
	"strings"

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
