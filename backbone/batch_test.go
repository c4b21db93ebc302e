package backbone_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"telemetryhub/backbone"
)

func TestABatchIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the second time over what the first declared
		b := open(t, dir)
		kv, err := b.Bucket(t.Context(), backbone.Commands)
		if err != nil {
			t.Fatal(err)
		}
		batch := b.Batch(backbone.Commands)
		stamp := time.Now().UnixNano()
		var keys []string
		var values [][]byte
		for i := range 100 {
			keys = append(keys, fmt.Sprintf("K%d-%d", stamp, i))
			values = append(values, fmt.Appendf(nil, "value %d", i))
		}
		last, err := batch.PutAll(t.Context(), keys, values, make([]uint64, 100))
		if err != nil {
			t.Fatal(err)
		}
		revisions := make([]uint64, 100)
		for i, key := range keys {
			e, err := kv.Get(t.Context(), key)
			if err != nil || string(e.Value()) != string(values[i]) || e.Revision() != last-99+uint64(i) {
				t.Fatalf("record %d is %v, %v; the batch ended with revision %d", i, e, err, last)
			}
			revisions[i] = e.Revision()
		}
		revisions[50]-- // somebody else was first
		for i := range values {
			values[i] = []byte("changed")
		}
		if _, err := batch.PutAll(t.Context(), keys, values, revisions); err == nil {
			t.Error("a record of another revision was written over")
		}
		if e, err := kv.Get(t.Context(), keys[0]); err != nil || string(e.Value()) != "value 0" {
			t.Errorf("of a batch that failed a part was written: %s, %v", e.Value(), err)
		}
		if _, err := batch.PutAll(t.Context(), nil, nil, nil); err == nil {
			t.Error("a batch of nothing")
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkLedgerWrites writes records of a command's size, one by one and in batches.
func BenchmarkLedgerWrites(b *testing.B) {
	value := make([]byte, 600)
	for _, size := range []int{1, 4, 16, 64, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			bus, err := backbone.Open(b.Context(), backbone.Config{Dir: b.TempDir()}, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			defer bus.Close()
			batch, n := bus.Batch(backbone.Commands), 0
			for b.Loop() {
				keys, values, revisions := make([]string, size), make([][]byte, size), make([]uint64, size)
				for i := range size {
					n++
					keys[i], values[i] = fmt.Sprint("k", n), value
				}
				if _, err := batch.PutAll(context.Background(), keys, values, revisions); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
