package store

import (
	"context"
	"strings"
)

// typeRank orders the types of one field that has several, as it may in different shards: the engines read such a field
// by the first of them.
const typeRank = "float integer unsigned string boolean"

// FieldTypes gives the type of each field of a measurement, whoever wrote it: float, integer, unsigned, string or
// boolean. Where a field has several, it is the one by which the engine reads it. A measurement that is not there has
// none. Errors are those of Query.
func (s *Store) FieldTypes(ctx context.Context, measurement string) (map[string]string, error) {
	if measurement == "" {
		measurement = DefaultMeasurement
	}
	if err := checkName("measurement", measurement); err != nil {
		return nil, err
	}
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	from := quoteName(measurement)
	if s.place.rp != "" {
		from = quoteName(s.place.rp) + "." + from
	}
	results, err := s.run(ctx, "SHOW FIELD KEYS FROM "+from)
	if err != nil {
		return nil, err
	}
	types := make(map[string]string)
	for _, series := range results[0].Series {
		for _, row := range series.Values {
			if len(row) != 2 {
				continue
			}
			name, _ := row[0].(string)
			kind, _ := row[1].(string)
			if known, ok := types[name]; !ok || rankOf(kind) < rankOf(known) {
				types[name] = kind
			}
		}
	}
	return types, nil
}

func rankOf(kind string) int {
	if rank := strings.Index(typeRank, kind); rank >= 0 {
		return rank
	}
	return len(typeRank)
}
