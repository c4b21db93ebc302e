package main

import (
	"strconv"
	"time"

	"telemetryhub/api/client"
)

type commandsLs struct {
	Device string `arg:"" optional:"" help:"Only those of this device."`
	State  string `placeholder:"STATE" help:"Only those in this state."`
	Limit  int    `short:"n" default:"50" help:"How many; 0 for all."`
}

// Run lists commands.
func (c *commandsLs) Run(a *app) error {
	rows, all := newTable(a.stdout, "COMMAND", "CREATED", "DEVICE", "METHOD", "STATE", "BY", "CAUSE"), []client.Command{}
	n := 0
	for cmd, err := range a.hub.Commands(a.ctx, client.CommandFilter{Device: c.Device, State: c.State, Page: min(c.Limit, 1000)}) {
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
	fault := ""
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

// Run cancels a command that was not sent.
func (c *commandsCancel) Run(a *app) error {
	cmd, err := a.hub.CancelCommand(a.ctx, c.ID)
	if err != nil {
		return err
	}
	return a.showCommand(cmd)
}
