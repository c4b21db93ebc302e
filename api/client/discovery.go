package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Admitted says how a device came to the registry that a bridge had seen.
type Admitted struct {
	Bridge string    `json:"bridge"`
	Rule   string    `json:"rule,omitempty"` // of the configuration; empty: an operator did it
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at"`
}

// Discovered is a device that a bridge has seen and that is not in the registry.
type Discovered struct {
	ID            string    `json:"id"`
	Bridge        string    `json:"bridge"`
	Topic         string    `json:"topic"`
	Payload       string    `json:"payload,omitempty"`        // of the last message, cut at 4 KiB, where it is text
	PayloadBase64 string    `json:"payload_base64,omitempty"` // the same, where it is not
	Size          int       `json:"size"`                     // bytes, before it was cut
	Retained      bool      `json:"retained,omitempty"`
	Announced     bool      `json:"announced,omitempty"` // the message is about the device, not of it
	Type          string    `json:"type,omitempty"`
	Name          string    `json:"name,omitempty"`
	Model         string    `json:"model,omitempty"`
	Firmware      string    `json:"firmware,omitempty"`
	First         time.Time `json:"first"`
	Last          time.Time `json:"last"`
	Count         uint64    `json:"count"`
	Held          string    `json:"held,omitempty"` // why the rule that is for it has not admitted it
}

// DiscoveredFilter narrows the list; the zero value shows all.
type DiscoveredFilter struct {
	Query  string // part of an id, name, type or model
	Bridge string
	Page   int // devices per request; 0 leaves it to the hub
}

const discoveredPath = "/api/v1/discovered"

// Discovered lists what was seen and is not registered, page after page, sorted by id. After an error the sequence ends.
func (c *Client) Discovered(ctx context.Context, f DiscoveredFilter) iter.Seq2[Discovered, error] {
	q := url.Values{}
	setText(q, "q", f.Query)
	setText(q, "bridge", f.Bridge)
	setInt(q, "limit", f.Page)
	return pages(q, func(q url.Values) ([]Discovered, string, error) {
		var page struct {
			Devices []Discovered `json:"devices"`
			Next    string       `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: discoveredPath, query: q}, &page)
		return page.Devices, page.Next, err
	})
}

// Admission is what a device gets that is let in; what is left out is as it was seen.
type Admission struct {
	Type       string            `json:"type,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// AdmitDevice registers a device that was seen; its next message counts. One that was not seen is a Problem with status 404.
func (c *Client) AdmitDevice(ctx context.Context, id string, a Admission) (Device, error) {
	var d Device
	err := c.do(ctx, call{method: http.MethodPost, path: discoveredPath + "/" + url.PathEscape(id) + "/admit", body: a}, &d)
	return d, err
}

// DropDiscovered takes a device off the list until it is seen again.
func (c *Client) DropDiscovered(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: discoveredPath + "/" + url.PathEscape(id)}, nil)
}

// IgnoredDevice is a device that is kept off the list.
type IgnoredDevice struct {
	ID string    `json:"id"`
	By string    `json:"by,omitempty"`
	At time.Time `json:"at"`
}

const ignoredPath = "/api/v1/ignored-devices"

// Ignored lists the devices that are kept off the list, sorted by id. After an error the sequence ends.
func (c *Client) Ignored(ctx context.Context) iter.Seq2[IgnoredDevice, error] {
	return pages(url.Values{"limit": {"1000"}}, func(q url.Values) ([]IgnoredDevice, string, error) {
		var page struct {
			Devices []IgnoredDevice `json:"devices"`
			Next    string          `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: ignoredPath, query: q}, &page)
		return page.Devices, page.Next, err
	})
}

// IgnoreDevice keeps a device off the list from now on.
func (c *Client) IgnoreDevice(ctx context.Context, id string) (IgnoredDevice, error) {
	var i IgnoredDevice
	err := c.do(ctx, call{method: http.MethodPut, path: ignoredPath + "/" + url.PathEscape(id)}, &i)
	return i, err
}

// NoticeDevice lets an ignored device be seen again. One that is not ignored is a Problem with status 404.
func (c *Client) NoticeDevice(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: ignoredPath + "/" + url.PathEscape(id)}, nil)
}
