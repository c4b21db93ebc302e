package main

import (
	"fmt"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type devicesLs struct {
	Query   string `short:"q" placeholder:"TEXT" help:"Only those with this text in id, type or tag."`
	Tag     string `placeholder:"TAG" help:"Only those with this tag."`
	Online  bool   `xor:"presence" help:"Only those connected now."`
	Offline bool   `xor:"presence" help:"Only those not connected now."`
	Latest  bool   `help:"With the newest values."`
}

// Run lists devices.
func (c *devicesLs) Run(a *app) error {
	f := client.DeviceFilter{Query: c.Query, Tag: c.Tag, Latest: c.Latest, Page: 1000}
	if c.Online || c.Offline {
		f.Online = &c.Online
	}
	heading := []string{"DEVICE", "STATE", "TRANSPORT", "LAST SEEN", "TYPE", "TAGS"}
	if c.Latest {
		heading = append(heading, "LATEST")
	}
	rows, all := newTable(a.stdout, heading...), []client.Device{}
	for d, err := range a.hub.Devices(a.ctx, f) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, d)
			continue
		}
		seen := ""
		if !d.LastSeen.IsZero() {
			seen = age(a.now().Sub(d.LastSeen)) + " ago"
		}
		cells := []string{d.ID, presence(d), d.Transport, seen, d.Type, strings.Join(d.Tags, ",")}
		if c.Latest {
			cells = append(cells, pairs(d.Latest, func(v client.Value) string { return valueText(v.Value) }))
		}
		if err := rows.row(cells...); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(all)
	}
	return rows.flush()
}

func presence(d client.Device) string {
	switch {
	case d.Frozen != nil:
		return "frozen"
	case d.Online && !d.Unresponsive.IsZero():
		return "unresponsive"
	case d.Online:
		return "online"
	case !d.Enabled:
		return "disabled"
	case d.LastSeen.IsZero() && d.DisconnectedAt.IsZero():
		return "never seen"
	}
	return "offline"
}

type devicesAdd struct {
	Device string            `arg:"" help:"Id: 1 to 64 of A-Z a-z 0-9 . _ : -"`
	Type   string            `placeholder:"TYPE" help:"What kind of device it is."`
	Tag    []string          `placeholder:"TAG" help:"A tag; may be repeated."`
	Attr   map[string]string `placeholder:"KEY=VALUE" help:"An attribute; may be repeated."`
}

// Run registers a device.
func (c *devicesAdd) Run(a *app) error {
	d, err := a.hub.CreateDevice(a.ctx, client.NewDevice{ID: c.Device, Type: c.Type, Tags: c.Tag, Attributes: c.Attr})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d)
	}
	say(a.stderr, "hubctl: this is the token of "+d.ID+"; it is not shown again. The device connects to\n"+
		"hubctl: "+connectURL(a.hub.URL())+"  with the header  Authorization: Bearer TOKEN")
	return a.printf("%s\n", clean(d.Token))
}

func connectURL(base string) string {
	return strings.Replace(base, "http", "ws", 1) + "/connect"
}

type devicesShow struct {
	Device string `arg:"" help:"Its id."`
}

// Run shows a device.
func (c *devicesShow) Run(a *app) error {
	d, err := a.hub.GetDevice(a.ctx, c.Device)
	if err != nil {
		return err
	}
	return a.showDevice(d)
}

func (a *app) showDevice(d client.Device) error {
	if a.json {
		return a.printJSON(d)
	}
	rows := newTable(a.stdout, "device", d.ID)
	for _, line := range [][2]string{
		{"state", presence(d)},
		{"type", d.Type},
		{"tags", strings.Join(d.Tags, ", ")},
		{"attributes", pairs(d.Attributes, func(v string) string { return v })},
		{"created", moment(d.Created)},
		{"enrolled", enrolledText(d.Enrolled)},
		{"admitted", admittedText(d.Admitted)},
		{"transport", d.Transport},
		{"from", d.Remote},
		{"connected", moment(d.ConnectedAt)},
		{"last seen", moment(d.LastSeen)},
		{"disconnected", moment(d.DisconnectedAt)},
		{"cause", d.Cause},
		{"firmware", d.Firmware},
		{"model", d.Model},
		{"methods", strings.Join(d.Methods, ", ")},
		{"clock", clockOffset(d.ClockOffsetMs)},
		{"boot", d.Boot},
		{"units", pairs(d.Units, func(v string) string { return v })},
		{"silence", silenceText(d.Silence)},
		{"limits", limitsText(d.Limits)},
		{"slowed", slowedText(d.Slowed)},
		{"frozen", frozenText(d.Frozen)},
		{"unresponsive since", moment(d.Unresponsive)},
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

// clockOffset says how far a device's clock is off, nothing if the device never told its time.
func clockOffset(ms *int64) string {
	if ms == nil {
		return ""
	}
	off, side := *ms, "ahead"
	if off < 0 {
		off, side = -off, "behind"
	}
	const day = int64(24 * time.Hour / time.Millisecond)
	switch {
	case off == 0:
		return "as the hub's"
	case off >= 2*day: // also what a Duration cannot hold
		return fmt.Sprintf("%d days %s", off/day, side)
	}
	return fmt.Sprintf("%s %s", time.Duration(off)*time.Millisecond, side)
}

type devicesSet struct {
	Device  string             `arg:"" help:"Its id."`
	Type    *string            `placeholder:"TYPE" help:"New type."`
	Tag     []string           `placeholder:"TAG" help:"Its tags from now on; may be repeated."`
	NoTags  bool               `help:"Take all tags away."`
	Attr    map[string]*string `placeholder:"KEY=VALUE" help:"Set an attribute; may be repeated."`
	NoAttr  []string           `placeholder:"KEY" help:"Take an attribute away; may be repeated."`
	Enable  bool               `xor:"enabled" help:"Let it connect again."`
	Disable bool               `xor:"enabled" help:"Close its connection and refuse new ones."`
	Limit   map[string]string  `placeholder:"NAME=VALUE" help:"A limit of its own, at once: messages or bytes (a second), burst (such as 10s), max_frame, fields, connects (a minute); none is no bound; may be repeated."`
	NoLimit []string           `placeholder:"NAME" help:"Give a limit back to its type; may be repeated."`
}

// Run changes a device.
func (c *devicesSet) Run(a *app) error {
	change := client.DeviceChange{Type: c.Type, Attributes: c.Attr}
	if len(c.Tag) > 0 || c.NoTags {
		change.Tags = &c.Tag
		if c.Tag == nil {
			change.Tags = &[]string{}
		}
	}
	for _, key := range c.NoAttr {
		if change.Attributes == nil {
			change.Attributes = map[string]*string{}
		}
		change.Attributes[key] = nil
	}
	if c.Enable || c.Disable {
		change.Enabled = &c.Enable
	}
	var err error
	if change.Limits, err = limitChange(c.Limit, c.NoLimit); err != nil {
		return err
	}
	d, err := a.hub.UpdateDevice(a.ctx, c.Device, change)
	if err != nil {
		return err
	}
	return a.showDevice(d)
}

type devicesRm struct {
	Device string `arg:"" help:"Its id."`
}

// Run removes a device.
func (c *devicesRm) Run(a *app) error {
	gone, err := a.hub.DeleteDevice(a.ctx, c.Device)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(gone)
	}
	if gone.Data == "" {
		return a.printf("removed %s\n", c.Device)
	}
	return a.printf("removed %s; its data: %s\n", c.Device, clean(gone.Data))
}
