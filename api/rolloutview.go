package api

import (
	"encoding/json"
	"strconv"
	"time"

	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

// Rollout is a command to many devices as operators see it.
type Rollout struct {
	ID        string                   `json:"id"`
	State     rollouts.State           `json:"state" enum:"running,paused,stopped,done,cancelled" doc:"stopped: by its limit of failures; done: each device has its outcome, which need not be done"`
	Cause     string                   `json:"cause,omitempty" doc:"Why it is in its state"`
	To        RolloutSelector          `json:"to" doc:"As given, but of more than 100 ids the first 100"`
	IDs       int                      `json:"ids,omitempty" doc:"How many ids were given"`
	Devices   int                      `json:"devices" doc:"How many devices it has; which, was fixed when it was made"`
	Method    string                   `json:"method"`
	Params    json.RawMessage          `json:"params,omitempty" doc:"What a device's type calls secret in them is shown as [secret]"`
	Delivery  commands.Delivery        `json:"delivery,omitempty" enum:"at-most-once,at-least-once" doc:"Left out: as the devices' types say, else at-most-once"`
	ExpiresMs int64                    `json:"expires_ms,omitempty" doc:"Of each command from its sending; left out: the hub's"`
	TimeoutMs int64                    `json:"timeout_ms,omitempty" doc:"Of each command; left out: as the devices' types say, else the hub's"`
	Offline   rollouts.OfflineRule     `json:"offline" enum:"queue,skip"`
	Waves     RolloutWaves             `json:"waves"`
	Limits    RolloutLimits            `json:"limits"`
	Counts    map[rollouts.Outcome]int `json:"counts" doc:"Devices by outcome: the states of commands, pending (not sent yet) and skipped; one that has none is left out"`
	Failures  int                      `json:"failures" doc:"Devices that are failed, rejected, expired or unknown"`
	Wave      RolloutWave              `json:"wave"`
	Waiting   string                   `json:"waiting,omitempty" doc:"What it waits for, in words"`
	ETA       time.Time                `json:"eta,omitzero" doc:"When the last outcome will be there at the pace of until now"`
	Actor     string                   `json:"actor" doc:"Who started it"`
	Created   time.Time                `json:"created"`
	Ended     time.Time                `json:"ended,omitzero"`
	History   []RolloutChange          `json:"history" nullable:"false"`
}

// RolloutWaves is how a rollout is cut into waves.
type RolloutWaves struct {
	Sizes     []string `json:"sizes" nullable:"false" doc:"Of the first waves; the last size repeats. Empty: one wave"`
	PauseMs   int64    `json:"pause_ms"`
	TimeoutMs int64    `json:"timeout_ms" doc:"How long a wave is waited for after its last sending"`
}

// RolloutWave is how far the waves are.
type RolloutWave struct {
	Number    int       `json:"number" doc:"From 1"`
	Of        int       `json:"of"`
	Devices   int       `json:"devices,omitempty"`
	Open      int       `json:"open,omitempty" doc:"Devices in it without an outcome"`
	RestUntil time.Time `json:"rest_until,omitzero" doc:"The end of the pause after it"`
}

// RolloutChange is one step in a rollout's life.
type RolloutChange struct {
	State rollouts.State `json:"state"`
	Time  time.Time      `json:"time"`
	Cause string         `json:"cause,omitempty"`
	Actor string         `json:"actor,omitempty"`
}

// RolloutDevice is what became of one device.
type RolloutDevice struct {
	Device  string           `json:"device"`
	Outcome rollouts.Outcome `json:"outcome" enum:"pending,accepted,queued,sent,received,running,done,failed,rejected,expired,cancelled,unknown,skipped"`
	Command string           `json:"command,omitempty" doc:"Id of its command"`
	Cause   string           `json:"cause,omitempty"`
	Time    time.Time        `json:"time,omitzero" doc:"Of the command's newest change"`
}

// RolloutPreview is whom a rollout would reach.
type RolloutPreview struct {
	Count    int                    `json:"count" doc:"Devices in all"`
	Online   int                    `json:"online" doc:"How many of them are connected now"`
	Offline  int                    `json:"offline"`
	Waves    int                    `json:"waves"`
	Refused  int                    `json:"refused" doc:"Devices whose type does not take this; while there are any, no rollout can be made"`
	Refusals []RolloutRefusal       `json:"refusals" nullable:"false" doc:"The first 100 of them"`
	Devices  []RolloutPreviewDevice `json:"devices" nullable:"false" doc:"In the order of sending"`
	Next     string                 `json:"next" doc:"Cursor of the next page; empty on the last"`
}

// RolloutRefusal is why a device cannot be sent the command.
type RolloutRefusal struct {
	Device string `json:"device"`
	Reason string `json:"reason"`
}

// RolloutPreviewDevice is one device that would be reached.
type RolloutPreviewDevice struct {
	ID     string `json:"id"`
	Online bool   `json:"online"`
}

func rolloutView(r rollouts.Rollout) Rollout {
	v := Rollout{
		ID: r.ID, State: r.State, Cause: r.Cause(), To: RolloutSelector(r.To), IDs: r.IDs, Devices: r.Devices, Method: r.Method, Params: r.Params,
		Delivery: r.Delivery, ExpiresMs: r.Expires.Milliseconds(), TimeoutMs: r.Timeout.Milliseconds(), Offline: r.Offline,
		Waves:  RolloutWaves{Sizes: make([]string, len(r.Waves.Sizes)), PauseMs: r.Waves.Pause.Milliseconds(), TimeoutMs: r.WaveTimeout().Milliseconds()},
		Limits: RolloutLimits{Failures: r.Limits.Failures.String(), WaveFailures: r.Limits.WaveFailures.String(), Minimum: r.Limits.Minimum},
		Counts: r.Counts, Failures: r.Failures,
		Wave:    RolloutWave{Number: r.Wave.Number, Of: r.Wave.Of, Devices: r.Wave.Size, Open: r.Wave.Open, RestUntil: r.Wave.Rest},
		Waiting: r.Waiting, ETA: r.ETA, Actor: r.Actor, Created: r.Created, Ended: r.Ended, History: make([]RolloutChange, len(r.History)),
	}
	for i, size := range r.Waves.Sizes {
		v.Waves.Sizes[i] = size.String()
	}
	for i, h := range r.History {
		v.History[i] = RolloutChange(h)
	}
	return v
}

func previewView(p rollouts.Preview, from, limit int) RolloutPreview {
	v := RolloutPreview{
		Count: len(p.Devices), Online: p.Online, Offline: len(p.Devices) - p.Online, Waves: p.Waves,
		Refused: p.Refused, Refusals: make([]RolloutRefusal, len(p.Refusals)), Devices: []RolloutPreviewDevice{},
	}
	for i, r := range p.Refusals {
		v.Refusals[i] = RolloutRefusal(r)
	}
	from = min(from, len(p.Devices))
	to := min(from+limit, len(p.Devices))
	for _, d := range p.Devices[from:to] {
		v.Devices = append(v.Devices, RolloutPreviewDevice{ID: d.Device, Online: d.Online})
	}
	if to < len(p.Devices) {
		v.Next = strconv.Itoa(to)
	}
	return v
}
