package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 100}, 3.5},
	} {
		given := slices.Clone(test.values)
		if got := median(test.values); got != test.want {
			t.Errorf("median of %v is %v, want %v", test.values, got, test.want)
		}
		if !slices.Equal(test.values, given) {
			t.Errorf("median changed %v to %v", given, test.values)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestPercentile(t *testing.T) {
	var values []time.Duration
	for n := range 200 {
		values = append(values, time.Duration(200-n)) // 200 down to 1
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 100, 99: 198, 99.9: 200, 100: 200} {
		if got := percentile(values, p); got != want {
			t.Errorf("percentile %v is %d, want %d", p, got, want)
		}
	}
}

// TestFigureJSON holds the shape of the output, which scripts read.
func TestFigureJSON(t *testing.T) {
	f := newFigure(quantity{"ack_ms_p99", "ms"}, []float64{3, 1.23456, 2}, loadAverage{Before: 0.5, After: 1.5}, "hub; device-sim --rate 5")
	var out bytes.Buffer
	if err := f.write(&out); err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"ack_ms_p99","value":2,"unit":"ms","runs":3,"spread":{"min":1.235,"max":3},` +
		`"load_average":{"before":0.5,"after":1.5},"ran":"hub; device-sim --rate 5"}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

// TestFigureWithoutNumber: a value that is none must not pass for a figure.
func TestFigureWithoutNumber(t *testing.T) {
	f := newFigure(quantity{"x", "s"}, []float64{math.Inf(1)}, loadAverage{}, "")
	var unsupported *json.UnsupportedValueError
	if err := f.write(&bytes.Buffer{}); !errors.As(err, &unsupported) {
		t.Errorf("infinity was written: %v", err)
	}
}
