package main

import (
	"errors"
	"runtime/debug"
	"time"

	"telemetryhub/api/client"
)

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
