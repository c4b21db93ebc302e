package main

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"telemetryhub/store/influxtest"
)

// The real readings: testdata/room-climate/README.md.
const (
	roomReadings = 15546
	roomNodes    = 12
	roomFields   = 8
)

func roomFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../testdata/room-climate/*.csv")
	if err != nil || len(files) != 3 {
		t.Fatalf("room climate files: %v, %v", files, err)
	}
	return files
}

func replayArgs(t *testing.T) []string {
	return []string{"--replay", strings.Join(roomFiles(t), ","), "--speed", "0", "--verify"}
}

// roomMeans is the mean temperature of each node as the files have it.
func roomMeans(t *testing.T) map[string]float64 {
	t.Helper()
	sums, counts := map[string]float64{}, map[string]float64{}
	for _, path := range roomFiles(t) {
		location := strings.TrimPrefix(filepath.Base(path), "room_climate-location_")[:1]
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			columns := strings.Split(line, ",")
			temp, err := strconv.ParseFloat(strings.TrimSpace(columns[4]), 64)
			if err != nil {
				t.Fatal(err)
			}
			node := location + "-" + strings.TrimSpace(columns[3])
			sums[node] += temp
			counts[node]++
		}
	}
	for node := range sums {
		sums[node] /= counts[node]
	}
	return sums
}

// withInfluxDB writes a configuration that stores in that InfluxDB.
func withInfluxDB(t *testing.T, db *influxtest.Server) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.yaml")
	text := fmt.Sprintf("store:\n  kind: influxdb\n  influxdb:\n    url: %s\n    bucket: telemetry\n", db.URL())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--config", path}
}

func wantAll(t *testing.T, got simulation, want int) {
	t.Helper()
	if got.Sent != want || got.Acked != want || got.Stored != want || got.Lost != 0 || got.Duplicated != 0 {
		t.Errorf("sent %d acked %d stored %d lost %d duplicated %d, want %d %d %d 0 0", got.Sent, got.Acked, got.Stored, got.Lost, got.Duplicated, want, want, want)
	}
}

// audit is the account of all readings.
type audit struct {
	Total struct {
		Received, Stored, Duplicate, Quarantined, Queued int
		Refused                                          map[string]int
	}
}

func (h *hubProcess) audit() audit {
	h.t.Helper()
	var a audit
	if status := h.call(http.MethodGet, "/api/v1/audit", nil, &a); status != http.StatusOK {
		h.t.Fatalf("audit: %d", status)
	}
	sum := a.Total.Stored + a.Total.Duplicate + a.Total.Quarantined + a.Total.Queued
	for _, n := range a.Total.Refused {
		sum += n
	}
	if sum != a.Total.Received {
		h.t.Errorf("the account does not add up: %+v", a.Total)
	}
	return a
}

func TestRealReadingsAreStoredOnceAndReadBackExactly(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"embedded", "influxdb"} {
		t.Run(store, func(t *testing.T) {
			var args []string
			if store == "influxdb" {
				args = withInfluxDB(t, influxtest.StartT(t))
			}
			h := startHub(t, t.TempDir(), args...)
			got := h.simulate(nil, replayArgs(t)...)
			wantAll(t, got, roomReadings)
			if got.Devices != roomNodes || got.Connected != roomNodes {
				t.Errorf("devices %d, connected %d, want %d", got.Devices, got.Connected, roomNodes)
			}
			if a := h.audit(); a.Total.Stored != roomReadings || a.Total.Received != roomReadings {
				t.Errorf("audit %+v, want %d received and stored", a.Total, roomReadings)
			}
			means := roomMeans(t)
			if len(means) != roomNodes {
				t.Fatalf("%d nodes in the files", len(means))
			}
			for node, want := range means {
				var answer struct {
					Readings []struct{ Values map[string]float64 }
				}
				h.call(http.MethodGet, "/api/v1/devices/"+node+"/telemetry?fields=Temp&fn=mean", nil, &answer)
				if len(answer.Readings) != 1 || math.Abs(answer.Readings[0].Values["Temp"]-want) > 1e-9 {
					t.Errorf("mean of %s = %v, want %v", node, answer.Readings, want)
				}
			}
			if store == "embedded" {
				if err := h.terminate(); err != nil {
					t.Fatal(err)
				}
				each := float64(storedBytes(t, h.data)) / (roomReadings * roomFields)
				t.Logf("%.2f bytes a value", each)
				if each > 5 {
					t.Errorf("a value of the real readings takes %.2f bytes, want at most 5", each)
				}
			}
		})
	}
}
