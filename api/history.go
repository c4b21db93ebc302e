package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// maxWindows bounds what one query may compute, whatever its limit; the stores have the same bound.
const maxWindows = 10_000

const (
	leastEvery = time.Millisecond // the stores count in ms
	mostEvery  = 10 * 365 * 24 * time.Hour
)

type historyInput struct {
	DevicePath
	Fields      []string `query:"fields" doc:"Names, parted by commas; all when left out"`
	Measurement string   `query:"measurement" maxLength:"128" doc:"The home of the device's type when left out, which is telemetry unless the type has another"`
	From        string   `query:"from" doc:"Inclusive: RFC 3339, ms since 1970, or back from now such as -1h or -7d; without it from the first reading"`
	To          string   `query:"to" doc:"Exclusive, as from; without it to the last reading"`
	Every       string   `query:"every" doc:"Width of windows, such as 1m; needs from"`
	Windows     int      `query:"windows" minimum:"2" maximum:"10000" doc:"Instead of every: at most so many windows, all of a width that the hub chooses, in one page; needs from"`
	Fn          string   `query:"fn" enum:"mean,min,max,sum,count,first,last" doc:"What is computed of each window (mean when left out), or without every of all"`
	Limit       int      `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Readings a page"`
	Cursor      string   `query:"cursor" maxLength:"1024" doc:"next of the page before"`
}

type historyOutput struct {
	Body struct {
		Readings []Reading `json:"readings" nullable:"false"`
		Next     string    `json:"next" doc:"Cursor of the next page; empty on the last"`
		EveryMs  int64     `json:"every_ms,omitempty" doc:"Width of the windows"`
	}
}

type latestInput struct {
	DevicePath
	Measurement string `query:"measurement" maxLength:"128" doc:"The home of the device's type when left out, which is telemetry unless the type has another"`
}

// AgedValue is a value and how old it is.
type AgedValue struct {
	Value
	AgeMs int64  `json:"age_ms" doc:"Below zero when the device's clock is ahead"`
	Unit  string `json:"unit,omitempty" doc:"As the device last said it in SenML, else as its type has it"`
}

type latestOutput struct {
	Body struct {
		Device string               `json:"device"`
		TS     int64                `json:"ts,omitempty" doc:"Of the newest value, ms since 1970; left out when there is none"`
		AgeMs  int64                `json:"age_ms,omitempty"`
		Values map[string]AgedValue `json:"values"`
	}
}

func (s *Server) registerHistory() {
	tags := []string{"telemetry"}
	register(s, viewer, huma.Operation{
		OperationID: "get-telemetry", Method: http.MethodGet, Path: "/api/v1/devices/{id}/telemetry", Tags: tags, Summary: "Readings of a device",
		Description: "Raw readings in order of time, by pages. With every, a row a window; with fn alone, one row over all.",
	}, s.history)
	register(s, viewer, huma.Operation{
		OperationID: "get-latest", Method: http.MethodGet, Path: "/api/v1/devices/{id}/latest", Tags: tags, Summary: "Newest value of each field",
		Description: "Newest is by the time it was measured, not by when it came.",
	}, s.latest)
}

func (s *Server) history(ctx context.Context, in *historyInput) (*historyOutput, error) {
	d, err := s.find(in.ID)
	if err != nil {
		return nil, err
	}
	q := HistoryQuery{Device: in.ID, Measurement: cmp.Or(in.Measurement, s.home(d)), Fields: fieldNames(in.Fields), Fn: in.Fn, Limit: in.Limit, Cursor: in.Cursor}
	now := s.cfg.Now()
	if q.From, err = parseTime("from", in.From, now); err != nil {
		return nil, err
	}
	if q.To, err = parseTime("to", in.To, now); err != nil {
		return nil, err
	}
	if q.Every, err = parseDuration("query.every", in.Every, leastEvery, mostEvery); err != nil {
		return nil, err
	}
	if err := checkWindows(&q, in, now); err != nil {
		return nil, err
	}
	out := &historyOutput{}
	out.Body.EveryMs = q.Every.Milliseconds()
	if out.Body.Readings, out.Body.Next, err = s.deps.History.Query(ctx, q); err != nil {
		return nil, err
	}
	if out.Body.Readings == nil {
		out.Body.Readings = []Reading{}
	}
	return out, nil
}

