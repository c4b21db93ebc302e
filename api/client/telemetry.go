package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// TelemetryQuery says which readings of a device to read back.
//
// Without Every and Fn these are the raw readings, ascending in time; with Fn
// alone one row over all; with Every one row a window.
type TelemetryQuery struct {
	Fields      []string // none: all
	Measurement string   // "" is that of the device's type
	From, To    string   // RFC 3339, ms since the epoch, or relative (-1h); from inclusive, to exclusive; see At
	Every       time.Duration
	Windows     int    // instead of Every: at most so many, of a width that the hub chooses
	Fn          string // mean, min, max, sum, count, first, last
	Page        int    // rows asked for at once; 0 is the hub's default
}

// At writes a moment as the hub takes it in From and To, to the millisecond.
func At(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// Reading is one row read back: a raw reading or a window.
type Reading struct {
	TS     int64          `json:"ts"` // ms since the epoch
	Values map[string]any `json:"values"`
}

// Time is the row's time.
func (r Reading) Time() time.Time { return time.UnixMilli(r.TS) }

func (t TelemetryQuery) query() url.Values {
	q := url.Values{}
	setText(q, "fields", strings.Join(t.Fields, ","))
	setText(q, "measurement", t.Measurement)
	setText(q, "from", t.From)
	setText(q, "to", t.To)
	if t.Every > 0 {
		q.Set("every", durationText(t.Every))
	}
	setInt(q, "windows", t.Windows)
	setText(q, "fn", t.Fn)
	setInt(q, "limit", t.Page)
	return q
}

// Telemetry reads a device's readings back, page after page. After an error the sequence ends.
func (c *Client) Telemetry(ctx context.Context, device string, t TelemetryQuery) iter.Seq2[Reading, error] {
	return pages(t.query(), func(q url.Values) ([]Reading, string, error) {
		var page struct {
			Readings []Reading `json:"readings"`
			Next     string    `json:"next"`
		}
		err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device) + "/telemetry", query: q}, &page)
		return page.Readings, page.Next, err
	})
}

// LatestValues holds the newest value of each field of a device.
type LatestValues struct {
	Device string           `json:"device"`
	TS     int64            `json:"ts,omitempty"` // of the newest one, ms since the epoch
	AgeMs  int64            `json:"age_ms,omitempty"`
	Values map[string]Value `json:"values"`
}

// Latest returns the newest value of each field by the time it was measured; measurement "" is that of the device's type.
func (c *Client) Latest(ctx context.Context, device, measurement string) (LatestValues, error) {
	q := url.Values{}
	setText(q, "measurement", measurement)
	var latest LatestValues
	err := c.do(ctx, call{method: http.MethodGet, path: devicePath(device) + "/latest", query: q}, &latest)
	return latest, err
}

// durationText writes a duration with one unit, as the API takes it: 1m, 90s, 250ms.
func durationText(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	case d%time.Minute == 0:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	case d%time.Second == 0:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}
