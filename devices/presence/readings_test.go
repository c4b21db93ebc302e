package presence_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"telemetryhub/devices/presence"
	"telemetryhub/wire"
)

// journal takes readings as ingest does.
type journal struct {
	mu    sync.Mutex
	lines []string
	fails error
}

func (j *journal) Commit(_ context.Context, device string, t *wire.Telemetry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fails != nil {
		return j.fails
	}
	for _, r := range t.Readings {
		var fields []string
		for _, f := range r.Fields {
			fields = append(fields, fmt.Sprintf("%s=%s%v:%d", f.Name, f.Text, f.Number, f.Kind))
		}
		slices.Sort(fields)
		j.lines = append(j.lines, fmt.Sprint(device, " ", string(t.Measurement), " ", r.Time, " ", t.Seq, " ", r.Flaw, fields))
	}
	return nil
}

func TestChangesBecomeReadings(t *testing.T) {
	j := &journal{}
	r := presence.NewReadings("presence", j, func(device string) bool { return device != "deleted" })
	at := time.UnixMilli(1_700_000_000_123)
	changes := []presence.Change{
		{Device: "a", Online: true, Version: 1, Time: at, Transport: "mqtt", Session: "17"},
		{Device: "b", Version: 2, Time: at, Transport: "wss", Cause: `it said "no"`, Session: "18", DurationMs: 1500, Frozen: true},
		{Device: "deleted", Version: 3, Time: at},
	}
	if err := r.Tell(t.Context(), changes, 0); err != nil {
		t.Fatal(err)
	}
	slices.Sort(j.lines)
	want := []string{
		"a presence 1700000000123 0 [online=0:3 session=170:2 transport=mqtt0:2]",
		`b presence 1700000000123 0 [cause=it said "no"0:2 duration_s=1.5:1 frozen=0:3 online=0:4 session=180:2 transport=wss0:2]`,
	}
	if !slices.Equal(j.lines, want) {
		t.Errorf("%q", j.lines)
	}
	j.fails = errAway
	if err := r.Tell(t.Context(), changes, 0); !errors.Is(err, errAway) {
		t.Errorf("not durable: %v", err)
	}
}
