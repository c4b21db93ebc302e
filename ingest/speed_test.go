package ingest

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/wire"
)

const fourFields = `{"boot":"2024-01-01T00:00:00Z","seq":1,"ts":1700000000000,"values":{"Temp":21.25,"RelH":40.5,"L1":311,"Occ":true}}`

// sender is a device's connection: it decodes a frame and appends it, again and again to the same empty envelope.
type sender struct {
	decoder wire.Decoder
	frame   wire.Telemetry
	payload []byte
}

func (s *sender) send(t testing.TB, j *journal, r wire.Waiter) {
	if err := s.decoder.DecodePayload(s.payload, &s.frame); err != nil {
		t.Fatal(err)
	}
	j.durable = j.open.gen
	j.reuse(j.open, j.open.gen+1)
	j.newRound()
	if _, err := j.append(t.Context(), "node-17", &s.frame, received, r); err != nil {
		t.Fatal(err)
	}
	j.arrivals.commit(j.open.marks)
}

type nobody struct{}

func (nobody) Join(uint64) bool        { return true }
func (nobody) Committed(uint64, error) {}

// stillJournal is a journal whose commits are not published.
func stillJournal() *journal {
	j := &journal{arrivals: &arrivals{byDevice: map[string]*arrival{}}, limits: testConfig().Times, names: of(maxNames), room: 1 << 20, most: 1 << 20}
	j.pace = newPace(newMetrics(prometheus.NewRegistry()))
	j.changed.L = &j.mu
	j.open = j.reuse(&batch{}, 1)
	return j
}

// readyWriter is a writer with an envelope of one reading in each of frames frames, new each time.
func readyWriter(frames int) (w *writer, next func() []byte) {
	w = &writer{accounts: map[string]*account{}, runs: map[uint64]uint64{}, latest: &Latest{}, log: quiet(), dirty: map[string]bool{}}
	w.types = &fieldTypes{by: map[string]*measurementTypes{"telemetry": {Fields: map[string]FieldType{
		"Temp": FloatField, "RelH": FloatField, "L1": IntegerField, "Occ": BooleanField,
	}}}}
	var d wire.Decoder
	var t wire.Telemetry
	var data []byte
	number, seq := uint64(0), uint64(0)
	devices := make([]string, 12)
	prior := make([]uint64, 12)
	for i := range devices {
		devices[i] = fmt.Sprintf("node-%d", i)
	}
	return w, func() []byte {
		if err := d.DecodePayload([]byte(fourFields), &t); err != nil {
			return nil
		}
		number++
		data = appendHeader(data[:0], 1, number)
		for range frames / len(devices) {
			seq++
			t.Seq = seq
			for i, device := range devices {
				data = appendReadings(data, origin{device: device, prior: prior[i], received: received}, &t)
				prior[i]++
			}
		}
		data = seal(data)
		return data
	}
}

// settle does what deliver does once the store has taken the batch.
func (w *writer) settle() {
	for _, a := range w.work.of {
		a.batch.Stored = a.batch.Received
		a.add(a.batch)
		a.batch = Counts{}
	}
	w.work.reset()
}

func TestAppendingAReadingAllocatesNothing(t *testing.T) {
	s, j := &sender{payload: []byte(fourFields)}, stillJournal()
	s.send(t, j, nobody{})
	if n := testing.AllocsPerRun(1000, func() { s.send(t, j, nobody{}) }); n > 0 {
		t.Errorf("%v allocations a frame of four fields", n)
	}
}

func TestUnpackingAReadingAllocatesNothing(t *testing.T) {
	w, next := readyWriter(1200)
	w.unpack(t.Context(), t.Context(), next(), 1)
	w.settle()
	n := testing.AllocsPerRun(20, func() {
		w.unpack(t.Context(), t.Context(), next(), 2)
		w.settle()
	})
	if n > 12 { // an envelope of 1200 readings
		t.Errorf("%v allocations an envelope of 1200 readings", n)
	}
	if c := w.accounts["node-3"].Counts; c.Received != c.Stored || c.Stored < 2000 {
		t.Errorf("counts %+v", c)
	}
}

func BenchmarkAppend(b *testing.B) {
	s, j := &sender{payload: []byte(fourFields)}, stillJournal()
	b.ReportAllocs()
	for b.Loop() {
		s.send(b, j, nobody{})
	}
}

func BenchmarkEncode(b *testing.B) {
	frame := telemetry(b, fourFields)
	var data []byte
	b.ReportAllocs()
	for b.Loop() {
		data = appendReadings(data[:0], origin{device: "node-17", prior: 1 << 20, received: received}, frame)
	}
	b.ReportMetric(float64(len(data)), "bytes/reading")
}

// BenchmarkUnpack is per reading, from the envelope to lines and counts; the store is not in it.
func BenchmarkUnpack(b *testing.B) {
	const readings = 1200
	w, next := readyWriter(readings)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		b.StopTimer()
		data := next()
		b.StartTimer()
		w.unpack(b.Context(), b.Context(), data, 1)
		w.settle()
		n += readings
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/reading")
}
