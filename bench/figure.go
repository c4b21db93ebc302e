package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// figure is one line of the output.
type figure struct {
	Name        string      `json:"name"`
	Value       float64     `json:"value"` // median of the runs
	Unit        string      `json:"unit"`
	Runs        int         `json:"runs"` // those that succeeded
	Spread      spread      `json:"spread"`
	LoadAverage loadAverage `json:"load_average"`
	Ran         string      `json:"ran"`
}

type spread struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// loadAverage is the machine's over one minute: before tells of others, after of this measurement too.
type loadAverage struct {
	Before float64 `json:"before"`
	After  float64 `json:"after"`
}

// newFigure sums up the values of the runs, of which there is at least one.
func newFigure(q quantity, values []float64, load loadAverage, ran string) figure {
	return figure{
		Name: q.name, Value: significant(median(values)), Unit: q.unit, Runs: len(values),
		Spread:      spread{Min: significant(slices.Min(values)), Max: significant(slices.Max(values))},
		LoadAverage: load, Ran: ran,
	}
}

func (f figure) write(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(f); err != nil {
		return fmt.Errorf("write %s: %w", f.Name, err)
	}
	return nil
}

// median of an even number of values is the mean of the two in the middle; of none it is NaN.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	switch {
	case len(sorted) == 0:
		return math.NaN()
	case len(sorted)%2 == 1:
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// percentile is the smallest value that at least p of 100 are not above (nearest rank).
func percentile[T cmp.Ordered](values []T, p float64) T {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// significant rounds to four digits: more would be noise.
func significant(v float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil {
		return v
	}
	return rounded
}
