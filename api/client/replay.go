package client

import (
	"context"
	"net/http"
	"time"
)

// Replay is how far a replay is; State is running, done, cancelled or failed.
type Replay struct {
	State    string    `json:"state"`
	From     time.Time `json:"from"` // by time of receipt
	To       time.Time `json:"to"`
	Device   string    `json:"device,omitempty"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Oldest   time.Time `json:"oldest,omitzero"` // the journal keeps nothing that is older
	Read     uint64    `json:"read"`            // envelopes
	Of       uint64    `json:"of"`
	Written  uint64    `json:"written"` // readings
	Passed   uint64    `json:"passed_over"`
	Rejected uint64    `json:"rejected"`
	Missing  uint64    `json:"missing"` // envelopes
	Fault    string    `json:"fault,omitempty"`
}

const replayPath = "/api/v1/replay"

// StartReplay writes to the store again what the journal keeps from then on, of one device if device is not empty.
// Times are RFC 3339, ms since 1970 or back from now (-24h); to "" is now.
func (c *Client) StartReplay(ctx context.Context, from, to, device string) (Replay, error) {
	var r Replay
	body := struct {
		From   string `json:"from"`
		To     string `json:"to,omitempty"`
		Device string `json:"device,omitempty"`
	}{from, to, device}
	err := c.do(ctx, call{method: http.MethodPost, path: replayPath, body: body}, &r)
	return r, err
}

// Replay returns how far the last replay is.
func (c *Client) Replay(ctx context.Context) (Replay, error) {
	var r Replay
	err := c.do(ctx, call{method: http.MethodGet, path: replayPath}, &r)
	return r, err
}

// CancelReplay ends the replay that runs.
func (c *Client) CancelReplay(ctx context.Context) (Replay, error) {
	var r Replay
	err := c.do(ctx, call{method: http.MethodDelete, path: replayPath}, &r)
	return r, err
}
