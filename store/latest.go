package store

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Value is what a field held at one time.
type Value struct {
	Value any   // float64, bool, string, or int64 as in Row
	Time  int64 // when it was measured, ms since the epoch
}

// latestStatements bounds the statements of one request; each asks for one field.
const latestStatements = 100

// Latest gives for each field of a device the newest value by the time it was measured, not by the time it came.
// Without points it is empty. Errors are those of Query.
func (s *Store) Latest(ctx context.Context, device, measurement string) (map[string]Value, error) {
	all, err := Query{Device: device, Measurement: measurement, Fn: "last"}.plan(time.Time{})
	if err != nil {
		return nil, err
	}
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	// last(*) names the fields that the device has, without their times. The newest row has the times of most.
	results, err := s.run(ctx, all.statement(),
		"SELECT *::field FROM "+quoteName(all.Measurement)+" WHERE "+deviceIs(device)+" ORDER BY time DESC LIMIT 1")
	if err != nil {
		return nil, err
	}
	fields, err := all.page(results[0])
	if err != nil {
		return nil, err
	}
	newest, err := (&plan{Query: Query{Limit: 1}}).page(results[1])
	if err != nil {
		return nil, err
	}
	latest := make(map[string]Value)
	for _, row := range newest.Rows {
		for name, value := range row.Values {
			latest[name] = Value{Value: value, Time: row.Time}
		}
	}
	missing := make(map[string]bool)
	for _, row := range fields.Rows {
		for name := range row.Values {
			if _, ok := latest[name]; !ok {
				missing[name] = true
			}
		}
	}
	for names := range slices.Chunk(slices.Sorted(maps.Keys(missing)), latestStatements) {
		if err := s.latestOf(ctx, all, names, latest); err != nil {
			return nil, err
		}
	}
	return latest, nil
}

// latestOf asks for fields that the newest row does not have, each by itself: with one selector InfluxQL gives the
// point's own time.
func (s *Store) latestOf(ctx context.Context, all *plan, names []string, latest map[string]Value) error {
	statements := make([]string, len(names))
	for i, name := range names {
		statements[i] = "SELECT last(" + quoteName(name) + "::field) FROM " + quoteName(all.Measurement) +
			" WHERE " + deviceIs(all.Device)
	}
	results, err := s.run(ctx, statements...)
	if err != nil {
		return err
	}
	for i, r := range results {
		for _, series := range r.Series {
			for _, values := range series.Values {
				row, err := series.row(values, "")
				if err != nil {
					return err
				}
				if value, ok := row.Values["last"]; ok {
					latest[names[i]] = Value{Value: value, Time: row.Time}
				}
			}
		}
	}
	return nil
}
