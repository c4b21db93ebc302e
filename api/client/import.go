package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// The forms of a list of devices.
const (
	CSV       = "text/csv"
	JSONLines = "application/x-ndjson"
)

// ImportResult is what an import did.
type ImportResult struct {
	Created int              `json:"created"`
	Updated int              `json:"updated"`
	Skipped int              `json:"skipped"`
	Overrun int              `json:"overrun,omitempty"` // changed meanwhile by another hub
	Checked bool             `json:"checked,omitempty"` // nothing was done
	Devices []ImportedDevice `json:"devices"`           // in the order of the list
}

// ImportedDevice is what an import did with one device.
type ImportedDevice struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome"` // created, updated, skipped, overrun
	Token   string `json:"token,omitempty"`
}

// importWait is what writing and checking 10,000 devices takes at most, beyond the timeout of a request.
const importWait = 2 * time.Minute

// ImportDevices registers the devices of a list, all or none. The form is CSV or JSONLines. What becomes of devices that
// exist: "error", "skip" or "update". With check it is only said what would be done. A faulty list is a Problem with the
// reason bad_import and the faults by line.
func (c *Client) ImportDevices(ctx context.Context, form string, list []byte, existing string, check bool) (ImportResult, error) {
	query := url.Values{"on_existing": {existing}}
	if check {
		query.Set("check", "true")
	}
	var result ImportResult
	err := c.do(ctx, call{
		method: http.MethodPost, path: "/api/v1/devices/import", query: query, body: list,
		header: http.Header{"Content-Type": {form}}, wait: importWait,
	}, &result)
	return result, err
}
