package main

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"telemetryhub/store/influxtest"
)

// acked returns how many readings the hub has made durable.
func (h *hubProcess) received() int {
	h.t.Helper()
	return h.audit().Total.Received
}

func TestKilledInTheMiddleTheHubLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	const kills = 4
	got := h.simulate(func(ended <-chan struct{}) {
		last := 0
		for range kills {
			// Somewhere within the next part of the replay, but always within it.
			until(t, "readings to come in", func() bool {
				last += 1 + rand.IntN(roomReadings/kills/3)
				for h.received() < last {
					select {
					case <-ended:
						return true
					default:
					}
				}
				return true
			})
			h.kill()
			h.again()
		}
	}, replayArgs(t)...)
	wantAll(t, got, roomReadings)
	if got.Reconnects < kills*roomNodes/2 {
		t.Errorf("%d reconnects after %d kills: was the hub killed within the replay?", got.Reconnects, kills)
	}
}

func TestReadingsWaitForAnInfluxDBThatIsAway(t *testing.T) {
	db := influxtest.StartT(t)
	h := startHub(t, t.TempDir(), withInfluxDB(t, db)...)
	got := h.simulate(func(<-chan struct{}) {
		until(t, "readings in the store", func() bool { return h.audit().Total.Stored > 500 })
		if err := db.Stop(); err != nil {
			t.Fatal(err)
		}
		before := h.received()
		until(t, "acks without a store", func() bool { return h.received() > before+3000 })
		if a := h.audit(); a.Total.Queued < 2000 {
			t.Errorf("%d readings queued while the store was away", a.Total.Queued)
		}
		type part struct{ Name, Message string }
		var ready struct{ Parts []part }
		until(t, "readyz to name the store", func() bool {
			status := h.call(http.MethodGet, "/readyz", nil, &ready)
			at := slices.IndexFunc(ready.Parts, func(p part) bool { return p.Name == "store" })
			return status == http.StatusOK && at >= 0 && ready.Parts[at].Message != ""
		})
		if err := db.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}, "--devices", "50", "--rate", "20", "--duration", "15s", "--verify")
	if got.Lost != 0 || got.Duplicated != 0 || got.Acked != got.Sent || got.Stored != got.Sent {
		t.Errorf("%+v, want all sent readings acked and stored once", got)
	}
	if pause := time.Duration(got.AckMs.Max) * time.Millisecond; pause > 10*time.Second {
		t.Errorf("an ack took %s: acks waited for the store", pause)
	}
}
