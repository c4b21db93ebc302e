package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"telemetryhub/api/client"
)

// rolloutFlags are those of send that make it a command to many devices.
type rolloutFlags struct {
	To              []string      `sep:"none" placeholder:"WHOM" help:"Send to many devices instead of one: tag=T, id=A,B, attr.NAME=VALUE, type=T, online, all. Several are joined by and."`
	DryRun          bool          `help:"With --to: say whom it would reach, and send nothing."`
	Wave            []string      `placeholder:"SIZE,…" help:"With --to: in waves of so many devices (50) or so much of them (10%); several are the first waves' sizes, and the last repeats."`
	Pause           time.Duration `placeholder:"30s" help:"With --wave: between the end of a wave and the next."`
	WaveTimeout     time.Duration `placeholder:"35s" help:"With --wave: how long a wave is waited for after its last sending (default: --timeout and 5s)."`
	MaxFailures     string        `placeholder:"N|P%" help:"With --to: stop when so many devices have failed (5), or so much of those that have an outcome (10%)."`
	MaxWaveFailures string        `placeholder:"N|P%" help:"The same for each wave."`
	MinEnded        int           `placeholder:"10" help:"How many devices must have an outcome before a percentage of failures counts."`
	Offline         string        `enum:"queue,skip," default:"" placeholder:"WORD" help:"With --to: queue the command for devices that are offline (the default), or skip them."`
}

func (f *rolloutFlags) given() bool {
	return len(f.To) > 0
}

// strayed names a flag that means nothing without --to.
func (f *rolloutFlags) strayed() string {
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"--dry-run", f.DryRun},
		{"--wave", len(f.Wave) > 0},
		{"--pause", f.Pause != 0},
		{"--wave-timeout", f.WaveTimeout != 0},
		{"--max-failures", f.MaxFailures != ""},
		{"--max-wave-failures", f.MaxWaveFailures != ""},
		{"--min-ended", f.MinEnded != 0},
		{"--offline", f.Offline != ""},
	} {
		if flag.given {
			return flag.name
		}
	}
	return ""
}

// parseSelector reads the words of --to.
func parseSelector(words []string) (to client.Selector, err error) {
	for _, word := range words {
		name, value, has := strings.Cut(word, "=")
		attribute, isAttribute := strings.CutPrefix(name, "attr.")
		switch {
		case word == "all":
			to.All = true
		case word == "online":
			to.Online = true
		case !has || value == "" && !isAttribute:
			return to, usageError("--to %s: it is tag=T, id=A,B, attr.NAME=VALUE, type=T, online or all", clean(word))
		case name == "id":
			to.IDs = append(to.IDs, strings.Split(value, ",")...)
		case name == "tag":
			to.Tags = append(to.Tags, value)
		case name == "type" && to.Type != "" && to.Type != value:
			return to, usageError("--to: no device has two types, %s and %s", clean(to.Type), clean(value))
		case name == "type":
			to.Type = value
		case isAttribute && attribute != "":
			if to.Attributes == nil {
				to.Attributes = map[string]string{}
			}
			to.Attributes[attribute] = value
		default:
			return to, usageError("--to %s: it is tag=T, id=A,B, attr.NAME=VALUE, type=T, online or all", clean(word))
		}
	}
	return to, nil
}

// rollOut sends to many devices. The first words of the line, which else are the device and the method, are the method and
// a parameter.
func (c *sendCommand) rollOut(a *app) error {
	words := c.Values
	if c.Method != "" {
		words = append([]string{c.Method}, words...)
	}
	to, err := parseSelector(c.To)
	if err != nil {
		return err
	}
	if c.Pause < 0 || c.WaveTimeout < 0 || c.MinEnded < 0 {
		return usageError("--pause, --wave-timeout and --min-ended are positive")
	}
	params, err := parseParams(c.Params, words, func() paramSchema { return a.schemaOfFirst(to, c.Device) })
	if err != nil {
		return err
	}
	request := client.RolloutRequest{
		To: to, Method: c.Device, Params: params, Delivery: c.Delivery, Expires: c.Expires, Timeout: c.Timeout, Offline: c.Offline,
		Sizes: c.Wave, Pause: c.Pause, WaveTimeout: c.WaveTimeout, Key: c.Key,
		Limits: client.RolloutLimits{Failures: c.MaxFailures, WaveFailures: c.MaxWaveFailures, Minimum: c.MinEnded},
	}
	if c.DryRun {
		return a.previewRollout(request)
	}
	r, err := a.hub.StartRollout(a.ctx, request)
	if err != nil {
		return paramFaults(explainDevices(a.stderr, err))
	}
	if !c.Wait {
		return a.showStarted(r)
	}
	say(a.stderr, fmt.Sprintf("hubctl: rollout %s to %d devices", r.ID, r.Devices))
	if r, err = a.awaitRollout(r); err != nil {
		if a.ctx.Err() != nil {
			say(a.stderr, "hubctl: the rollout goes on: hubctl rollouts show|pause|cancel "+r.ID)
		}
		return err
	}
	if err := a.showRollout(r); err != nil {
		return err
	}
	return rolloutOutcome(r)
}

// schemaOfFirst is the method's schema of the first device that is meant; what others make of the values, the hub says.
func (a *app) schemaOfFirst(to client.Selector, method string) paramSchema {
	p, err := a.hub.PreviewRollout(a.ctx, client.RolloutRequest{To: to, Method: method}, 1)
	if err != nil || len(p.Devices) == 0 {
		return paramSchema{} // the hub says what is wrong when it is asked in earnest
	}
	return a.schemaOf(p.Devices[0].ID, method)
}

