package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Counts accounts for every reading the hub received:
// received = stored + duplicate + quarantined + queued + the sum of refused.
type Counts struct {
	Received    uint64            `json:"received"`
	Stored      uint64            `json:"stored"`
	Duplicate   uint64            `json:"duplicate"`
	Quarantined uint64            `json:"quarantined"`
	Queued      uint64            `json:"queued"`
	Refused     map[string]uint64 `json:"refused"` // by reason
}

// RefusedTotal is the sum over all reasons.
func (c Counts) RefusedTotal() uint64 {
	var sum uint64
	for _, n := range c.Refused {
		sum += n
	}
	return sum
}

// Missing is what the account does not explain; other than 0 it is a fault of the hub.
func (c Counts) Missing() int64 {
	return int64(c.Received) - int64(c.Stored+c.Duplicate+c.Quarantined+c.Queued+c.RefusedTotal())
}

// DeviceCounts is the account of one device.
type DeviceCounts struct {
	Device string `json:"device"`
	Counts
	Gaps  []Gap       `json:"gaps,omitempty"`  // where one device is asked for
	Store *StoreCount `json:"store,omitempty"` // of a deep audit
}

// Gap is a piece of a device's numbering, both ends included, of which no reading came; or, if Partly, some may have.
type Gap struct {
	Boot   string `json:"boot"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Partly bool   `json:"partly,omitempty"`
}

// StoreCount is how many points of a device are in the store.
type StoreCount struct {
	Points uint64 `json:"points"`
	Agrees bool   `json:"agrees"` // with what the account says is stored
	TookMs int64  `json:"took_ms"`
}

// Audit is the hub's account of readings, in all and by device.
type Audit struct {
	Total   Counts         `json:"total"`
	Devices []DeviceCounts `json:"devices"`
}

// Audit returns the account of all devices, or of one if device is not empty.
func (c *Client) Audit(ctx context.Context, device string) (Audit, error) {
	q := url.Values{}
	setText(q, "device", device)
	var audit Audit
	err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/audit", query: q}, &audit)
	return audit, err
}

// deepWait is how long the hub may read for a deep audit.
const deepWait = time.Minute

// DeepAudit returns the account of one device and compares it with its points in the store, which are counted.
func (c *Client) DeepAudit(ctx context.Context, device string) (Audit, error) {
	var audit Audit
	err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/audit", query: url.Values{"device": {device}, "deep": {"true"}}, wait: deepWait}, &audit)
	return audit, err
}

// Readiness says whether the hub serves, and what each part says.
type Readiness struct {
	Ready bool   `json:"ready"`
	Parts []Part `json:"parts,omitempty"`
}

// Part is one part of the hub.
type Part struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Message string `json:"message,omitempty"`
}

// Ready asks whether the hub serves. "Not ready" is an answer, not an error.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	var r Readiness
	err := c.do(ctx, call{method: http.MethodGet, path: "/readyz", accept: http.StatusServiceUnavailable}, &r)
	return r, err
}

// Health asks whether the hub's process answers at all.
func (c *Client) Health(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodGet, path: "/healthz"}, nil)
}

// Identity is who the token belongs to.
type Identity struct {
	Name string `json:"name"`
	Role string `json:"role"` // viewer, operator, admin

	Scope *Scope    `json:"scope,omitempty"` // nil: all devices
	Until time.Time `json:"until,omitzero"`  // when the token ends; zero: not by itself
}

// Me says who the token belongs to.
func (c *Client) Me(ctx context.Context) (Identity, error) {
	var me Identity
	err := c.do(ctx, call{method: http.MethodGet, path: "/api/v1/me"}, &me)
	return me, err
}

// Metrics returns the hub's metrics in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	body, err := c.fetch(ctx, call{
		method: http.MethodGet, path: "/metrics", header: http.Header{"Accept": {"text/plain;version=0.0.4"}},
	})
	return string(body), err
}

// CA returns the certificate of the hub's own authority in PEM.
func (c *Client) CA(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.fetch(ctx, call{method: http.MethodGet, path: "/ca.pem", header: http.Header{"Accept": {"application/x-pem-file, */*"}}})
}
