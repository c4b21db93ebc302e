package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// TriedMessage is what a message would become.
type TriedMessage struct {
	Outcomes []TriedOutcome `json:"outcomes"` // each reading by itself
	Passed   bool           `json:"passed_over,omitempty"`
	Reason   string         `json:"reason,omitempty"` // it would be refused as a whole
	Message  string         `json:"message,omitempty"`
}

// TriedOutcome is one reading, event, state, presence, announcement or answer.
type TriedOutcome struct {
	Map         string            `json:"map,omitempty"`
	As          string            `json:"as"`
	Device      string            `json:"device"`
	Registered  bool              `json:"registered"`
	Type        string            `json:"type,omitempty"`
	Label       string            `json:"label,omitempty"`
	Model       string            `json:"model,omitempty"`
	Firmware    string            `json:"firmware,omitempty"`
	Measurement string            `json:"measurement,omitempty"`
	Boot        string            `json:"boot,omitempty"`
	Seq         uint64            `json:"seq,omitempty"`
	TS          *int64            `json:"ts,omitempty"` // ms since 1970; nil: the time of receipt
	AgeMs       *int64            `json:"age_ms,omitempty"`
	Values      map[string]any    `json:"values,omitempty"`
	Units       map[string]string `json:"units,omitempty"`
	Quarantined string            `json:"quarantined,omitempty"`
	State       json.RawMessage   `json:"state,omitempty"`
	Online      *bool             `json:"online,omitempty"`
	Method      string            `json:"method,omitempty"`
	Correlation string            `json:"correlation,omitempty"`
	Result      json.RawMessage   `json:"result,omitempty"`
	Error       json.RawMessage   `json:"error,omitempty"`
	Progress    bool              `json:"progress,omitempty"`
	Reason      string            `json:"reason,omitempty"` // this one would be refused
	Message     string            `json:"message,omitempty"`
}

// TryBridge says what a message on a bridge would become; nothing is changed. An unknown bridge is a Problem with status
// 404.
func (c *Client) TryBridge(ctx context.Context, bridge, topic string, payload []byte, retained bool) (TriedMessage, error) {
	var t TriedMessage
	body := struct {
		Topic    string `json:"topic"`
		Payload  []byte `json:"payload_base64,omitempty"`
		Retained bool   `json:"retained,omitempty"`
	}{topic, payload, retained}
	err := c.do(ctx, call{method: http.MethodPost, path: bridgesPath + "/" + url.PathEscape(bridge) + "/try", body: body}, &t)
	return t, err
}
