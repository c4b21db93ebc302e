package main

import (
	"errors"
	"fmt"
	"strings"

	"telemetryhub/api/client"
)

type bridgeSeen struct {
	Query   string `short:"q" placeholder:"TEXT" help:"Only those with this text in id, name, type or model."`
	Bridge  string `placeholder:"NAME" help:"Only what this bridge saw last."`
	Ignored bool   `xor:"which" help:"Those that are ignored instead."`
}

// Help is what kong shows below the flags.
func (bridgeSeen) Help() string {
	return "To let one in: hubctl bridge admit DEVICE. To see it no more: hubctl bridge ignore DEVICE. With --json also the last message of each."
}

// Run lists devices that bridges have seen and that are not registered.
func (c *bridgeSeen) Run(a *app) error {
	if c.Ignored {
		return a.listIgnored()
	}
	rows, all := newTable(a.stdout, "DEVICE", "BRIDGE", "LAST SEEN", "COUNT", "TYPE", "NAME", "MODEL", "TOPIC", "PAYLOAD"), []client.Discovered{}
	held := map[string]int{}
	for d, err := range a.hub.Discovered(a.ctx, client.DiscoveredFilter{Query: c.Query, Bridge: c.Bridge, Page: 1000}) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, d)
			continue
		}
		if d.Held != "" {
			held[d.Held]++
		}
		if err := rows.row(d.ID, d.Bridge, age(a.now().Sub(d.Last))+" ago", number(d.Count), d.Type, d.Name, d.Model, d.Topic, payloadText(d)); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(all)
	}
	for _, why := range sortedKeys(held) {
		say(a.stderr, fmt.Sprintf("hubctl: %d were not admitted by themselves: %s", held[why], clean(why)))
	}
	return rows.flush()
}

func payloadText(d client.Discovered) string {
	if d.PayloadBase64 != "" {
		return fmt.Sprintf("%d bytes that are no text", d.Size)
	}
	return shorten(d.Payload)
}

func (a *app) listIgnored() error {
	rows, all := newTable(a.stdout, "DEVICE", "SINCE", "BY"), []client.IgnoredDevice{}
	for i, err := range a.hub.Ignored(a.ctx) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, i)
		} else if err := rows.row(i.ID, moment(i.At), i.By); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(all)
	}
	return rows.flush()
}

type bridgeAdmit struct {
	Devices []string          `arg:"" optional:"" name:"seen-device" help:"Their ids, as seen shows them."`
	All     bool              `help:"All that were seen."`
	Bridge  string            `placeholder:"NAME" help:"All that this bridge saw last."`
	Type    string            `placeholder:"TYPE" help:"What kind of device they are (default: what was seen of each)."`
	Tag     []string          `placeholder:"TAG" help:"A tag; may be repeated."`
	Attr    map[string]string `placeholder:"KEY=VALUE" help:"An attribute; may be repeated."`
}

// Run registers devices that were seen.
func (c *bridgeAdmit) Run(a *app) error {
	if (len(c.Devices) > 0) == (c.All || c.Bridge != "") {
		return usageError("say which: ids, or --all, or --bridge")
	}
	ids := c.Devices
	if len(ids) == 0 {
		for d, err := range a.hub.Discovered(a.ctx, client.DiscoveredFilter{Bridge: c.Bridge, Page: 1000}) {
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
	}
	admitted := []client.Device{}
	failed := a.each(ids, func(id string) error {
		d, err := a.hub.AdmitDevice(a.ctx, id, client.Admission{Type: c.Type, Tags: c.Tag, Attributes: c.Attr})
		if err != nil {
			return err
		}
		if a.json {
			admitted = append(admitted, d)
			return nil
		}
		return a.printf("%s\n", strings.TrimRight(clean("admitted "+d.ID+" "+d.Type), " "))
	})
	if a.json {
		return errors.Join(a.printJSON(admitted), failed)
	}
	return failed
}

// each does something with each id and goes on after one that failed, which it says; its error says how many did. What
// would fail for all of them ends it.
func (a *app) each(ids []string, do func(id string) error) error {
	failed := 0
	for _, id := range ids {
		err := do(id)
		var refused *client.Problem
		switch {
		case err == nil:
		case len(ids) == 1, !errors.As(err, &refused), refused.Status == 401, refused.Status == 403, refused.Status >= 500:
			return err
		default:
			failed++
			say(a.stderr, fmt.Sprintf("hubctl: %s: %s", clean(id), clean(err.Error())))
		}
	}
	if failed > 0 {
		return &statusError{status: exitError, message: fmt.Sprintf("%d of %d failed", failed, len(ids))}
	}
	return nil
}

type bridgeIgnore struct {
	Devices []string `arg:"" name:"seen-device" help:"Their ids; they need not have been seen."`
	Undo    bool     `help:"Let them be seen again."`
}

// Run keeps devices off the list, or lets them onto it again.
func (c *bridgeIgnore) Run(a *app) error {
	ignored := []client.IgnoredDevice{}
	failed := a.each(c.Devices, func(id string) error {
		if c.Undo {
			if err := a.hub.NoticeDevice(a.ctx, id); err != nil || a.json {
				return err
			}
			return a.printf("%s is not ignored any more\n", clean(id))
		}
		i, err := a.hub.IgnoreDevice(a.ctx, id)
		if err != nil {
			return err
		}
		if a.json {
			ignored = append(ignored, i)
			return nil
		}
		return a.printf("%s is ignored\n", clean(i.ID))
	})
	if a.json {
		return errors.Join(a.printJSON(ignored), failed)
	}
	return failed
}

// admittedText says how a device came that a bridge had seen, nothing if it did not.
func admittedText(d *client.Admitted) string {
	switch {
	case d == nil:
		return ""
	case d.Rule != "":
		return fmt.Sprintf("%s on bridge %s, by the rule %s", moment(d.At), d.Bridge, d.Rule)
	}
	return fmt.Sprintf("%s on bridge %s, by %s", moment(d.At), d.Bridge, d.By)
}
