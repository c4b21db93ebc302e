package main

import (
	"cmp"
	"strconv"
	"time"

	"telemetryhub/api/client"
)

type commandsLs struct {
	Name   string   `arg:"" optional:"" name:"device" help:"Only those of this device."`
	Device string   `placeholder:"DEVICE" help:"The same."`
	State  []string `placeholder:"STATE,…" help:"Only those in one of these states."`
	Actor  string   `placeholder:"NAME" help:"Only those that this operator sent."`
	From   string   `placeholder:"TIME" help:"Only those made then or later: RFC 3339, ms since 1970, or back from now (-1h, -7d)."`
	To     string   `placeholder:"TIME" help:"Only those made before then."`
	Limit  int      `short:"n" default:"50" help:"How many; 0 for all."`
}

// Run lists commands.
func (c *commandsLs) Run(a *app) error {
	rows, all := newTable(a.stdout, "COMMAND", "CREATED", "DEVICE", "METHOD", "STATE", "BY", "CAUSE"), []client.Command{}
	n := 0
	if c.Device != "" && c.Name != "" && c.Device != c.Name {
		return usageError("two devices are named: %s and %s", c.Name, c.Device)
	}
	filter := client.CommandFilter{
		Device: cmp.Or(c.Device, c.Name), States: c.State, Actor: c.Actor, From: c.From, To: c.To, Page: min(c.Limit, 1000),
	}
	for cmd, err := range a.hub.Commands(a.ctx, filter) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, cmd)
		} else if err := rows.row(cmd.ID, moment(cmd.Created), cmd.Device, cmd.Method, stateText(cmd), cmd.Actor, cmd.Cause()); err != nil {
			return err
		}
		if n++; n == c.Limit {
			break
		}
	}
	if a.json {
		return a.printJSON(all)
	}
	return rows.flush()
}

func stateText(cmd client.Command) string {
	if cmd.Late {
		return cmd.State + " (late)"
	}
	return cmd.State
}

type commandsShow struct {
	ID string `arg:"" help:"Its id."`
}

// Run shows a command and its story.
func (c *commandsShow) Run(a *app) error {
	cmd, err := a.hub.Command(a.ctx, c.ID)
	if err != nil {
		return err
	}
	return a.showCommand(cmd)
}

func (a *app) showCommand(cmd client.Command) error {
	if a.json {
		return a.printJSON(cmd)
	}
	rows := newTable(a.stdout, "command", cmd.ID)
	fault, attempts := "", ""
	if cmd.Attempt > 1 {
		attempts = strconv.Itoa(cmd.Attempt)
	}
	if cmd.Error != nil {
		fault = strconv.Itoa(cmd.Error.Code) + " " + cmd.Error.Message
	}
	for _, line := range [][2]string{
		{"device", cmd.Device},
		{"method", cmd.Method},
		{"params", string(cmd.Params)},
		{"state", stateText(cmd)},
		{"result", string(cmd.Result)},
		{"error", fault},
		{"delivery", cmd.Delivery},
		{"sent by", cmd.Actor},
		{"repeats", cmd.RetryOf},
		{"attempts", attempts},
		{"expires", moment(cmd.Expires)},
		{"timeout", (time.Duration(cmd.TimeoutMs) * time.Millisecond).String()},
	} {
		if line[1] == "" {
			continue
		}
		if err := rows.row(line[0], line[1]); err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil {
		return err
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	story := newTable(a.stdout, "TIME", "AFTER", "STATE", "BY", "CAUSE")
	for _, step := range cmd.History {
		if err := story.row(moment(step.Time), age(step.Time.Sub(cmd.Created)), step.State, step.Actor, step.Cause); err != nil {
			return err
		}
	}
	return story.flush()
}

type commandsCancel struct {
	ID string `arg:"" help:"Its id."`
}

// Help is what kong shows below the flags.
func (commandsCancel) Help() string {
	return "A command that was not sent is cancelled, and the exit status is 0. Of one that was sent the device is asked to give it up; " +
		"its answer decides, and the exit status is 6 until then. One that has ended: 1."
}

// Run cancels a command, or asks its device to.
func (c *commandsCancel) Run(a *app) error {
	cmd, err := a.hub.CancelCommand(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if err := a.showCommand(cmd); err != nil || cmd.State == "cancelled" {
		return err
	}
	if !cmd.Final() {
		say(a.stderr, "hubctl: it was sent; the device was asked to cancel it, and its answer decides: hubctl commands show "+cmd.ID)
	}
	return outcome(cmd)
}

type commandsRetry struct {
	ID   string `arg:"" help:"Id of the command that has ended."`
	Wait bool   `help:"Wait for the outcome and print the device's answer."`
	Key  string `aliases:"idempotency-key" placeholder:"TEXT" help:"Idempotency key: the same key for the same device returns the first command."`
}

// Help is what kong shows below the flags.
func (commandsRetry) Help() string {
	return "A new command, with a new id, the same method, parameters, delivery and times; its story names the old one. The exit status is that of send."
}

// Run sends a command again.
func (c *commandsRetry) Run(a *app) error {
	old, err := a.hub.Command(a.ctx, c.ID)
	if err != nil {
		return err
	}
	patience := time.Duration(old.TimeoutMs)*time.Millisecond + waitMargin
	wait := time.Duration(0)
	if c.Wait {
		wait = min(patience, longestWait)
	}
	started := a.now()
	cmd, err := a.hub.RetryCommand(a.ctx, c.ID, wait, c.Key)
	if err != nil {
		return err
	}
	return a.finishSending(cmd, c.Wait, started.Add(patience))
}
