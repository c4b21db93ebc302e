package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type rolloutsLs struct {
	State string `enum:"running,paused,stopped,done,cancelled," default:"" placeholder:"STATE" help:"Only those in this state."`
	Limit int    `short:"n" default:"50" help:"How many; 0 for all."`
}

// Run lists rollouts.
func (c *rolloutsLs) Run(a *app) error {
	rows, all := newTable(a.stdout, "ROLLOUT", "STATE", "METHOD", "TO", "DEVICES", "OPEN", "FAILED", "WAVE", "BY"), []client.Rollout{}
	n := 0
	for r, err := range a.hub.Rollouts(a.ctx, c.State, min(c.Limit, 1000)) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, r)
		} else if err := rows.row(r.ID, r.State, r.Method, shorten(selectorText(r)), fmt.Sprint(r.Devices), fmt.Sprint(r.Open()), fmt.Sprint(r.Failures), waveText(r), r.Actor); err != nil {
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

func waveText(r client.Rollout) string { return fmt.Sprintf("%d of %d", r.Wave.Number, r.Wave.Of) }

// selectorText writes a selector as --to takes it.
func selectorText(r client.Rollout) string {
	var words []string
	if r.To.All {
		words = append(words, "all")
	}
	if n := len(r.To.IDs); n > 0 {
		text := "id=" + strings.Join(r.To.IDs, ",")
		if r.IDs > n {
			text += fmt.Sprintf(",… (%d)", r.IDs)
		}
		words = append(words, text)
	}
	for _, tag := range r.To.Tags {
		words = append(words, "tag="+tag)
	}
	for _, name := range slices.Sorted(maps.Keys(r.To.Attributes)) {
		words = append(words, "attr."+name+"="+r.To.Attributes[name])
	}
	if r.To.Type != "" {
		words = append(words, "type="+r.To.Type)
	}
	if r.To.Online {
		words = append(words, "online")
	}
	return strings.Join(words, " ")
}

type rolloutsShow struct {
	ID string `arg:"" help:"Its id."`
}

// Run shows a rollout and its story.
func (c *rolloutsShow) Run(a *app) error {
	r, err := a.hub.Rollout(a.ctx, c.ID)
	if err != nil {
		return err
	}
	return a.showRollout(r)
}

func (a *app) showRollout(r client.Rollout) error {
	if a.json {
		return a.printJSON(r)
	}
	rows := newTable(a.stdout, "rollout", r.ID)
	for _, line := range rolloutLines(r) {
		if line[1] == "" {
			continue
		}
		if err := rows.row(line[0], line[1]); err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil {
		return err
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	outcomes := newTable(a.stdout, "OUTCOME", "DEVICES")
	for _, outcome := range []string{"pending", "accepted", "queued", "sent", "received", "running", "done", "failed", "rejected", "expired", "cancelled", "unknown", "skipped"} {
		if n := r.Counts[outcome]; n > 0 {
			if err := outcomes.row(outcome, fmt.Sprint(n)); err != nil {
				return err
			}
		}
	}
	if err := outcomes.flush(); err != nil {
		return err
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	story := newTable(a.stdout, "TIME", "AFTER", "STATE", "BY", "CAUSE")
	for _, step := range r.History {
		if err := story.row(moment(step.Time), age(step.Time.Sub(r.Created)), step.State, step.Actor, step.Cause); err != nil {
			return err
		}
	}
	return story.flush()
}

func rolloutLines(r client.Rollout) [][2]string {
	waves := strings.Join(r.Waves.Sizes, ",")
	if waves != "" && r.Waves.PauseMs > 0 {
		waves += " with a pause of " + milliseconds(r.Waves.PauseMs)
	}
	var limits []string
	for _, limit := range [][2]string{{"in all", r.Limits.Failures}, {"in a wave", r.Limits.WaveFailures}} {
		if limit[1] != "" {
			limits = append(limits, limit[1]+" "+limit[0])
		}
	}
	wave := waveText(r)
	if r.Wave.Open > 0 {
		wave += fmt.Sprintf(", %d of its %d devices open", r.Wave.Open, r.Wave.Devices)
	}
	return [][2]string{
		{"state", waitingText(r)},
		{"to", selectorText(r)},
		{"devices", fmt.Sprint(r.Devices)},
		{"method", r.Method},
		{"params", string(r.Params)},
		{"delivery", r.Delivery},
		{"offline", r.Offline},
		{"expires", milliseconds(r.ExpiresMs)},
		{"timeout", milliseconds(r.TimeoutMs)},
		{"waves", waves},
		{"wave", wave},
		{"failures", fmt.Sprint(r.Failures)},
		{"limit", strings.Join(limits, ", ")},
		{"sent by", r.Actor},
		{"ready at about", moment(r.ETA)},
	}
}

func milliseconds(ms int64) string {
	if ms == 0 {
		return ""
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

type rolloutsDevices struct {
	ID      string   `arg:"" help:"Its id."`
	Outcome []string `placeholder:"OUTCOME,…" help:"Only those: the states of commands, pending, skipped, or failures for failed, rejected, expired and unknown."`
	Limit   int      `short:"n" default:"0" help:"How many; 0 for all."`
}

// Run lists what became of a rollout's devices.
func (c *rolloutsDevices) Run(a *app) error {
	rows, all := newTable(a.stdout, "DEVICE", "OUTCOME", "AT", "COMMAND", "CAUSE"), []client.RolloutDevice{}
	n := 0
	for d, err := range a.hub.RolloutDevices(a.ctx, c.ID, c.Outcome, 1000) {
		if err != nil {
			return err
		}
		if a.json {
			all = append(all, d)
		} else if err := rows.row(d.Device, d.Outcome, moment(d.Time), d.Command, d.Cause); err != nil {
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

type rolloutsFailed struct {
	ID string `arg:"" help:"Its id."`
}

// Run lists the devices that failed.
func (c *rolloutsFailed) Run(a *app) error {
	return (&rolloutsDevices{ID: c.ID, Outcome: []string{"failures"}}).Run(a)
}

type rolloutsPause struct {
	ID string `arg:"" help:"Its id."`
}

// Run stops the sending until the rollout is resumed.
func (c *rolloutsPause) Run(a *app) error {
	r, err := a.hub.PauseRollout(a.ctx, c.ID)
	if err != nil {
		return err
	}
	return a.showRollout(r)
}

type rolloutsResume struct {
	ID              string `arg:"" help:"Its id."`
	MaxFailures     string `placeholder:"N|P%" help:"The limit of failures from now on; those of before do not count."`
	MaxWaveFailures string `placeholder:"N|P%" help:"The same for each wave."`
	MinEnded        int    `placeholder:"10" help:"How many devices must have an outcome before a percentage counts."`
	NoLimit         bool   `help:"No limit from now on."`
}

// Run goes on with a rollout that is paused or stopped.
func (c *rolloutsResume) Run(a *app) error {
	limits := client.RolloutLimits{Failures: c.MaxFailures, WaveFailures: c.MaxWaveFailures, Minimum: c.MinEnded}
	if c.NoLimit && limits != (client.RolloutLimits{}) {
		return usageError("--no-limit stands alone")
	}
	var given *client.RolloutLimits
	if c.NoLimit || limits != (client.RolloutLimits{}) {
		given = &limits
	}
	r, err := a.hub.ResumeRollout(a.ctx, c.ID, given)
	if err != nil {
		return err
	}
	return a.showRollout(r)
}

type rolloutsCancel struct {
	ID string `arg:"" help:"Its id."`
}

// Run cancels the rest of a rollout.
func (c *rolloutsCancel) Run(a *app) error {
	r, err := a.hub.CancelRollout(a.ctx, c.ID)
	if err != nil {
		return err
	}
	return a.showRollout(r)
}
