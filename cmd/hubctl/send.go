package main

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"telemetryhub/api/client"
)

const (
	// longestWait is what the API waits at most in one request; beyond it hubctl asks again.
	longestWait = 5 * time.Minute
	// waitMargin lets the hub's own word about a missing answer arrive.
	waitMargin = 2 * time.Second
	askEvery   = 500 * time.Millisecond
	// firstWait is what is waited at first, where only the hub knows the command's timeout.
	firstWait = 30 * time.Second
)

type sendCommand struct {
	Device   string        `arg:"" help:"Id of the device; left out with --to."`
	Method   string        `arg:"" optional:"" help:"What it is to do."`
	Values   []string      `arg:"" optional:"" name:"key=value" help:"Parameters. A value that is JSON is taken as such (5, true, null, [1,2]), unless the method's schema asks for text; anything else is text."`
	Params   string        `placeholder:"JSON|@FILE" help:"Parameters as a JSON object or array; key=value are added."`
	Wait     bool          `help:"Wait for the outcome and print the device's answer."`
	Timeout  time.Duration `placeholder:"30s" help:"How long the device may take to answer; progress extends it (default: that of the method, or the hub's)."`
	Expires  time.Duration `placeholder:"24h" help:"Not started later than that (default: the hub's)."`
	Delivery string        `enum:"at-most-once,at-least-once," default:"" placeholder:"WORD" help:"at-most-once: never sent twice (the default). at-least-once: sent again until answered or expired."`
	Key      string        `aliases:"idempotency-key" placeholder:"TEXT" help:"Idempotency key: the same key for the same device returns the first command."`

	rolloutFlags
}

// Help is what kong shows below the flags.
func (sendCommand) Help() string {
	return "The outcome is one word, and it is honest: unknown means that the device may or may not have run it. For a device that is not " +
		"connected, or has others to do first, the command is queued until it expires; with --expires 10s it is now or never.\n\n" + exitHelp +
		"\n\nExample: hubctl send pump-7 set speed=3 mode=auto --wait" +
		"\n\nTo many: hubctl send --to tag=lamp set level=40 --wave 1,10% --pause 1m --max-failures 5 --wait. Its exit status is 0 if each device has done it, " +
		"else that of the worst outcome; a device that was skipped counts as not run. It goes on by itself: hubctl rollouts"
}

// Run sends a command.
func (c *sendCommand) Run(a *app) error {
	if c.Timeout < 0 || c.Expires < 0 {
		return usageError("--timeout and --expires are positive")
	}
	if c.given() {
		return c.rollOut(a)
	}
	if stray := c.strayed(); stray != "" {
		return usageError("%s goes with --to", stray)
	}
	if c.Method == "" {
		return usageError("say what %s is to do: hubctl send DEVICE METHOD", clean(c.Device))
	}
	params, err := parseParams(c.Params, c.Values, func() paramSchema { return a.schemaOf(c.Device, c.Method) })
	if err != nil {
		return err
	}
	r := client.CommandRequest{
		Method: c.Method, Params: params, Delivery: c.Delivery, Expires: c.Expires, Timeout: c.Timeout, Key: c.Key,
	}
	if c.Wait {
		r.Wait = min(cmp.Or(c.Timeout, firstWait)+waitMargin, longestWait)
	}
	started := a.now()
	cmd, err := a.hub.SendCommand(a.ctx, c.Device, r)
	if errors.Is(err, context.Canceled) {
		say(a.stderr, "hubctl: the command may have been sent: hubctl commands ls "+c.Device)
	}
	if err != nil {
		return paramFaults(err)
	}
	timeout := time.Duration(cmd.TimeoutMs) * time.Millisecond // the method's own may be longer
	return a.finishSending(cmd, c.Wait, started.Add(max(timeout, c.Timeout)+waitMargin))
}

// finishSending shows a command that was made, with wait once it has ended or until is over, and returns what the exit
// status says of it.
func (a *app) finishSending(cmd client.Command, wait bool, until time.Time) (err error) {
	if wait && !cmd.Final() {
		if cmd, err = a.await(cmd, until); err != nil {
			return err
		}
	}
	if err := a.showOutcome(cmd); err != nil {
		return err
	}
	if !wait && !cmd.Final() {
		return nil // sent or queued
	}
	return outcome(cmd)
}

// paramFaults tells what is wrong with params one fault a line, each with its place in them.
func paramFaults(err error) error {
	var p *client.Problem
	if !errors.As(err, &p) || p.Reason != "bad_params" || len(p.Errors) == 0 {
		return err
	}
	lines := []string{clean(p.Detail)}
	for _, f := range p.Errors {
		at := f.Pointer
		if at == "" {
			at = "(the params themselves)"
		}
		lines = append(lines, "hubctl:   "+clean(at)+"  "+clean(f.Message))
	}
	return &statusError{status: exitError, message: strings.Join(lines, "\n")}
}

// await asks for the command until it has ended, or its time is over and the device tells no progress.
func (a *app) await(cmd client.Command, until time.Time) (client.Command, error) {
	timer := time.NewTimer(askEvery)
	defer timer.Stop()
	for !cmd.Final() && (a.now().Before(until) || cmd.State == "received" || cmd.State == "running") {
		select {
		case <-timer.C:
		case <-a.ctx.Done():
			return cmd, nil // what is known is printed
		}
		next, err := a.hub.Command(a.ctx, cmd.ID)
		if errors.Is(err, a.ctx.Err()) && err != nil {
			return cmd, nil
		}
		if err != nil {
			return cmd, err
		}
		cmd = next
		timer.Reset(askEvery)
	}
	return cmd, nil
}

// showOutcome prints the device's answer alone on stdout, so that it can be piped (without an answer the
// command's id), and the command's state on stderr.
func (a *app) showOutcome(cmd client.Command) error {
	if a.json {
		return a.printJSON(cmd)
	}
	note := "hubctl: command " + cmd.ID + " is " + stateText(cmd)
	if cause := cmd.Cause(); cause != "" && (cmd.Final() || cmd.State == "queued") {
		note += ": " + clean(cause)
	}
	if !cmd.Final() {
		note += "; its outcome: hubctl commands show " + cmd.ID
	}
	say(a.stderr, note)
	switch {
	case cmd.Error != nil:
		return a.printLine(cmd.Error)
	case cmd.Result != nil:
		return a.printf("%s\n", clean(string(cmd.Result)))
	case !cmd.Final():
		return a.printf("%s\n", cmd.ID)
	}
	return nil
}
