package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Act is one thing that an operator did, or tried: a line of the audit log.
type Act struct {
	ID         string         `json:"id"`
	Time       time.Time      `json:"time"`
	Actor      string         `json:"actor,omitempty"`
	Role       string         `json:"role,omitempty"`
	Origin     string         `json:"origin,omitempty"` // address
	Act        string         `json:"act"`              // such as device.create
	Device     string         `json:"device,omitempty"`
	Target     string         `json:"target,omitempty"` // of others than devices: an id
	Facts      map[string]any `json:"facts,omitempty"`
	Outcome    string         `json:"outcome"` // accepted, refused, failed
	Reason     string         `json:"reason,omitempty"`
	Detail     string         `json:"detail,omitempty"`
	Suppressed uint64         `json:"suppressed,omitempty"` // as many like it before were only counted
	Recovered  bool           `json:"recovered,omitempty"`  // written after a crash
}

// ActFilter chooses among acts; what is empty chooses all.
type ActFilter struct {
	Actor, Device string
	Act           string // a whole one, or all of a kind: device
	Outcome       string
	From, To      string // RFC 3339, ms since 1970, or back from now such as -24h
	Page          int
}

func (f ActFilter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"actor": f.Actor, "device": f.Device, "act": f.Act, "outcome": f.Outcome, "from": f.From, "to": f.To} {
		setText(q, name, value)
	}
	setInt(q, "limit", f.Page)
	return q
}

const actsPath = "/api/v1/acts"

// Acts lists the audit log, page after page, the newest first. After an error the sequence ends.
func (c *Client) Acts(ctx context.Context, f ActFilter) iter.Seq2[Act, error] {
	return pages(f.query(), func(q url.Values) ([]Act, string, error) {
		var page struct {
			Acts []Act  `json:"acts"`
			Next string `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: actsPath, query: q}, &page)
		return page.Acts, page.Next, err
	})
}

// ExportActs writes the audit log as JSON lines, the oldest first, as the hub has them. It has no limit of time but
// ctx's. After an error what was written is not whole.
func (c *Client) ExportActs(ctx context.Context, f ActFilter, to io.Writer) error {
	resp, err := c.open(ctx, call{method: http.MethodGet, path: actsPath, query: f.query(), header: http.Header{"Accept": {"application/x-ndjson"}}})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return c.explain(err)
	}
	return nil
}