func (a *app) showStarted(r client.Rollout) error {
	if a.json {
		return a.printJSON(r)
	}
	say(a.stderr, fmt.Sprintf("hubctl: rollout %s to %d devices has begun; how it goes: hubctl rollouts show %s", r.ID, r.Devices, r.ID))
	return a.printf("%s\n", clean(r.ID))
}

// mostFaults is how many refused devices are told; --dry-run and --json tell more.
const mostFaults = 20

// explainDevices tells the devices that refuse a rollout, one a line.
func explainDevices(w io.Writer, err error) error {
	var p *client.Problem
	if !errors.As(err, &p) || p.Reason != "devices_refuse" && p.Reason != "unknown_devices" {
		return err
	}
	for i, fault := range p.Errors {
		if i == mostFaults {
			say(w, fmt.Sprintf("hubctl: … and %d more", len(p.Errors)-mostFaults))
			break
		}
		say(w, "hubctl: "+clean(fmt.Sprintf("%v: %s", fault.Value, fault.Message)))
	}
	return &statusError{status: exitError, message: clean(p.Detail)}
}

func (a *app) previewRollout(request client.RolloutRequest) error {
	p, err := a.hub.PreviewRollout(a.ctx, request, 0)
	if err != nil {
		return paramFaults(explainDevices(a.stderr, err))
	}
	if err := a.showPreview(p); err != nil {
		return err
	}
	if p.Refused > 0 {
		return &statusError{status: exitError, message: fmt.Sprintf("%d of %d devices cannot be sent this; while there are any, nothing can be sent", p.Refused, p.Count)}
	}
	return nil
}

func (a *app) showPreview(p client.RolloutPreview) error {
	if a.json {
		return a.printJSON(p)
	}
	reasons := make(map[string]string, len(p.Refusals))
	for _, r := range p.Refusals {
		reasons[r.Device] = "cannot be sent this: " + r.Reason
	}
	rows := newTable(a.stdout, "DEVICE", "STATE", "NOTE")
	for _, d := range p.Devices {
		state := "offline"
		if d.Online {
			state = "online"
		}
		if err := rows.row(d.ID, state, reasons[d.ID]); err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil {
		return err
	}
	say(a.stderr, fmt.Sprintf("hubctl: %d devices, %d online, %d offline; waves: %d; nothing was sent", p.Count, p.Online, p.Offline, p.Waves))
	return nil
}

// awaitRollout asks for the rollout until each device has its outcome, or it is stopped or paused, and shows how far it is.
func (a *app) awaitRollout(r client.Rollout) (client.Rollout, error) {
	shown := newRolloutProgress(a.stderr, r)
	defer shown.end()
	for {
		shown.show(r)
		if r.State == "stopped" || r.State == "paused" || r.Final() && r.Open() == 0 {
			return r, nil
		}
		if err := sleep(a.ctx, askEvery); err != nil {
			return r, err
		}
		next, err := a.hub.Rollout(a.ctx, r.ID)
		if err != nil {
			return r, err
		}
		r = next
	}
}

// rolloutProgress is a bar on a terminal, else a line after each change of state or wave and now and then.
type rolloutProgress struct {
	w    io.Writer
	bar  *progressbar.ProgressBar // nil without a terminal
	last string
	at   time.Time
}

// rolloutLine is how often a line is written where nothing has changed but counts.
const rolloutLine = 10 * time.Second

func newRolloutProgress(w io.Writer, r client.Rollout) *rolloutProgress {
	p := &rolloutProgress{w: w}
	if file, is := w.(*os.File); is && term.IsTerminal(int(file.Fd())) {
		p.bar = progressbar.NewOptions(r.Devices, progressbar.OptionSetWriter(w), progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth(),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(true))
	}
	return p
}

func (p *rolloutProgress) show(r client.Rollout) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("wave %d of %d, %d failed", r.Wave.Number, r.Wave.Of, r.Failures))
		_ = p.bar.Set(min(r.Devices-r.Open(), r.Devices-1)) // the bar ends with the rollout; a terminal that went away is no reason to stop
		return
	}
	change := fmt.Sprint(r.State, r.Wave.Number)
	if change == p.last && time.Since(p.at) < rolloutLine {
		return
	}
	p.last, p.at = change, time.Now()
	say(p.w, clean(fmt.Sprintf("hubctl: wave %d of %d, %d of %d devices have their outcome, %d failed; %s",
		r.Wave.Number, r.Wave.Of, r.Devices-r.Open(), r.Devices, r.Failures, waitingText(r))))
}

func (p *rolloutProgress) end() {
	if p.bar != nil {
		_ = p.bar.Clear() // a bar that stays is no harm
	}
}

// waitingText says what a rollout is about, and until when.
func waitingText(r client.Rollout) string {
	text := r.State
	if r.Waiting != "" {
		text += ", waits for " + r.Waiting
	}
	if !r.Wave.RestUntil.IsZero() {
		text += " until " + r.Wave.RestUntil.UTC().Format("15:04:05")
	}
	return text
}

// rolloutOutcome is the error that a rollout's outcomes mean for the exit status: nil if each device has done it.
func rolloutOutcome(r client.Rollout) error {
	n := r.Counts
	fail := func(status int) error { return &statusError{status: status} }
	switch {
	case n["failed"]+n["rejected"] > 0:
		return fail(exitFailed)
	case n["unknown"] > 0:
		return fail(exitUnknown)
	case n["expired"]+n["cancelled"]+n["skipped"] > 0:
		return fail(exitNotRun)
	case r.Open() > 0:
		return fail(exitPending)
	}
	return nil
}
