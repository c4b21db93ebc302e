package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type enrolAdd struct {
	Name    string   `arg:"" help:"What it is for, for people: such as \"batch 7\"."`
	Count   int      `required:"" placeholder:"N" help:"How many devices it may enrol, in all."`
	Expires string   `placeholder:"WHEN" help:"End of its use: from now, such as 30d or 12h, or RFC 3339 (default: never)."`
	Type    string   `placeholder:"TYPE" help:"What kind of device it enrols; one that says it is another is refused."`
	Tag     []string `placeholder:"TAG" help:"A tag that its devices get; may be repeated."`
	IDs     string   `name:"ids" placeholder:"PATTERN" help:"Ids that it may enrol: * is any text, ? one character (default: any)."`
	Again   bool     `help:"A device may enrol again after it has, as after a factory reset. Whoever has the key can then take the place of its devices."`
}

// Help is what kong shows below the flags.
func (enrolAdd) Help() string {
	return "Prints the key itself, once: put it into the firmware. A new device connects with it in the place of a token and gets credentials of its own:\n\n" +
		"    hubctl enrol add \"climate, batch 7\" --count 500 --expires 30d --type climate --ids 'climate-*' > enrolment.key"
}

// Run makes an enrolment key.
func (c *enrolAdd) Run(a *app) error {
	expires, err := endOfUse(c.Expires, a.now())
	if err != nil {
		return err
	}
	k, err := a.hub.CreateEnrolmentKey(a.ctx, client.NewEnrolmentKey{
		Name: c.Name, Limit: c.Count, Expires: expires, Type: c.Type, Tags: c.Tag, Pattern: c.IDs, Again: c.Again,
	})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(k)
	}
	say(a.stderr, "hubctl: this is the enrolment key "+k.ID+"; it is not shown again. A device DEVICE connects to\n"+
		"hubctl: "+connectURL(a.hub.URL())+"/DEVICE  with the header  Authorization: Bearer KEY")
	return a.printf("%s\n", clean(k.Secret))
}

// endOfUse reads when a key ends; the zero time is never.
func endOfUse(text string, now time.Time) (time.Time, error) {
	if text == "" || text == "never" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, int(n)).UTC().Truncate(time.Second), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	return time.Time{}, usageError("--expires %s: neither a time from now, such as 30d or 12h, nor RFC 3339, nor never", text)
}

type enrolLs struct{}

// Run lists enrolment keys.
func (*enrolLs) Run(a *app) error {
	keys, err := a.hub.EnrolmentKeys(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		if keys == nil {
			keys = []client.EnrolmentKey{}
		}
		return a.printJSON(keys)
	}
	rows := newTable(a.stdout, "KEY", "NAME", "STATE", "USED", "LEFT", "EXPIRES", "LAST USED", "TYPE", "IDS", "TAGS")
	for _, k := range keys {
		used := ""
		if !k.LastUsed.IsZero() {
			used = age(a.now().Sub(k.LastUsed)) + " ago"
		}
		if err := rows.row(k.ID, k.Name, k.State, strconv.Itoa(k.Used), strconv.Itoa(k.Left), moment(k.Expires), used, k.Type, k.Pattern, strings.Join(k.Tags, ",")); err != nil {
			return err
		}
	}
	return rows.flush()
}

type enrolShow struct {
	Key string `arg:"" help:"Its id, as ls shows it."`
}

// Run shows an enrolment key.
func (c *enrolShow) Run(a *app) error {
	k, err := a.hub.GetEnrolmentKey(a.ctx, c.Key)
	if err != nil {
		return err
	}
	return a.showEnrolmentKey(k)
}

func (a *app) showEnrolmentKey(k client.EnrolmentKey) error {
	if a.json {
		return a.printJSON(k)
	}
	expires, again := moment(k.Expires), ""
	if expires == "" {
		expires = "never"
	}
	if k.Again {
		again = "a device may enrol again at any time"
	}
	rows := newTable(a.stdout, "key", k.ID)
	for _, line := range [][2]string{
		{"name", k.Name},
		{"state", k.State},
		{"devices", fmt.Sprintf("%d of %d", k.Used, k.Limit)},
		{"expires", expires},
		{"type", k.Type},
		{"ids", k.Pattern},
		{"tags", strings.Join(k.Tags, ", ")},
		{"again", again},
		{"created", moment(k.Created)},
		{"by", k.Actor},
		{"last used", moment(k.LastUsed)},
		{"refused", pairs(k.Refused, number)},
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

type enrolSet struct {
	Key     string  `arg:"" help:"Its id, as ls shows it."`
	Name    *string `placeholder:"NAME" help:"New name."`
	Count   *int    `placeholder:"N" help:"How many devices it may enrol, in all."`
	Expires *string `placeholder:"WHEN" help:"New end of its use: from now, such as 30d or 12h, or RFC 3339, or never."`
	Again   *bool   `negatable:"" help:"A device may, or may not, enrol again after it has."`
	Enable  bool    `xor:"enabled" help:"Let it be used again."`
	Disable bool    `xor:"enabled" help:"End its use. The devices that it enrolled stay."`
}

// Run changes an enrolment key.
func (c *enrolSet) Run(a *app) error {
	change := client.EnrolmentKeyChange{Name: c.Name, Limit: c.Count, Again: c.Again}
	if c.Enable || c.Disable {
		change.Enabled = &c.Enable
	}
	if c.Expires != nil {
		at, err := endOfUse(*c.Expires, a.now())
		if err != nil {
			return err
		}
		text := "never"
		if !at.IsZero() {
			text = at.Format(time.RFC3339)
		}
		change.Expires = &text
	}
	k, err := a.hub.UpdateEnrolmentKey(a.ctx, c.Key, change)
	if err != nil {
		return err
	}
	return a.showEnrolmentKey(k)
}

type enrolRm struct {
	Key string `arg:"" help:"Its id, as ls shows it."`
}

// Run removes an enrolment key.
func (c *enrolRm) Run(a *app) error {
	gone, err := a.hub.DeleteEnrolmentKey(a.ctx, c.Key)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(gone)
	}
	return a.printf("removed %s. %s\n", c.Key, clean(gone.Devices))
}

// enrolledText says by which key a device came, nothing if an operator made it.
func enrolledText(e *client.Enrolled) string {
	switch {
	case e == nil:
		return ""
	case !e.Confirmed:
		return fmt.Sprintf("%s by key %s, not yet confirmed", moment(e.At), e.Key)
	}
	return fmt.Sprintf("%s by key %s", moment(e.At), e.Key)
}
