package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Selector says which devices are meant; its members are joined by and. All devices are meant only by All.
type Selector struct {
	All        bool              `json:"all,omitempty"`
	IDs        []string          `json:"ids,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Type       string            `json:"type,omitempty"`
	Online     bool              `json:"online,omitempty"`
}

// RolloutLimits say how many failures stop a rollout: a number, or a percentage of those that have an outcome.
type RolloutLimits struct {
	Failures     string `json:"failures,omitempty"`
	WaveFailures string `json:"wave_failures,omitempty"`
	Minimum      int    `json:"minimum,omitempty"` // outcomes before a percentage counts; 0 is 10
}

// RolloutRequest is a command to many devices.
type RolloutRequest struct {
	To          Selector
	Method      string
	Params      json.RawMessage // a JSON object or array; nil sends none
	Delivery    string          // at-most-once, at-least-once; "" is as the devices' types say
	Expires     time.Duration   // the latest start of each command; 0 is the hub's default
	Timeout     time.Duration   // for each answer; 0 is the hub's default
	Offline     string          // queue (also ""), skip
	Sizes       []string        // of the waves, such as 1 and 10%; the last repeats; none: one wave
	Pause       time.Duration   // between waves
	WaveTimeout time.Duration   // of a wave; 0 is the commands' timeout and 5 s
	Limits      RolloutLimits
	Key         string // Idempotency-Key: the same key returns the first rollout
}

// Rollout is a command to many devices as the hub has it. State is running, paused, stopped, done or cancelled.
type Rollout struct {
	ID        string          `json:"id"`
	State     string          `json:"state"`
	Cause     string          `json:"cause,omitempty"`
	To        Selector        `json:"to"`
	IDs       int             `json:"ids,omitempty"`
	Devices   int             `json:"devices"`
	Method    string          `json:"method"`
	Params    json.RawMessage `json:"params,omitempty"`
	Delivery  string          `json:"delivery,omitempty"`
	ExpiresMs int64           `json:"expires_ms,omitempty"`
	TimeoutMs int64           `json:"timeout_ms,omitempty"`
	Offline   string          `json:"offline"`
	Waves     RolloutWaves    `json:"waves"`
	Limits    RolloutLimits   `json:"limits"`
	Counts    map[string]int  `json:"counts"` // devices by outcome: the states of commands, pending and skipped
	Failures  int             `json:"failures"`
	Wave      RolloutWave     `json:"wave"`
	Waiting   string          `json:"waiting,omitempty"`
	ETA       time.Time       `json:"eta,omitzero"`
	Actor     string          `json:"actor"`
	Created   time.Time       `json:"created"`
	Ended     time.Time       `json:"ended,omitzero"`
	History   []Change        `json:"history"`
}

// RolloutWaves is how a rollout is cut into waves.
type RolloutWaves struct {
	Sizes     []string `json:"sizes"`
	PauseMs   int64    `json:"pause_ms"`
	TimeoutMs int64    `json:"timeout_ms"`
}

// RolloutWave is how far the waves are.
type RolloutWave struct {
	Number    int       `json:"number"`
	Of        int       `json:"of"`
	Devices   int       `json:"devices,omitempty"`
	Open      int       `json:"open,omitempty"`
	RestUntil time.Time `json:"rest_until,omitzero"`
}

// Final reports whether nothing will be sent any more.
func (r Rollout) Final() bool { return r.State == "done" || r.State == "cancelled" }

// Open is how many devices have no outcome yet.
func (r Rollout) Open() (n int) {
	for _, outcome := range []string{"pending", "accepted", "queued", "sent", "received", "running"} {
		n += r.Counts[outcome]
	}
	return n
}

// RolloutDevice is what became of one device of a rollout.
type RolloutDevice struct {
	Device  string    `json:"device"`
	Outcome string    `json:"outcome"`
	Command string    `json:"command,omitempty"`
	Cause   string    `json:"cause,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// RolloutPreview is whom a rollout would reach. While devices are refused, no rollout can be made.
type RolloutPreview struct {
	Count    int                    `json:"count"`
	Online   int                    `json:"online"`
	Offline  int                    `json:"offline"`
	Waves    int                    `json:"waves"`
	Refused  int                    `json:"refused"`
	Refusals []RolloutRefusal       `json:"refusals"` // the first of them
	Devices  []RolloutPreviewDevice `json:"devices"`
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

type rolloutWavesBody struct {
	Sizes   []string `json:"sizes,omitempty"`
	Pause   string   `json:"pause,omitempty"`
	Timeout string   `json:"timeout,omitempty"`
}

type rolloutBody struct {
	To       Selector          `json:"to"`
	Method   string            `json:"method"`
	Params   json.RawMessage   `json:"params,omitempty"`
	Delivery string            `json:"delivery,omitempty"`
	Expires  string            `json:"expires,omitempty"`
	Timeout  string            `json:"timeout,omitempty"`
	Offline  string            `json:"offline,omitempty"`
	Waves    *rolloutWavesBody `json:"waves,omitempty"`
	Limits   *RolloutLimits    `json:"limits,omitempty"`
}

func (r *RolloutRequest) body() rolloutBody {
	b := rolloutBody{
		To: r.To, Method: r.Method, Params: r.Params, Delivery: r.Delivery, Expires: optionalDuration(r.Expires), Timeout: optionalDuration(r.Timeout), Offline: r.Offline,
	}
	if len(r.Sizes) > 0 || r.Pause > 0 || r.WaveTimeout > 0 {
		b.Waves = &rolloutWavesBody{Sizes: r.Sizes, Pause: optionalDuration(r.Pause), Timeout: optionalDuration(r.WaveTimeout)}
	}
	if r.Limits != (RolloutLimits{}) {
		b.Limits = &r.Limits
	}
	return b
}

func optionalDuration(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return durationText(d)
}

const rolloutsPath = "/api/v1/rollouts"

func rolloutPath(id, verb string) string { return rolloutsPath + "/" + url.PathEscape(id) + verb }

// StartRollout sends a command to many devices. Nothing is sent if an id is unknown (a Problem with reason
// unknown_devices) or a device cannot be sent the command (devices_refuse).
func (c *Client) StartRollout(ctx context.Context, r RolloutRequest) (Rollout, error) {
	k := call{method: http.MethodPost, path: "/api/v1/commands", body: r.body()}
	if r.Key != "" {
		k.header = http.Header{"Idempotency-Key": {r.Key}}
	}
	var made Rollout
	err := c.do(ctx, k, &made)
	return made, err
}

// PreviewRollout says whom a request would reach, and makes nothing. It names the first devices, at least as many as
// most; 0 is all.
func (c *Client) PreviewRollout(ctx context.Context, r RolloutRequest, most int) (RolloutPreview, error) {
	var all RolloutPreview
	q := url.Values{"dry_run": {"true"}, "limit": {"1000"}}
	if most > 0 {
		q.Set("limit", strconv.Itoa(min(most, 1000)))
	}
	for {
		var page struct {
			RolloutPreview
			Next string `json:"next"`
		}
		if err := c.do(ctx, call{method: http.MethodPost, path: "/api/v1/commands", query: q, body: r.body()}, &page); err != nil {
			return RolloutPreview{}, err
		}
		devices := all.Devices
		all = page.RolloutPreview
		all.Devices = append(devices, page.Devices...)
		if page.Next == "" || page.Next == q.Get("cursor") || most > 0 && len(all.Devices) >= most {
			return all, nil
		}
		q.Set("cursor", page.Next)
	}
}

// Rollouts lists rollouts, the newest first and of one state if it is not empty, page after page and without their
// params. After an error the sequence ends.
func (c *Client) Rollouts(ctx context.Context, state string, page int) iter.Seq2[Rollout, error] {
	q := url.Values{}
	setText(q, "state", state)
	setInt(q, "limit", page)
	return pages(q, func(q url.Values) ([]Rollout, string, error) {
		var page struct {
			Rollouts []Rollout `json:"rollouts"`
			Next     string    `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: rolloutsPath, query: q}, &page)
		return page.Rollouts, page.Next, err
	})
}

// Rollout returns one rollout.
func (c *Client) Rollout(ctx context.Context, id string) (Rollout, error) {
	return c.askRollout(ctx, http.MethodGet, rolloutPath(id, ""), nil)
}

// RolloutDevices lists what became of a rollout's devices, those with one of the outcomes if any are named ("failures"
// stands for failed, rejected, expired and unknown), page after page. After an error the sequence ends.
func (c *Client) RolloutDevices(ctx context.Context, id string, outcomes []string, page int) iter.Seq2[RolloutDevice, error] {
	q := url.Values{}
	setText(q, "outcome", strings.Join(outcomes, ","))
	setInt(q, "limit", page)
	return pages(q, func(q url.Values) ([]RolloutDevice, string, error) {
		var page struct {
			Devices []RolloutDevice `json:"devices"`
			Next    string          `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: rolloutPath(id, "/devices"), query: q}, &page)
		return page.Devices, page.Next, err
	})
}

// PauseRollout stops the sending until it is resumed.
func (c *Client) PauseRollout(ctx context.Context, id string) (Rollout, error) {
	return c.askRollout(ctx, http.MethodPost, rolloutPath(id, "/pause"), nil)
}

// ResumeRollout goes on with a rollout that is paused or stopped, with other limits if limits is not nil.
func (c *Client) ResumeRollout(ctx context.Context, id string, limits *RolloutLimits) (Rollout, error) {
	if limits == nil {
		return c.askRollout(ctx, http.MethodPost, rolloutPath(id, "/resume"), nil)
	}
	return c.askRollout(ctx, http.MethodPost, rolloutPath(id, "/resume"), map[string]any{"limits": limits})
}

// CancelRollout cancels the rest of a rollout.
func (c *Client) CancelRollout(ctx context.Context, id string) (Rollout, error) {
	return c.askRollout(ctx, http.MethodDelete, rolloutPath(id, ""), nil)
}

func (c *Client) askRollout(ctx context.Context, method, path string, body any) (Rollout, error) {
	var r Rollout
	err := c.do(ctx, call{method: method, path: path, body: body}, &r)
	return r, err
}
