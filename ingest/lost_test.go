package ingest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/wire"
)

// lostBus has only what was left of damaged envelopes.
type lostBus struct {
	Bus
	left [][]byte
}

func (b lostBus) LostEnvelopes() ([][]byte, func() error, error) { return b.left, nil, nil }

func (lostBus) JetStream() jetstream.JetStream { return nil }

// What a burst leaves of an envelope says of each device how much was in it, rarely less and hardly ever more.
func TestWhatABurstLeavesSaysHowMuchIsLost(t *testing.T) {
	over, under, total := 0, 0, 0
	for range 2000 {
		in := &Ingest{arrivals: &arrivals{byDevice: map[string]*arrival{}}}
		truth := map[string]uint64{}
		data := appendHeader(nil, rand.Uint64(), 5)
		for i := range 8 {
			d := fmt.Sprintf("sim-%05d", i)
			a := in.arrivals.of(d)
			a.received = uint64(rand.IntN(5000))
			prior := a.received
			for range 1 + rand.IntN(2) {
				n := 1
				if rand.IntN(3) == 0 {
					n = 1 + rand.IntN(20)
				}
				tm := &wire.Telemetry{Boot: []byte("b1234567"), Seq: prior + 1}
				for k := range n {
					tm.Readings = append(tm.Readings, wire.Reading{Time: received + int64(k), Fields: []wire.Field{{Name: []byte("n"), Number: float64(k)}, {Name: []byte("sim_batch"), Number: 3.7}}})
				}
				data = appendReadings(data, origin{device: d, prior: prior, received: received}, tm)
				prior += uint64(n)
			}
			truth[d] = prior
		}
		data = seal(data)
		at := rand.IntN(len(data))
		for i := at; i < min(len(data), at+1+rand.IntN(64)); i++ {
			data[i] = byte(rand.IntN(256))
		}
		if _, _, err := in.recallLost(lostBus{left: [][]byte{data}}); err != nil {
			t.Fatal(err)
		}
		for d, want := range truth {
			got := in.arrivals.of(d).received
			total++
			switch {
			case got > want:
				over++
			case got < want:
				under++
			}
		}
	}
	// The burst hits one or two of eight devices; of most of these it leaves enough.
	if over > total/500 || under > total/20 {
		t.Errorf("of %d devices %d are said to have lost too much and %d too little", total, over, under)
	}
}
