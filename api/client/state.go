package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// State is what operators desire of a device and what it reported. Its documents are JSON objects.
type State struct {
	Device     string          `json:"device"`
	Online     bool            `json:"online"`
	Version    uint64          `json:"version"` // grows by one with each change; 0: there was none
	Desired    json.RawMessage `json:"desired"`
	Reported   json.RawMessage `json:"reported"`
	Delta      json.RawMessage `json:"delta"` // what of Desired differs from Reported, as a merge patch; {} when nothing does
	Metadata   StateTimes      `json:"metadata"`
	DesiredAt  time.Time       `json:"desired_at,omitzero"`
	DesiredBy  string          `json:"desired_by,omitempty"`
	ReportedAt time.Time       `json:"reported_at,omitzero"`
}

// StateTimes are shaped like the documents: in place of each value stands when it came, ms since the epoch.
type StateTimes struct {
	Desired  json.RawMessage `json:"desired"`
	Reported json.RawMessage `json:"reported"`
}

// StateChange is one change of a device's state.
type StateChange struct {
	Version uint64          `json:"version"`
	Time    time.Time       `json:"time"`
	Side    string          `json:"side"`  // desired or reported
	Actor   string          `json:"actor"` // an operator's name, or device
	Patch   json.RawMessage `json:"patch,omitempty"`
	Bytes   int             `json:"bytes,omitempty"` // of a patch that was too large to be kept
}

// LiveState is a device's state that was changed.
type LiveState struct {
	Device   string          `json:"device"`
	Version  uint64          `json:"version"`
	Time     time.Time       `json:"time"`
	Changed  []string        `json:"changed"` // desired, reported
	By       string          `json:"by,omitempty"`
	Desired  json.RawMessage `json:"desired"`
	Reported json.RawMessage `json:"reported"`
	Delta    json.RawMessage `json:"delta"`
}

// State returns a device's state.
func (c *Client) State(ctx context.Context, device string) (State, error) {
	var s State
	err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device) + "/state"}, &s)
	return s, err
}

// Desire merges patch (RFC 7396, an object or null) into what is desired of a device and returns its state. With a
// version the state must have that one; else it is a Problem with status 412, whose Value is the version that it has.
func (c *Client) Desire(ctx context.Context, device string, patch json.RawMessage, version *uint64) (State, error) {
	k := call{method: http.MethodPatch, path: devicePath(device) + "/state", body: map[string]json.RawMessage{"desired": patch}}
	if version != nil {
		k.header = http.Header{"If-Match": {strconv.Quote(strconv.FormatUint(*version, 10))}}
	}
	var s State
	err := c.do(ctx, k, &s)
	return s, err
}

// StateHistory returns the changes of a device's state that are kept, the newest first.
func (c *Client) StateHistory(ctx context.Context, device string) ([]StateChange, error) {
	var answer struct {
		Changes []StateChange `json:"changes"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device) + "/state/history"}, &answer)
	return answer.Changes, err
}