// checkWindows completes a query of windows and refuses one that cannot be right or would never end.
func checkWindows(q *HistoryQuery, in *historyInput, now time.Time) error {
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return badQuery("from", in.From, "must be before to=%s", clip(in.To))
	}
	if q.Every == 0 && in.Windows == 0 {
		return nil
	}
	if q.Every != 0 && in.Windows != 0 {
		return badQuery("windows", strconv.Itoa(in.Windows), "every=%s says already how wide windows are", clip(in.Every))
	}
	if q.Fn == "" {
		q.Fn = "mean"
	}
	switch {
	case q.From.IsZero() && in.Windows != 0:
		return badQuery("windows", strconv.Itoa(in.Windows), "needs from, such as from=-7d: windows must begin somewhere")
	case q.From.IsZero():
		return badQuery("every", in.Every, "needs from, such as from=-1h: windows must begin somewhere")
	}
	if q.To.IsZero() {
		// A little ahead, as readings may be; a window that is ahead altogether has none.
		q.To = now.Add(10 * time.Minute)
	}
	if in.Windows != 0 {
		if in.Cursor != "" {
			return badQuery("cursor", in.Cursor, "an answer to windows has no further pages")
		}
		q.Every, q.Limit = widthOf(q.To.Sub(q.From), in.Windows), in.Windows
		return nil
	}
	if windows := int64(q.To.Sub(q.From) / q.Every); windows > maxWindows {
		p := badQuery("every", in.Every, "%d windows between from and to are more than %d; widen every or narrow from and to", windows, maxWindows)
		return p.over(maxWindows, windows)
	}
	return nil
}

// widthOf is the least width, of those that people use, by which a range has at most so many windows wherever it begins:
// windows are aligned to the epoch, so that it may begin and end within one.
func widthOf(span time.Duration, windows int) time.Duration {
	least := span / time.Duration(windows-1)
	if span%time.Duration(windows-1) > 0 {
		least++
	}
	const day = 24 * time.Hour
	for unit := time.Millisecond; unit < time.Second; unit *= 10 {
		for _, n := range []time.Duration{1, 2, 5} {
			if width := n * unit; width >= least {
				return width
			}
		}
	}
	for _, width := range []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 6 * time.Hour, 8 * time.Hour, 12 * time.Hour,
	} {
		if width >= least {
			return width
		}
	}
	return (least + day - 1) / day * day
}

// fieldNames drops empty names and repetitions.
func fieldNames(given []string) []string {
	var names []string
	for _, name := range given {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// home is the measurement that a device's readings stand in where nobody names one.
func (s *Server) home(d devices.Device) string {
	of, _ := s.deps.Profiles.OfType(d.Type)
	return cmp.Or(of.Home, wire.DefaultMeasurement)
}

func (s *Server) latest(ctx context.Context, in *latestInput) (*latestOutput, error) {
	d, err := s.find(in.ID)
	if err != nil {
		return nil, err
	}
	// The memory is ahead of the store, the store knows what the memory has not seen: the newer of both, by field.
	var fresh map[string]Value
	home := s.home(d)
	measurement := cmp.Or(in.Measurement, home)
	if measurement == home {
		known, cancel := context.WithTimeout(ctx, latestTimeout)
		fresh = s.deps.Ingest.Latest(known, in.ID)
		cancel()
	}
	stored, err := s.deps.History.Latest(ctx, in.ID, measurement)
	if err != nil && len(fresh) == 0 {
		return nil, err
	}
	if err != nil {
		s.log.WarnContext(ctx, "latest values without the store", "device", in.ID, "error", err)
	}
	now := s.cfg.Now().UnixMilli()
	units := s.units(d)
	out := &latestOutput{}
	out.Body.Device = in.ID
	out.Body.Values = make(map[string]AgedValue, len(stored))
	for _, source := range []map[string]Value{stored, fresh} {
		for name, v := range source {
			if had, ok := out.Body.Values[name]; ok && had.TS > v.TS {
				continue
			}
			out.Body.Values[name] = AgedValue{Value: v, AgeMs: now - v.TS, Unit: units[name]}
			if v.TS > out.Body.TS {
				out.Body.TS, out.Body.AgeMs = v.TS, now-v.TS
			}
		}
	}
	return out, nil
}
