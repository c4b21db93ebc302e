package store_test

import (
	"fmt"
	"testing"
)

// BenchmarkEmbeddedWrite writes batches of 5,000 readings of 4 fields by 100 devices, each fsynced.
func BenchmarkEmbeddedWrite(b *testing.B) {
	const lines, devices = 5000, 100
	s := openEmbedded(b, b.TempDir(), 0)
	ms := t0
	var batch []byte
	for b.Loop() {
		batch = batch[:0]
		for k := range lines {
			batch = fmt.Appendf(batch, "telemetry,device=d%d Temp=%d.25,RH=%d.5,Light=%d,n=%d %d000000\n", k%devices, k%40, k%100, k, ms, ms)
			if k%devices == devices-1 {
				ms++
			}
		}
		if err := s.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*lines/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(float64(b.N)*lines*4/b.Elapsed().Seconds(), "values/s")
}
