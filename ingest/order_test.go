package ingest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// TestEachDevicesReadingsReachTheStoreInTheirOrder through a store that is away at times, takes few lines at once, and
// rejects some: a reading that is kept holds those behind it.
func TestEachDevicesReadingsReachTheStoreInTheirOrder(t *testing.T) {
	store, cfg := &memoryStore{}, testConfig()
	var calls atomic.Int64
	store.answers(func(_ context.Context, lines []byte) error {
		switch n := len(splitLines(lines)); {
		case calls.Add(1)%7 == 3:
			return &retryLater{}
		case n > 16:
			return &TooLargeError{Message: "too large"}
		case strings.Contains(string(lines), "n=13 "):
			return &RejectedError{Message: "unlucky"}
		}
		return nil
	})
	h := openHub(t, t.TempDir(), cfg, store)
	const devices, each = 3, 40
	for seq := uint64(1); seq <= each; seq++ {
		for d := range devices {
			h.send(fmt.Sprint("d", d), numbered("b", seq))
		}
	}
	for d := range devices {
		device := fmt.Sprint("d", d)
		if c := h.settled(device, each); c.Stored != each-1 || c.Quarantined != 1 {
			t.Fatalf("%s: %+v", device, c)
		}
		last := 0
		for _, line := range store.accepted() {
			var n int
			if _, err := fmt.Sscanf(line, "telemetry,device="+device+" n=%d", &n); err != nil {
				continue
			}
			if n <= last {
				t.Errorf("%s: %d came after %d", device, n, last)
			}
			last = n
		}
		if last != each {
			t.Errorf("%s: the last is %d", device, last)
		}
	}
}
