package main

import (
	"fmt"
	"time"

	"telemetryhub/api/client"
)

type replayCommand struct {
	From   string `placeholder:"TIME" help:"What was received from then on: RFC 3339, ms since 1970, or back from now (-24h)."`
	To     string `placeholder:"TIME" help:"Up to then, exclusive; now when left out."`
	Device string `placeholder:"DEVICE" help:"Only this device."`
	Cancel bool   `help:"End the replay that runs."`
	Status bool   `help:"Show how far the last one is, and do not wait."`
}

// Help is what kong shows below the flags.
func (replayCommand) Help() string {
	return "Writes to the store again what the hub's journal still keeps (ingest.keep, 24 h by default): that fills a new database. " +
		"What is there already is not changed. Interrupted, hubctl stops to watch; the replay goes on. Exit status 1 unless it ends well."
}

// replayLook is how often the hub is asked how far it is.
const replayLook = 500 * time.Millisecond

// Run starts a replay and waits for its end.
func (c *replayCommand) Run(a *app) error {
	switch {
	case c.Cancel || c.Status:
		if c.From != "" || c.To != "" || c.Device != "" || c.Cancel && c.Status {
			return usageError("--cancel and --status stand alone")
		}
		ask := a.hub.Replay
		if c.Cancel {
			ask = a.hub.CancelReplay
		}
		r, err := ask(a.ctx)
		if err != nil {
			return err
		}
		return a.showReplay(r)
	case c.From == "":
		return usageError("say from when: --from -24h")
	}
	r, err := a.hub.StartReplay(a.ctx, c.From, c.To, c.Device)
	if err != nil {
		return err
	}
	var said client.Replay
	for r.State == "running" {
		if r.Read != said.Read || r.Fault != said.Fault {
			said = r
			say(a.stderr, replayText(r))
		}
		if err := sleep(a.ctx, replayLook); err != nil {
			return err
		}
		if r, err = a.hub.Replay(a.ctx); err != nil {
			return err
		}
	}
	if err := a.showReplay(r); err != nil {
		return err
	}
	if r.State != "done" || r.Rejected > 0 || r.Missing > 0 {
		return &statusError{status: exitError, message: clean(fmt.Sprintf("%s: %d readings were rejected, %d envelopes of the journal were missing %s", r.State, r.Rejected, r.Missing, r.Fault))}
	}
	return nil
}

func replayText(r client.Replay) string {
	text := fmt.Sprintf("hubctl: %d of %d envelopes, %d readings written, %d passed over", r.Read, r.Of, r.Written, r.Passed)
	if r.Fault != "" {
		text += "; waits: " + clean(r.Fault)
	}
	return text
}

func (a *app) showReplay(r client.Replay) error {
	if a.json {
		return a.printJSON(r)
	}
	rows := newTable(a.stdout, "STATE", "FROM", "TO", "ENVELOPES", "WRITTEN", "PASSED OVER", "REJECTED", "MISSING", "OLDEST KEPT")
	if err := rows.row(r.State, moment(r.From), moment(r.To), number(r.Read)+" of "+number(r.Of), number(r.Written), number(r.Passed), number(r.Rejected), number(r.Missing), moment(r.Oldest)); err != nil {
		return err
	}
	return rows.flush()
}
