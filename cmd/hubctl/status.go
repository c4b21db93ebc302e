package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"telemetryhub/api/client"
)

type auditCommand struct {
	Device string `arg:"" optional:"" help:"Only this device."`
}

// Help is what kong shows below the flags.
func (auditCommand) Help() string {
	return "received = stored + duplicate + quarantined + queued + refused, for each device and in all. Exit status 1 if that does not add up."
}

// Run accounts for the readings.
func (c *auditCommand) Run(a *app) error {
	audit, err := a.hub.Audit(a.ctx, c.Device)
	if err != nil {
		return err
	}
	missing := audit.Total.Missing()
	if a.json {
		if audit.Devices == nil {
			audit.Devices = []client.DeviceCounts{}
		}
		err = a.printJSON(audit)
	} else {
		rows := newTable(a.stdout, "DEVICE", "RECEIVED", "STORED", "DUPLICATE", "QUARANTINED", "QUEUED", "REFUSED")
		for _, d := range append(audit.Devices, client.DeviceCounts{Device: "in all", Counts: audit.Total}) {
			if err := rows.row(d.Device, number(d.Received), number(d.Stored), number(d.Duplicate), number(d.Quarantined), number(d.Queued), refused(d.Counts)); err != nil {
				return err
			}
		}
		err = rows.flush()
	}
	for _, d := range audit.Devices {
		if d.Missing() != 0 {
			say(a.stderr, fmt.Sprintf("hubctl: %s: the account does not add up, by %d readings", clean(d.Device), d.Missing()))
			missing = max(missing, 1)
		}
	}
	if err != nil || missing == 0 {
		return err
	}
	return &statusError{status: exitError, message: fmt.Sprintf("the account does not add up: %d of %d readings in all are not explained", audit.Total.Missing(), audit.Total.Received)}
}

func refused(c client.Counts) string {
	text := number(c.RefusedTotal())
	if len(c.Refused) > 0 {
		text += " (" + pairs(c.Refused, number) + ")"
	}
	return text
}

type quarantineLs struct {
	Limit int `short:"n" default:"100" help:"How many; 0 for all."`
}

// Run lists what could not be stored.
func (c *quarantineLs) Run(a *app) error {
	rows, all := newTable(a.stdout, "ID", "RECEIVED", "DEVICE", "REASON", "FRAME"), []client.QuarantineItem{}
	n := 0
	for item, err := range a.hub.Quarantine(a.ctx) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, item)
		} else if err := rows.row(item.ID, moment(item.Received), item.Device, item.Reason, shorten(item.Frame)); err != nil {
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

type healthCommand struct {
	Wait time.Duration `placeholder:"60s" help:"Ask until it is ready, at most so long."`
}

// Run says whether the hub is ready. While it waits, it also waits for the files that a new hub writes, its
// authority's certificate first of all.
func (c *healthCommand) Run(a *app) error {
	const most = time.Second
	pause := 50 * time.Millisecond
	until := a.now().Add(c.Wait)
	distrusted := 0
	for {
		ready, err := a.ready()
		if err == nil && ready.Ready {
			return a.showReadiness(ready)
		}
		if away, ok := errors.AsType[*client.UnreachableError](err); ok && !away.Temporary() {
			distrusted++ // once, it may have begun to listen after the certificate was looked for
		}
		refused, _ := errors.AsType[*client.Problem](err)
		left := until.Sub(a.now())
		if left <= 0 || distrusted > 1 || refused != nil {
			if err != nil {
				return err
			}
			if err := a.showReadiness(ready); err != nil {
				return err
			}
			return &statusError{status: exitError, message: "the hub is not ready"}
		}
		if err := sleep(a.ctx, min(pause, left)); err != nil {
			return err
		}
		pause = min(pause*2, most)
		if err := a.connect(); err != nil && until.Before(a.now()) {
			return err
		}
	}
}

// ready asks the hub, if there is what it takes to ask.
func (a *app) ready() (client.Readiness, error) {
	if a.hub == nil {
		if err := a.connect(); err != nil {
			return client.Readiness{}, err
		}
	}
	return a.hub.Ready(a.ctx)
}

func (a *app) showReadiness(r client.Readiness) error {
	if a.json {
		return a.printJSON(r)
	}
	rows := newTable(a.stdout, "PART", "READY", "MESSAGE")
	for _, p := range append(r.Parts, client.Part{Name: "hub", OK: r.Ready}) {
		ok := "yes"
		if !p.OK {
			ok = "no"
		}
		if err := rows.row(p.Name, ok, p.Message); err != nil {
			return err
		}
	}
	return rows.flush()
}

type metricsCommand struct{}

// Run prints the metrics.
func (*metricsCommand) Run(a *app) error {
	text, err := a.hub.Metrics(a.ctx)
	if err != nil {
		return err
	}
	return a.printf("%s", text)
}

type versionCommand struct{}

// Run prints the version that the Go tool built in.
func (*versionCommand) Run(a *app) error {
	v := map[string]string{"version": "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		v["version"], v["go"] = info.Main.Version, info.GoVersion
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v["revision"] = s.Value
			case "vcs.time":
				v["time"] = s.Value
			}
		}
	}
	if a.json {
		return a.printJSON(v)
	}
	return a.printf("hubctl %s %s %s\n", v["version"], v["revision"], v["go"])
}
