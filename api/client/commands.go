package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Command is a command as the hub's ledger has it.
type Command struct {
	ID             string          `json:"id"`
	Device         string          `json:"device"`
	Method         string          `json:"method"`
	Params         json.RawMessage `json:"params,omitempty"`
	State          string          `json:"state"`
	Delivery       string          `json:"delivery,omitempty"`
	Result         json.RawMessage `json:"result,omitempty"`
	Error          *CommandError   `json:"error,omitempty"`
	Late           bool            `json:"late"` // answered after its time
	Progress       *Progress       `json:"progress,omitempty"`
	Created        time.Time       `json:"created,omitzero"`
	Expires        time.Time       `json:"expires,omitzero"`
	TimeoutMs      int64           `json:"timeout_ms,omitempty"`
	Actor          string          `json:"actor,omitempty"`
	IdempotencyKey string          `json:"idempotency_key,omitempty"`
	Attempt        int             `json:"attempt,omitempty"`     // how often it was sent
	CancelAsked    time.Time       `json:"cancel_asked,omitzero"` // when the device was asked to give it up
	RetryOf        string          `json:"retry_of,omitempty"`    // the command that it repeats
	History        []Change        `json:"history,omitempty"`
}

// CommandError is a device's refusal of a command: the JSON-RPC error it sent.
type CommandError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Progress is what the device last said of its work.
type Progress struct {
	Percent float64 `json:"percent"`
	Message string  `json:"message,omitempty"`
}

// Change is one step of a command's story.
type Change struct {
	State string    `json:"state"`
	Time  time.Time `json:"time"`
	Cause string    `json:"cause,omitempty"`
	Actor string    `json:"actor,omitempty"`
}

// Final reports whether the command's state is an outcome; unknown is one, though a late answer can still mend it.
func (c Command) Final() bool {
	switch c.State {
	case "done", "failed", "rejected", "expired", "cancelled", "unknown":
		return true
	}
	return false
}

// Cause is what the ledger says of the command's newest change.
func (c Command) Cause() string {
	if len(c.History) == 0 {
		return ""
	}
	return c.History[len(c.History)-1].Cause
}

// CommandRequest is a command to send.
type CommandRequest struct {
	Method   string
	Params   json.RawMessage // a JSON object or array; nil sends none
	Delivery string          // at-most-once (also ""), at-least-once
	Expires  time.Duration   // the latest start; 0 is the hub's default
	Timeout  time.Duration   // for the answer; 0 is the hub's default
	Wait     time.Duration   // how long to wait for the outcome; 0 returns once it is durable
	Key      string          // Idempotency-Key: the same key returns the first command
}

// SendCommand sends a command and, with Wait, waits for its outcome; the state reached is returned in either case.
// For a device that is not connected, or has others to do first, it is queued; where too many wait, that is a Problem with
// reason queue_full.
func (c *Client) SendCommand(ctx context.Context, device string, r CommandRequest) (Command, error) {
	body := struct {
		Method   string          `json:"method"`
		Params   json.RawMessage `json:"params,omitempty"`
		Delivery string          `json:"delivery,omitempty"`
		Expires  string          `json:"expires,omitempty"`
		Timeout  string          `json:"timeout,omitempty"`
	}{Method: r.Method, Params: r.Params, Delivery: r.Delivery}
	if r.Expires > 0 {
		body.Expires = durationText(r.Expires)
	}
	if r.Timeout > 0 {
		body.Timeout = durationText(r.Timeout)
	}
	k := call{method: http.MethodPost, path: devicePath(device) + "/commands", query: url.Values{}, body: body, wait: r.Wait}
	if r.Wait > 0 {
		k.query.Set("wait", durationText(r.Wait))
	}
	if r.Key != "" {
		k.header = http.Header{"Idempotency-Key": {r.Key}}
	}
	var cmd Command
	err := c.do(ctx, k, &cmd)
	return cmd, err
}

// Command returns one command with its history.
func (c *Client) Command(ctx context.Context, id string) (Command, error) {
	var cmd Command
	err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/commands/" + url.PathEscape(id)}, &cmd)
	return cmd, err
}

// CommandFilter narrows a list of commands; the zero value lists all.
type CommandFilter struct {
	Device   string
	States   []string // one of these
	Actor    string
	From, To string // RFC 3339, ms since 1970, or a time back from now such as -1h
	Page     int
}

// Commands lists commands, the newest first, page after page. After an error the sequence ends.
func (c *Client) Commands(ctx context.Context, f CommandFilter) iter.Seq2[Command, error] {
	q := url.Values{}
	setText(q, "device", f.Device)
	setText(q, "state", strings.Join(f.States, ","))
	setText(q, "actor", f.Actor)
	setText(q, "from", f.From)
	setText(q, "to", f.To)
	setInt(q, "limit", f.Page)
	return pages(q, func(q url.Values) ([]Command, string, error) {
		var page struct {
			Commands []Command `json:"commands"`
			Next     string    `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/commands", query: q}, &page)
		return page.Commands, page.Next, err
	})
}

// CancelCommand cancels a command that was not sent. Of one that was sent the device is asked to give it up: it is
// returned as it stands, with CancelAsked, and the device's answer decides. One that has ended is a Problem that says so.
func (c *Client) CancelCommand(ctx context.Context, id string) (Command, error) {
	var cmd Command
	err := c.do(ctx, call{method: http.MethodDelete, path: "/api/v1/commands/" + url.PathEscape(id)}, &cmd)
	return cmd, err
}

// RetryCommand sends an ended command again, as a new one, and with wait waits for its outcome. Key is the
// Idempotency-Key; it may be empty.
func (c *Client) RetryCommand(ctx context.Context, id string, wait time.Duration, key string) (Command, error) {
	k := call{method: http.MethodPost, path: "/api/v1/commands/" + url.PathEscape(id) + "/retry", query: url.Values{}, wait: wait}
	if wait > 0 {
		k.query.Set("wait", durationText(wait))
	}
	if key != "" {
		k.header = http.Header{"Idempotency-Key": {key}}
	}
	var cmd Command
	err := c.do(ctx, k, &cmd)
	return cmd, err
}
