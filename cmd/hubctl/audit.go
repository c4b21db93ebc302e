package main

import (
	"fmt"
	"strconv"
	"time"

	"telemetryhub/api/client"
)

type auditCommand struct {
	Device string `arg:"" optional:"" help:"Only this device, with the gaps in its numbers."`
	Deep   bool   `help:"Count each device's points in the store and compare. It reads all of them: a million takes some seconds."`
}

// Help is what kong shows below the flags.
func (auditCommand) Help() string {
	return "received = stored + duplicate + quarantined + queued + refused, for each device and in all. Exit status 1 if that does not add up, or, with --deep, if the store has more or fewer points."
}

// Run accounts for the readings.
func (c *auditCommand) Run(a *app) error {
	audit, err := a.hub.Audit(a.ctx, c.Device)
	if err != nil {
		return err
	}
	if c.Deep {
		if err := a.countPoints(&audit); err != nil {
			return err
		}
	}
	if a.json {
		if audit.Devices == nil {
			audit.Devices = []client.DeviceCounts{}
		}
		err = a.printJSON(audit)
	} else {
		err = a.showAudit(audit, c)
	}
	if err != nil {
		return err
	}
	return a.judgeAudit(audit)
}

// countPoints asks for one device after the other, so that each has the hub's time for itself.
func (a *app) countPoints(audit *client.Audit) error {
	began, points := a.now(), uint64(0)
	for i := range audit.Devices {
		deep, err := a.hub.DeepAudit(a.ctx, audit.Devices[i].Device)
		if err != nil {
			return err
		}
		for _, d := range deep.Devices {
			audit.Devices[i] = d
			if d.Store != nil {
				points += d.Store.Points
			}
		}
	}
	say(a.stderr, fmt.Sprintf("hubctl: counted %d points of %d devices in %s", points, len(audit.Devices), a.now().Sub(began).Round(time.Millisecond)))
	return nil
}

func (a *app) showAudit(audit client.Audit, c *auditCommand) error {
	heading := []string{"DEVICE", "RECEIVED", "STORED", "DUPLICATE", "QUARANTINED", "QUEUED", "REFUSED"}
	if c.Deep {
		heading = append(heading, "IN STORE")
	}
	rows := newTable(a.stdout, heading...)
	var points uint64
	for _, d := range append(audit.Devices, client.DeviceCounts{Device: "in all", Counts: audit.Total}) {
		cells := []string{d.Device, number(d.Received), number(d.Stored), number(d.Duplicate), number(d.Quarantined), number(d.Queued), refused(d.Counts)}
		switch {
		case d.Store != nil:
			points += d.Store.Points
			cells = append(cells, number(d.Store.Points))
		case c.Deep:
			cells = append(cells, number(points))
		}
		if err := rows.row(cells...); err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil || c.Device == "" {
		return err
	}
	for _, d := range audit.Devices {
		if err := a.showGaps(d.Gaps); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) showGaps(gaps []client.Gap) error {
	if len(gaps) == 0 {
		return nil
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	rows := newTable(a.stdout, "BOOT", "MISSING", "READINGS")
	for _, g := range gaps {
		numbers, count := number(g.From), strconv.FormatUint(g.To-g.From+1, 10)
		if g.To > g.From {
			numbers += " to " + number(g.To)
		}
		if g.Partly {
			count = "at most " + count
		}
		if err := rows.row(g.Boot, numbers, count); err != nil {
			return err
		}
	}
	return rows.flush()
}

// judgeAudit says what does not add up, or does not agree with the store.
func (a *app) judgeAudit(audit client.Audit) error {
	missing, differ := audit.Total.Missing(), 0
	for _, d := range audit.Devices {
		if d.Missing() != 0 {
			say(a.stderr, fmt.Sprintf("hubctl: %s: the account does not add up, by %d readings", clean(d.Device), d.Missing()))
			missing = max(missing, 1)
		}
		if d.Store != nil && !d.Store.Agrees {
			say(a.stderr, fmt.Sprintf("hubctl: %s: the store has %d points, the account says %d", clean(d.Device), d.Store.Points, d.Stored))
			differ++
		}
	}
	if missing != 0 {
		return &statusError{status: exitError, message: fmt.Sprintf("the account does not add up: %d of %d readings in all are not explained", audit.Total.Missing(), audit.Total.Received)}
	}
	if differ > 0 {
		return &statusError{status: exitError, message: fmt.Sprintf("the store differs for %d devices: retention, another database, and what others write or delete there explain that; nothing else does", differ)}
	}
	return nil
}

func refused(c client.Counts) string {
	text := number(c.RefusedTotal())
	if len(c.Refused) > 0 {
		text += " (" + pairs(c.Refused, number) + ")"
	}
	return text
}
