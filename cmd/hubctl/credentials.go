package main

import (
	"strings"

	"telemetryhub/api/client"
)

type devicesToken struct {
	Device  string `arg:"" help:"Its id."`
	Keep    string `placeholder:"24h" help:"For how long the tokens before stay valid (default: they end at once)."`
	Expires string `placeholder:"90d" help:"Life of the new token (default: the hub's devices.tokens.lifetime)."`
}

// Run gives a device a new token.
func (c *devicesToken) Run(a *app) error {
	given, err := a.hub.GiveToken(a.ctx, c.Device, client.NewTokenTimes{Keep: c.Keep, ExpiresIn: c.Expires})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(given)
	}
	return a.printf("%s\n", clean(given.Token))
}

type devicesCredentials struct {
	Device string `arg:"" help:"Its id."`
}

// Run lists what a device can prove itself with.
func (c *devicesCredentials) Run(a *app) error {
	all, err := a.hub.Credentials(a.ctx, c.Device)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	rows := newTable(a.stdout, "ID", "KIND", "STATE", "CREATED", "EXPIRES", "LAST USED")
	for _, one := range all {
		used, expires := "never", "never"
		switch {
		case one.InUse:
			used = "now"
		case !one.LastUsed.IsZero():
			used = age(a.now().Sub(one.LastUsed)) + " ago"
		}
		if !one.Expires.IsZero() {
			expires = moment(one.Expires)
		}
		if err := rows.row(one.ID, one.Kind, one.State, moment(one.Created), expires, used); err != nil {
			return err
		}
	}
	return rows.flush()
}

type devicesRevoke struct {
	Device     string `arg:"" help:"Its id."`
	Credential string `arg:"" help:"The credential's id, as credentials lists it."`
}

// Run revokes a credential.
func (c *devicesRevoke) Run(a *app) error {
	gone, err := a.hub.RevokeCredential(a.ctx, c.Device, c.Credential)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(gone)
	}
	if gone.WasInUse {
		return a.printf("revoked %s of %s; its connection has ended\n", gone.Credential, gone.ID)
	}
	return a.printf("revoked %s of %s\n", gone.Credential, gone.ID)
}

type devicesRotate struct {
	Device []string `arg:"" help:"Ids of connected devices."`
}

// rotated is what came of one device.
type rotated struct {
	client.Rotated
	Error string `json:"error,omitempty"` // it was not offered a token
}

// Run offers devices new tokens on their open connections, one after the other. Its status says whether all have theirs.
func (c *devicesRotate) Run(a *app) error {
	all, failed := make([]rotated, 0, len(c.Device)), false
	for _, device := range c.Device {
		r, err := a.hub.RotateCredentials(a.ctx, device)
		if a.ctx.Err() != nil {
			return err
		}
		one := rotated{Rotated: r}
		if err != nil {
			one.ID, one.Error = device, err.Error()
		}
		failed = failed || r.Outcome != "confirmed"
		all = append(all, one)
		if a.json {
			continue
		}
		line := strings.TrimSpace(strings.Join([]string{one.Outcome, one.Message, one.Error}, " "))
		if err := a.printf("%s: %s\n", clean(one.ID), clean(line)); err != nil {
			return err
		}
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	}
	if failed {
		return &statusError{status: exitFailed}
	}
	return nil
}
