package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"telemetryhub/api/client"
)

const (
	firstReconnect   = time.Second
	longestReconnect = 15 * time.Second
)

type watchCommand struct {
	Device []string `arg:"" optional:"" help:"Only these devices."`
	Kind   []string `enum:"telemetry,presence,command,rollout,state,discovered" placeholder:"KIND" help:"Only telemetry, presence, command, rollout, state or discovered; may be repeated."`
	Raw    bool     `help:"Print the hub's events as they come."`
	Count  int      `short:"n" placeholder:"N" help:"End after so many events."`
}

// Run shows what happens until it is interrupted.
func (c *watchCommand) Run(a *app) error {
	shown, reconnect, connected := 0, firstReconnect, false
	for {
		var err error
		for e, failed := range a.hub.Live(a.ctx, client.LiveFilter{Devices: c.Device, Kinds: c.Kind}) {
			if err = failed; err != nil {
				break
			}
			connected, reconnect = true, firstReconnect
			if err = c.show(a, e); err != nil {
				return err
			}
			if e.Missed == 0 {
				shown++
			}
			if shown == c.Count && c.Count > 0 {
				return nil
			}
		}
		if a.ctx.Err() != nil {
			return nil
		}
		var refused *client.Problem
		if !errors.Is(err, io.EOF) && (errors.As(err, &refused) && refused.Status < 500 || !connected) {
			return err
		}
		connected = true
		pause := reconnect/2 + rand.N(reconnect)
		say(a.stderr, fmt.Sprintf("hubctl: the live stream ended (%v); connecting again in %v; what happens meanwhile is not shown", err, pause.Round(100*time.Millisecond)))
		if err := sleep(a.ctx, pause); err != nil {
			return nil
		}
		reconnect = min(reconnect*2, longestReconnect)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *watchCommand) show(a *app, e client.Event) error {
	switch {
	case c.Raw:
		return a.printf("%s %s\n", clean(e.Kind), clean(string(e.Data)))
	case a.json:
		return a.printLine(e)
	case e.Telemetry != nil:
		for _, r := range e.Telemetry.Readings {
			if err := a.printf("%s  %-16s  %s\n", moment(r.Time()), clean(e.Telemetry.Device), clean(pairs(r.Values, valueText))); err != nil {
				return err
			}
		}
	case e.Presence != nil:
		p := e.Presence
		text := "connected by " + p.Transport
		switch {
		case p.What == "frozen":
			text = "frozen: " + frozenText(p.Frozen)
		case p.What == "unresponsive":
			text = "unresponsive since " + moment(p.Unresponsive)
		case p.What == "unfrozen", p.What == "responsive":
			text = p.What
		case !p.Online:
			text = "disconnected: " + p.Cause
		}
		return a.printf("%s  %-16s  %s\n", moment(p.Time), clean(p.Device), clean(text))
	case e.Command != nil:
		return a.printf("%s\n", commandLineText(*e.Command))
	case e.Rollout != nil:
		r := e.Rollout
		return a.printf("%s\n", clean(fmt.Sprintf("%s  rollout %s %s: %s; %s", moment(a.now()), r.ID, r.Method, waitingText(*r), pairs(r.Counts, func(n int) string { return fmt.Sprint(n) }))))
	case e.State != nil:
		return a.printf("%s\n", stateLineText(*e.State))
	case e.Seen != nil:
		d := e.Seen
		return a.printf("%s\n", clean(fmt.Sprintf("%s  %-16s  seen on bridge %s, not registered: %s %s", moment(d.Last), d.ID, d.Bridge, d.Topic, payloadText(*d))))
	case e.Kind == "missed":
		say(a.stderr, fmt.Sprintf("hubctl: %d events were not shown: this end was too slow", e.Missed))
	}
	return nil
}

func commandLineText(cmd client.Command) string {
	at := cmd.Created
	if n := len(cmd.History); n > 0 {
		at = cmd.History[n-1].Time
	}
	text := fmt.Sprintf("%s  %-16s  command %s %s: %s", moment(at), cmd.Device, cmd.ID, cmd.Method, stateText(cmd))
	switch {
	case cmd.Error != nil:
		text += fmt.Sprintf(" %d %s", cmd.Error.Code, cmd.Error.Message)
	case cmd.Result != nil:
		text += " " + shorten(string(cmd.Result))
	case cmd.Progress != nil && !cmd.Final():
		text += fmt.Sprintf(" %g%% %s", cmd.Progress.Percent, cmd.Progress.Message)
	case cmd.Cause() != "":
		text += " (" + cmd.Cause() + ")"
	}
	return clean(text)
}
