package rollouts_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/commands/rollouts"
)

// counted is a bucket that counts its writes.
type counted struct {
	jetstream.KeyValue
	writes, bytes atomic.Int64
}

func (c *counted) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	c.writes.Add(1)
	c.bytes.Add(int64(len(value)))
	return c.KeyValue.Put(ctx, key, value)
}

// BenchmarkRollout is a command to 10,000 devices that answer at once, in ten waves, on a real disk: what it takes
// beside the ledger's own writes, and what it holds in memory when all are out.
func BenchmarkRollout(b *testing.B) {
	const devices = 10_000
	ledger, bucket := buckets(b)
	kv := &counted{KeyValue: bucket}
	f := newFleet(devices)
	h := open(b, ledger, kv, f, rollouts.Config{})
	size := rollouts.Amount{Percent: 10}
	for b.Loop() {
		before := heap()
		made := h.create(b, rollouts.Request{Waves: rollouts.Waves{Sizes: []rollouts.Amount{size}}})
		b.ReportMetric(float64(heap()-before)/devices, "B/device")
		if end := h.until(b, made.ID, rollouts.Done); end.Counts["done"] != devices {
			b.Fatal(end.Counts)
		}
	}
	b.ReportMetric(float64(kv.writes.Load())/float64(b.N), "writes/rollout")
	b.ReportMetric(float64(kv.bytes.Load())/float64(b.N)/devices, "B-written/device")
	b.ReportMetric(devices*float64(b.N)/b.Elapsed().Seconds(), "devices/s")
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
