package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Why is what the hub can say of how a device fares on the line.
type Why struct {
	Device        string     `json:"device"`
	Online        bool       `json:"online"`
	Diagnosis     []string   `json:"diagnosis"`
	LastReading   time.Time  `json:"last_reading,omitzero"`
	ClockOffsetMs *int64     `json:"clock_offset_ms,omitempty"`
	Events        []WhyEvent `json:"events"` // the newest first
}

// WhyEvent is something that befell a device, as often as Count says.
type WhyEvent struct {
	Kind         string    `json:"kind"` // connect, close, refused, limit, unusable, quarantine, gap, notice, slow_commit, command
	Reason       string    `json:"reason,omitempty"`
	Message      string    `json:"message,omitempty"`
	Remote       string    `json:"remote,omitempty"`
	Status       int       `json:"status,omitempty"` // HTTP status, close code or MQTT reason code
	Limit        int64     `json:"limit,omitempty"`
	Value        int64     `json:"value,omitempty"`
	RetryAfterMs int64     `json:"retry_after_ms,omitempty"`
	Count        uint64    `json:"count"`
	First        time.Time `json:"first"`
	Last         time.Time `json:"last"`
}

// Why returns the diagnosis and the flight recorder of a device.
func (c *Client) Why(ctx context.Context, device string) (w Why, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: "/api/v1/devices/" + url.PathEscape(device) + "/why"}, &w)
	return w, err
}
