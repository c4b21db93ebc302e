package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Count returns how many points of a device there are, in all measurements. It reads them page by page, because no
// function of the engine counts points whose fields differ; it may take long, and ends with ctx. Points that are
// written meanwhile may be missing. Errors are those of Query.
func (s *Store) Count(ctx context.Context, device string) (points uint64, err error) {
	names, err := s.measurements(ctx, device)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		q := Query{Device: device, Measurement: name, Limit: MaxRows}
		for {
			page, err := s.Query(ctx, q)
			if err != nil {
				return points, err
			}
			points += uint64(len(page.Rows))
			if page.Next == "" {
				break
			}
			q.Cursor = page.Next
		}
	}
	return points, nil
}

// measurements returns the names of those that hold points of a device.
func (s *Store) measurements(ctx context.Context, device string) ([]string, error) {
	if err := checkName("device", device); err != nil {
		return nil, err
	}
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	results, err := s.run(ctx, "SHOW MEASUREMENTS WHERE "+strings.Replace(deviceIs(device), "::tag", "", 1))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, series := range results[0].Series {
		for _, row := range series.Values {
			if len(row) == 0 {
				return nil, errors.New("store: query: a measurement has no name")
			}
			name, ok := row[0].(string)
			if !ok {
				return nil, fmt.Errorf("store: query: a measurement's name is %T", row[0])
			}
			names = append(names, name)
		}
	}
	return names, nil
}
