package main

import (
	"context"
	"fmt"

	"telemetryhub/api/client"
)

// quarantineFilter chooses among quarantined readings.
type quarantineFilter struct {
	Device string `placeholder:"DEVICE" help:"Only of this device."`
	Reason string `placeholder:"REASON" help:"Only with this reason."`
}

func (f quarantineFilter) filter() client.QuarantineFilter {
	return client.QuarantineFilter{Device: f.Device, Reason: f.Reason}
}

type quarantineLs struct {
	quarantineFilter
	Limit int `short:"n" default:"100" help:"How many; 0 for all."`
}

// Run lists what could not be stored.
func (c *quarantineLs) Run(a *app) error {
	rows, all := newTable(a.stdout, "ID", "RECEIVED", "DEVICE", "REASON", "FRAME"), []client.QuarantineItem{}
	n := 0
	for item, err := range a.hub.Quarantine(a.ctx, c.filter()) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, item)
		} else if err := rows.row(item.ID, moment(item.Received), item.Device, because(item.Reason, item.Message), shorten(item.Frame)); err != nil {
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

func because(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + message
}

type quarantineShow struct {
	ID string `arg:"" help:"Its id."`
}

// Run shows one reading that could not be stored.
func (c *quarantineShow) Run(a *app) error {
	item, err := a.hub.Quarantined(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(item)
	}
	rows := newTable(a.stdout, "id", item.ID)
	for _, line := range [][2]string{
		{"device", item.Device},
		{"received", moment(item.Received)},
		{"reason", item.Reason},
		{"message", item.Message},
		{"boot", item.Boot},
		{"seq", zeroless(item.Seq)},
		{"readings", number(max(item.Count, 1))},
		{"frame", item.Frame},
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

func zeroless(n uint64) string {
	if n == 0 {
		return ""
	}
	return number(n)
}

// quarantineChoice is which readings a retry or drop is of.
type quarantineChoice struct {
	quarantineFilter
	IDs []string `arg:"" optional:"" name:"id" help:"Their ids; or choose by --device, --reason or --all."`
	All bool     `help:"All that there are."`
}

func (c *quarantineChoice) check() error {
	filtered := c.Device != "" || c.Reason != "" || c.All
	if filtered == (len(c.IDs) > 0) {
		return usageError("say which: ids, or --device and --reason, or --all")
	}
	return nil
}

type quarantineRetry struct{ quarantineChoice }

// Run tries again to store readings.
func (c *quarantineRetry) Run(a *app) error {
	return a.settle(&c.quarantineChoice, a.hub.Retry, a.hub.RetryAll, "stored")
}

type quarantineDrop struct{ quarantineChoice }

// Run drops readings.
func (c *quarantineDrop) Run(a *app) error {
	return a.settle(&c.quarantineChoice, a.hub.Drop, a.hub.DropAll, "dropped")
}

// settle does with the chosen readings what one or all does; the exit status is 1 unless they all come to the state
// that is wanted, or were there before.
func (a *app) settle(c *quarantineChoice, one func(context.Context, string) (client.Settled, error), all func(context.Context, client.QuarantineFilter) (map[string]uint64, error), want string) error {
	if err := c.check(); err != nil {
		return err
	}
	states, settled := map[string]uint64{}, []client.Settled{}
	var err error
	if len(c.IDs) == 0 {
		states, err = all(a.ctx, c.filter())
	}
	for _, id := range c.IDs {
		var s client.Settled
		if s, err = one(a.ctx, id); err != nil {
			break
		}
		states[s.State]++
		settled = append(settled, s)
	}
	if shown := a.showSettled(c, settled, states); shown != nil {
		return shown
	}
	if err != nil {
		return err
	}
	other := uint64(0)
	for state, n := range states {
		if state != want && state != "gone" {
			other += n
		}
	}
	if other > 0 {
		return &statusError{status: exitError, message: fmt.Sprintf("%d readings were not %s", other, want)}
	}
	return nil
}

func (a *app) showSettled(c *quarantineChoice, settled []client.Settled, states map[string]uint64) error {
	switch {
	case a.json && len(c.IDs) > 0:
		return a.printJSON(settled)
	case a.json:
		return a.printJSON(states)
	case len(c.IDs) == 0 && len(states) == 0:
		return a.printf("nothing to do\n")
	case len(c.IDs) == 0:
		return a.printf("%s\n", pairs(states, number))
	}
	rows := newTable(a.stdout, "ID", "STATE", "REASON")
	for _, s := range settled {
		if err := rows.row(s.ID, s.State, because(s.Reason, s.Message)); err != nil {
			return err
		}
	}
	return rows.flush()
}
