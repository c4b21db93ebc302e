package main

import (
	"encoding/json"
	"testing"
)

func TestObey(t *testing.T) {
	for _, test := range []struct {
		name, delta string
		fastest     float64
		want        string
		every       int64
	}{
		{"slower", `{"interval":10,"net":{"dns":"x"}}`, 1, `{"firmware":"1.0.0","interval":10,"model":"device-sim","net":{"dns":"x"}}`, 10_000},
		{"not faster than it can", `{"interval":0.1}`, 1, `{"firmware":"1.0.0","interval":1,"model":"device-sim"}`, 1000},
		{"no interval to change", `{"interval":5,"mode":"eco"}`, 0, `{"firmware":"1.0.0","mode":"eco","model":"device-sim"}`, 0},
		{"no number", `{"interval":"often"}`, 1, `{"firmware":"1.0.0","interval":"often","model":"device-sim"}`, 0},
		{"removed", `{"firmware":null}`, 1, `{"interval":1,"model":"device-sim"}`, 0},
	} {
		s := newState(test.fastest)
		var told desiredState
		if err := json.Unmarshal([]byte(`{"desired":{},"version":3,"delta":`+test.delta+`}`), &told); err != nil {
			t.Fatal(err)
		}
		s.obey(told.Delta, test.fastest)
		if got, err := json.Marshal(s.reported); err != nil || string(got) != test.want || s.every != test.every {
			t.Errorf("%s: reports %s, each %d ms; want %s, %d", test.name, got, s.every, test.want, test.every)
		}
	}
}

func TestDesiredIntervalThinsReadings(t *testing.T) {
	s := newState(0.1)
	s.obey(map[string]any{"interval": 0.5}, 0.1)
	measured := 0
	for ts := int64(1000); ts < 11_000; ts += 100 {
		if s.isDue(ts) {
			measured++
		}
	}
	if measured != 20 {
		t.Errorf("%d readings in 10 s, want 20", measured)
	}
}
