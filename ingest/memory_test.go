package ingest

import (
	"fmt"
	"runtime"
	"testing"

	"telemetryhub/wire"
)

// TestMemoryOfADeviceIsBounded measures what ingest remembers of a device, for ever, whether it is connected or not: its
// numbers ahead of the writer and behind it, its names and its newest values. docs/performance.md has the figures.
func TestMemoryOfADeviceIsBounded(t *testing.T) {
	for _, c := range []struct {
		name          string
		devices       int
		boots, pieces int
		fields        int
		most          uint64 // bytes
	}{
		{"one boot in order, 4 fields", 1000, 1, 1, 4, 2 << 10},
		{"8 boots, a gap in each, 8 fields", 1000, maxBoots, 2, 8, 5 << 10},
		{"as many gaps as there may be, 4 fields", 50, maxBoots, 2 * maxSpans, 4, 40 << 10},
		{"and as many fields", 20, maxBoots, 2 * maxSpans, maxNames, 320 << 10},
	} {
		before := heap()
		all := &arrivals{byDevice: map[string]*arrival{}}
		accounts := map[string]*account{}
		latest := &Latest{}
		r := wire.Reading{Time: received, Clock: wire.ClockGiven}
		for i := range c.fields {
			r.Fields = append(r.Fields, wire.Field{Name: fmt.Appendf(nil, "field-%d", i), Kind: wire.Float, Number: 1})
		}
		for i := range c.devices {
			device := fmt.Sprintf("device-%06d", i)
			arrived, a := all.of(device), &account{device: device}
			accounts[device] = a
			for b := range c.boots {
				boot := fmt.Sprintf("boot-%02d-%06d", b, i)
				for piece := range c.pieces {
					seq := uint64(2*piece + 1) // each second number is missing
					all.commit([]mark{{of: arrived, boot: boot, last: seq, count: 1}})
					a.judge([]byte(boot), seq)
				}
			}
			for from := 0; from < c.fields; from += wire.MaxFields {
				arrived.names.admit(nil, r.Fields[from:min(from+wire.MaxFields, c.fields)], nameLimit{of: of(maxNames)})
			}
			latest.note(device, nil, &r)
		}
		each := (heap() - before) / uint64(c.devices)
		t.Logf("%s: %d bytes a device, %d MB for 100,000", c.name, each, each*100_000>>20)
		if each > c.most {
			t.Errorf("%s: %d bytes a device are more than %d", c.name, each, c.most)
		}
		runtime.KeepAlive(all)
		runtime.KeepAlive(accounts)
		runtime.KeepAlive(latest)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
