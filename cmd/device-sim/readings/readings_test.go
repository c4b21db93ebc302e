package readings_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"telemetryhub/cmd/device-sim/readings"
)

// wantSame checks that the JSON of reading n says exactly what Values says.
func wantSame(t *testing.T, source readings.Source, n uint64) {
	t.Helper()
	var decoded map[string]float64
	text := source.AppendValues(nil, n)
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatalf("reading %d is not JSON: %v: %s", n, err, text)
	}
	names, values := source.Names(), source.Values(nil, n)
	if len(decoded) != len(names) || len(values) != len(names) {
		t.Fatalf("reading %d: %d names, %d values, %d in JSON %s", n, len(names), len(values), len(decoded), text)
	}
	for i, name := range names {
		if decoded[name] != values[i] {
			t.Errorf("reading %d, %s: JSON says %v, Values %v", n, name, decoded[name], values[i])
		}
	}
}

func TestSynthSaysTheSameInJSONAndInNumbers(t *testing.T) {
	wave := readings.NewWave()
	for index := range uint64(20) {
		source := readings.NewSynth(wave, 7, index, readings.MaxRun-1)
		for n := uint64(1); n <= 3000; n++ {
			wantSame(t, source, n)
		}
	}
}

func TestSynthIsRepeatableAndDevicesDiffer(t *testing.T) {
	wave := readings.NewWave()
	first := string(readings.NewSynth(wave, 7, 1, 9).AppendValues(nil, 5))
	if again := string(readings.NewSynth(wave, 7, 1, 9).AppendValues(nil, 5)); again != first {
		t.Errorf("the same reading twice: %s and %s", first, again)
	}
	if other := string(readings.NewSynth(wave, 7, 2, 9).AppendValues(nil, 5)); other == first {
		t.Errorf("two devices say the same: %s", other)
	}
}

func TestReplayOfTheRealFiles(t *testing.T) {
	paths, err := filepath.Glob("../../../testdata/room-climate/*.csv")
	if err != nil || len(paths) != 3 {
		t.Fatalf("files %v, error %v; want three", paths, err)
	}
	total, backwards := 0, 0
	perDevice := make(map[string]int)
	for _, path := range paths {
		f, err := readings.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		total += len(f.Steps)
		for i := 1; i < len(f.Steps); i++ {
			if f.At(f.Steps[i]) < f.At(f.Steps[i-1]) {
				backwards++
			}
		}
		for _, node := range f.Nodes {
			perDevice[node.Device] += len(node.Rows)
			times := make(map[int64]bool)
			for i, row := range node.Rows {
				if times[row.At] {
					t.Errorf("%s has two readings at %d", node.Device, row.At)
				}
				times[row.At] = true
				wantSame(t, node, uint64(i+1))
			}
		}
	}
	if total != 15546 || len(perDevice) != 12 || backwards != 1 {
		t.Errorf("%d readings of %d devices, %d out of order; want 15546, 12, 1", total, len(perDevice), backwards)
	}
	for _, device := range []string{"A-1", "A-4", "B-3", "C-5"} {
		if perDevice[device] == 0 {
			t.Errorf("no device %s in %v", device, perDevice)
		}
	}
}

func TestReplayValuesAreTheFiles(t *testing.T) {
	f, err := readings.Read("x/room_climate-location_A-measurement01.csv",
		strings.NewReader("1, 1458031648545, 1, 1, 20.48, 42.332, 185.71, 492.2, 2, 4, 1, 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Temp":20.48,"RelH":42.332,"L1":185.71,"L2":492.2,"Occ":2,"Act":4,"Door":1,"Win":0}`
	if got := string(f.Nodes[0].AppendValues(nil, 1)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(f.Nodes[0].AppendValues(nil, 2)); got != want {
		t.Errorf("after the last row: got %s, want the first again", got)
	}
}

func TestReplayFaultsNameFileLineAndColumn(t *testing.T) {
	const good = "1, 1458031648545, 1, 1, 20.48, 42.332, 185.71, 492.2, 0, 0, 0, 0\n"
	for _, c := range []struct{ name, text, want string }{
		{"few columns", good + "2, 3, 4\n", "f.csv:2: 3 columns, want 12"},
		{"time", strings.Replace(good, "1458031648545", "noon", 1), `f.csv:1: column AbsT: "noon"`},
		{"number", strings.Replace(good, "20.48", "NaN", 1), `f.csv:1: column Temp: "NaN"`},
		{"node", strings.Replace(good, " 1, 1, 20", " 1, a b, 20", 1), `f.csv:1: node "a b" makes no device`},
		{"empty", "\n\n", "f.csv: no readings"},
	} {
		if _, err := readings.Read("f.csv", strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}
