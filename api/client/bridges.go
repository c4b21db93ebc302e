package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Bridge is an MQTT broker that brings devices, and how it fares since the hub's start.
type Bridge struct {
	Name        string            `json:"name"`
	Kind        string            `json:"kind"` // embedded or external
	Address     string            `json:"address,omitempty"`
	Connected   bool              `json:"connected"`
	Since       time.Time         `json:"since,omitzero"` // of that, either way
	Failure     string            `json:"failure,omitempty"`
	LastFailure string            `json:"last_failure,omitempty"` // also while there is a connection
	Full        bool              `json:"full,omitempty"`         // as many messages as may be are in flight
	Received    uint64            `json:"received"`               // messages
	Stored      uint64            `json:"stored"`                 // readings in them that are durable
	Unmapped    uint64            `json:"unmapped"`
	Refused     map[string]uint64 `json:"refused"` // messages, by reason
	Redelivered uint64            `json:"redelivered"`
	Commands    uint64            `json:"commands"`
	Reconnects  uint64            `json:"reconnects"`
	Devices     int               `json:"devices"`
	InFlight    int               `json:"in_flight"`
	PerSecond   float64           `json:"per_second"`
	LagMs       int64             `json:"lag_ms"`
	AckMs       AckMs             `json:"ack_ms"`
	Examples    []RefusedMessage  `json:"examples,omitempty"` // of one bridge; the newest first
}

// AckMs is how long acknowledgements took, in milliseconds.
type AckMs struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// RefusedMessage is a message that a bridge has not taken.
type RefusedMessage struct {
	Time          time.Time `json:"time"`
	Topic         string    `json:"topic"`
	Payload       string    `json:"payload,omitempty"`        // cut at 1 KiB, where it is text
	PayloadBase64 string    `json:"payload_base64,omitempty"` // the same, where it is not
	Size          int       `json:"size"`                     // bytes, before it was cut
	Device        string    `json:"device,omitempty"`
	Reason        string    `json:"reason"`
	Message       string    `json:"message"`
}

const bridgesPath = "/api/v1/bridges"

// Bridges returns all bridges, the embedded broker first, without examples.
func (c *Client) Bridges(ctx context.Context) ([]Bridge, error) {
	var answer struct {
		Bridges []Bridge `json:"bridges"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: bridgesPath}, &answer)
	return answer.Bridges, err
}

// GetBridge returns one bridge with examples of refused messages; an unknown one is a Problem with status 404.
func (c *Client) GetBridge(ctx context.Context, name string) (Bridge, error) {
	var b Bridge
	err := c.do(ctx, call{method: http.MethodGet, path: bridgesPath + "/" + url.PathEscape(name)}, &b)
	return b, err
}
