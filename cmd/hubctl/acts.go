package main

import (
	"encoding/json"
	"strings"

	"telemetryhub/api/client"
)

type actsCommand struct {
	Actor   string `placeholder:"NAME" help:"Only what this operator did."`
	Device  string `placeholder:"ID" help:"Only what concerns this device."`
	Act     string `placeholder:"ACT" help:"Only these acts: device.create, or device for all of that kind."`
	Outcome string `enum:"accepted,refused,failed," default:"" placeholder:"WORD" help:"accepted, refused or failed."`
	From    string `placeholder:"TIME" help:"From then on: RFC 3339, ms since 1970, or back from now such as -24h."`
	To      string `placeholder:"TIME" help:"Before then."`
	Limit   int    `short:"n" default:"50" help:"How many, the newest first; 0 for all. Not with --json."`
}

// Help is what kong shows below the flags.
func (actsCommand) Help() string {
	return "Who did what to which device from where, and whether it was accepted. For administrators. With --json all of it, one act a line, the oldest first, for an archive:\n\n" +
		"    hubctl acts --json --from -720h > acts.jsonl\n\nExit status 1 if that did not come whole. (What became of readings: hubctl audit.)"
}

// Run shows the audit log of operators.
func (c *actsCommand) Run(a *app) error {
	f := client.ActFilter{Actor: c.Actor, Device: c.Device, Act: c.Act, Outcome: c.Outcome, From: c.From, To: c.To}
	if a.json {
		return a.hub.ExportActs(a.ctx, f, a.stdout)
	}
	f.Page = min(c.Limit, 1000)
	rows, n := newTable(a.stdout, "TIME", "ACTOR", "FROM", "ACT", "WHAT", "OUTCOME", "FACTS"), 0
	for act, err := range a.hub.Acts(a.ctx, f) {
		if err != nil {
			return err
		}
		actor := act.Actor
		if act.Role != "" {
			actor += " (" + act.Role + ")"
		}
		if err := rows.row(moment(act.Time), actor, act.Origin, act.Act, strings.TrimSpace(act.Device+" "+act.Target), outcomeText(act), factsText(act)); err != nil {
			return err
		}
		if n++; n == c.Limit {
			break
		}
	}
	return rows.flush()
}

func outcomeText(act client.Act) string {
	if act.Reason == "" {
		return act.Outcome
	}
	return act.Outcome + ": " + act.Reason
}

func factsText(act client.Act) string {
	text := pairs(act.Facts, func(v any) string {
		if s, ok := v.(string); ok {
			return s
		}
		data, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(data)
	})
	if act.Suppressed > 0 {
		text = strings.TrimSpace(text + " and " + number(act.Suppressed) + " more before it")
	}
	if act.Recovered {
		text = strings.TrimSpace(text + " written after a crash")
	}
	return text
}
