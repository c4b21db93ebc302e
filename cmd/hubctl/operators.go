package main

import (
	"cmp"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type operatorsLs struct{}

// Run lists operators.
func (*operatorsLs) Run(a *app) error {
	all, err := a.hub.Operators(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	rows := newTable(a.stdout, "NAME", "ROLE", "DEVICES", "STATE", "LAST USED", "TOKENS")
	for _, o := range all {
		state := "enabled"
		if !o.Enabled {
			state = "disabled"
		}
		var names []string
		var used time.Time
		for _, t := range o.Tokens {
			names = append(names, tokenText(t, a.now()))
			if t.LastUsed.After(used) {
				used = t.LastUsed
			}
		}
		last := ""
		if !used.IsZero() {
			last = age(a.now().Sub(used)) + " ago"
		}
		if err := rows.row(o.Name, o.Role, scopeText(o.Scope), state, last, strings.Join(names, ", ")); err != nil {
			return err
		}
	}
	return rows.flush()
}

func scopeText(s *client.Scope) string {
	if s == nil {
		return "all"
	}
	return "tagged " + strings.Join(s.Tags, " or ")
}

// tokenText names a token and, if it has one, its end.
func tokenText(t client.OperatorToken, now time.Time) string {
	switch {
	case t.Expires.IsZero():
		return t.Name
	case t.Expired:
		return t.Name + " (expired)"
	}
	return t.Name + " (" + age(t.Expires.Sub(now)) + " left)"
}

type operatorsShow struct {
	Name string `arg:"" help:"The operator's name."`
}

// Run shows an operator and its tokens.
func (c *operatorsShow) Run(a *app) error {
	o, err := a.hub.GetOperator(a.ctx, c.Name)
	if err != nil {
		return err
	}
	return a.showOperator(o)
}

func (a *app) showOperator(o client.Operator) error {
	if a.json {
		return a.printJSON(o)
	}
	state := "enabled"
	if !o.Enabled {
		state = "disabled"
	}
	rows := newTable(a.stdout, "operator", o.Name)
	for _, line := range [][2]string{{"role", o.Role}, {"devices", scopeText(o.Scope)}, {"state", state}, {"created", moment(o.Created)}} {
		if err := rows.row(line[0], line[1]); err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil {
		return err
	}
	tokens := newTable(a.stdout, "TOKEN", "CREATED", "EXPIRES", "LAST USED")
	for _, t := range o.Tokens {
		expires := cmp.Or(moment(t.Expires), "never")
		if t.Expired {
			expires += " (expired)"
		}
		if err := tokens.row(t.Name, moment(t.Created), expires, moment(t.LastUsed)); err != nil {
			return err
		}
	}
	return tokens.flush()
}

type operatorsAdd struct {
	Name      string   `arg:"" help:"Letters, digits, - and _."`
	Role      string   `required:"" enum:"viewer,operator,admin" placeholder:"ROLE" help:"viewer reads, operator also sends commands, admin also changes devices and operators."`
	Tag       []string `placeholder:"TAG" help:"Only devices with this tag, or one of these; may be repeated."`
	TokenName string   `placeholder:"NAME" help:"Name of the token (default)."`
	Expires   string   `placeholder:"90d" help:"How long the token holds; for ever if left out."`
}

// Run makes an operator and prints its token.
func (c *operatorsAdd) Run(a *app) error {
	n := client.NewOperator{Name: c.Name, Role: c.Role, TokenName: c.TokenName, ExpiresIn: c.Expires}
	if len(c.Tag) > 0 {
		n.Scope = &client.Scope{Tags: c.Tag}
	}
	made, err := a.hub.CreateOperator(a.ctx, n)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(made)
	}
	say(a.stderr, "hubctl: this is the token of "+clean(made.Name)+"; it is not shown again. Programs send the header  Authorization: Bearer TOKEN")
	return a.printf("%s\n", clean(made.Token))
}

type operatorsSet struct {
	Name       string   `arg:"" help:"The operator's name."`
	Role       *string  `enum:"viewer,operator,admin" placeholder:"ROLE" help:"New role."`
	Tag        []string `xor:"scope" placeholder:"TAG" help:"Only devices with this tag from now on, or one of these; may be repeated."`
	AllDevices bool     `xor:"scope" help:"All devices from now on."`
	Enable     bool     `xor:"enabled" help:"Let it in again."`
	Disable    bool     `xor:"enabled" help:"Let it in no more; its tokens stay."`
}

// Run changes an operator.
func (c *operatorsSet) Run(a *app) error {
	change := client.OperatorChange{Role: c.Role, AllDevices: c.AllDevices}
	if len(c.Tag) > 0 {
		change.Scope = &client.Scope{Tags: c.Tag}
	}
	if c.Enable || c.Disable {
		change.Enabled = &c.Enable
	}
	if change == (client.OperatorChange{}) {
		return usageError("nothing to change; see hubctl operators set --help")
	}
	o, err := a.hub.ChangeOperator(a.ctx, c.Name, change)
	if err != nil {
		return err
	}
	return a.showOperator(o)
}

type operatorsRm struct {
	Name string `arg:"" help:"The operator's name."`
}

// Run removes an operator.
func (c *operatorsRm) Run(a *app) error {
	if err := a.hub.DeleteOperator(a.ctx, c.Name); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"name": c.Name})
	}
	return a.printf("removed %s; its tokens and logins are void\n", c.Name)
}

type operatorsToken struct {
	Name    string `arg:"" help:"The operator's name."`
	Token   string `name:"name" placeholder:"NAME" help:"Name of the token (default)."`
	Expires string `xor:"what" placeholder:"90d" help:"How long it holds; for ever if left out."`
	Revoke  bool   `xor:"what" help:"End the token of this name instead of making one."`
}

// Run makes or ends one of an operator's tokens.
func (c *operatorsToken) Run(a *app) error {
	if c.Revoke {
		o, err := a.hub.RevokeOperatorToken(a.ctx, c.Name, cmp.Or(c.Token, "default"))
		if err != nil {
			return err
		}
		return a.showOperator(o)
	}
	made, err := a.hub.NewOperatorToken(a.ctx, c.Name, c.Token, c.Expires)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(made)
	}
	return a.printf("%s\n", clean(made.Token))
}

type whoamiCommand struct{}

// Run says who the token belongs to.
func (*whoamiCommand) Run(a *app) error {
	me, err := a.hub.Me(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(me)
	}
	text := me.Name + ", " + me.Role + " of all devices"
	if me.Scope != nil {
		text = me.Name + ", " + me.Role + " of devices " + scopeText(me.Scope)
	}
	if !me.Until.IsZero() {
		text += ", until " + moment(me.Until)
	}
	return a.printf("%s, at %s\n", clean(text), a.hub.URL())
}
