package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// QuarantineItem is a reading the hub kept aside because it could not be stored.
type QuarantineItem struct {
	ID       string    `json:"id"`
	Device   string    `json:"device"`
	Reason   string    `json:"reason"`
	Message  string    `json:"message,omitempty"`
	Boot     string    `json:"boot,omitempty"`
	Seq      uint64    `json:"seq,omitempty"`
	Received time.Time `json:"received"`
	Count    uint64    `json:"count,omitempty"` // readings that it stands for
	Frame    string    `json:"frame,omitempty"` // as it came
}

// QuarantineFilter chooses among them; what is empty chooses all.
type QuarantineFilter struct{ Device, Reason string }

func (f QuarantineFilter) query() url.Values {
	q := url.Values{}
	setText(q, "device", f.Device)
	setText(q, "reason", f.Reason)
	return q
}

// Quarantine lists what was kept aside, page after page, the newest first. After an error the sequence ends.
func (c *Client) Quarantine(ctx context.Context, f QuarantineFilter) iter.Seq2[QuarantineItem, error] {
	return pages(f.query(), func(q url.Values) ([]QuarantineItem, string, error) {
		var page struct {
			Items []QuarantineItem `json:"items"`
			Next  string           `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: quarantinePath, query: q}, &page)
		return page.Items, page.Next, err
	})
}

const quarantinePath = "/api/v1/quarantine"

// Quarantined returns one of them.
func (c *Client) Quarantined(ctx context.Context, id string) (QuarantineItem, error) {
	var item QuarantineItem
	err := c.do(ctx, call{method: http.MethodGet, path: quarantinePath + "/" + url.PathEscape(id)}, &item)
	return item, err
}

// Settled is what a retry or drop made of a reading: stored, dropped, quarantined (it still cannot be stored), queued
// (it waits for the store) or gone (it was settled before).
type Settled struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// settleWait is how long the hub may wait for the outcome.
const settleWait = 10 * time.Second

// Retry tries again to store a reading.
func (c *Client) Retry(ctx context.Context, id string) (Settled, error) {
	var s Settled
	err := c.do(ctx, call{method: http.MethodPost, path: quarantinePath + "/" + url.PathEscape(id) + "/retry", wait: settleWait}, &s)
	return s, err
}

// Drop takes a reading out of the quarantine for good.
func (c *Client) Drop(ctx context.Context, id string) (Settled, error) {
	var s Settled
	err := c.do(ctx, call{method: http.MethodDelete, path: quarantinePath + "/" + url.PathEscape(id), wait: settleWait}, &s)
	return s, err
}

// RetryAll tries again to store all that the filter chooses, page after page, and says how many came to which state.
func (c *Client) RetryAll(ctx context.Context, f QuarantineFilter) (map[string]uint64, error) {
	return c.settleAll(ctx, http.MethodPost, quarantinePath+"/retry", f)
}

// DropAll drops all that the filter chooses.
func (c *Client) DropAll(ctx context.Context, f QuarantineFilter) (map[string]uint64, error) {
	return c.settleAll(ctx, http.MethodDelete, quarantinePath, f)
}

func (c *Client) settleAll(ctx context.Context, method, path string, f QuarantineFilter) (map[string]uint64, error) {
	const page = 1000
	total := map[string]uint64{}
	q := f.query()
	q.Set("limit", strconv.Itoa(page))
	q.Set("all", "true")
	for {
		var answer struct {
			Readings map[string]uint64 `json:"readings"`
			Next     string            `json:"next"`
		}
		if err := c.do(ctx, call{method: method, path: path, query: q, wait: settleWait}, &answer); err != nil {
			return total, err
		}
		for state, n := range answer.Readings {
			total[state] += n
		}
		if answer.Next == "" || answer.Next == q.Get("cursor") {
			return total, nil
		}
		q.Set("cursor", answer.Next)
	}
}
