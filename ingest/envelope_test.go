package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"telemetryhub/wire"
)

// randomTelemetry makes a frame of any shape, with its times already given.
func randomTelemetry(r *rand.Rand) *wire.Telemetry {
	text := func(most int) []byte {
		b := make([]byte, r.IntN(most+1))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return b
	}
	t := &wire.Telemetry{Boot: text(70), Measurement: text(130), Seq: r.Uint64N(wire.MaxSeq) >> r.IntN(53)}
	for range 1 + r.IntN(5) {
		reading := wire.Reading{Time: r.Int64N(1e15) - r.Int64N(1e15), Clock: wire.ClockGiven}
		if r.IntN(4) == 0 {
			reading = wire.Reading{Flaw: wire.ReasonBadValue, Raw: text(200)}
		} else {
			for range r.IntN(6) {
				f := wire.Field{Name: text(20), Kind: wire.FieldKind(1 + r.IntN(4))}
				switch f.Kind {
				case wire.Float:
					f.Number = math.Float64frombits(r.Uint64())
					if math.IsNaN(f.Number) {
						f.Number = math.Inf(-1)
					}
				case wire.String:
					f.Text = text(300)
				}
				reading.Fields = append(reading.Fields, f)
			}
		}
		t.Readings = append(t.Readings, reading)
	}
	return t
}

// equal compares readings; an absent text and an empty one are the same.
func equal(a, b *wire.Reading) bool {
	return a.Flaw == b.Flaw && bytes.Equal(a.Raw, b.Raw) && a.Time == b.Time && slices.EqualFunc(a.Fields, b.Fields, func(a, b wire.Field) bool {
		return bytes.Equal(a.Name, b.Name) && bytes.Equal(a.Text, b.Text) && a.Kind == b.Kind && math.Float64bits(a.Number) == math.Float64bits(b.Number)
	})
}

func TestAnEnvelopeGivesBackWhatWasPutIn(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		run, number := r.Uint64(), r.Uint64()>>r.IntN(64)
		data := appendHeader(nil, run, number)
		var frames []*wire.Telemetry
		var origins []origin
		for range r.IntN(20) {
			o := origin{device: fmt.Sprintf("d%d", r.IntN(3)), prior: r.Uint64() >> r.IntN(64), received: r.Int64N(1e14), clock: r.Uint64N(1000)}
			var f *wire.Telemetry
			if r.IntN(4) == 0 {
				data = appendRefusal(data, o, "bad_json", o.prior%7)
			} else {
				f = randomTelemetry(r)
				data = appendReadings(data, o, f)
			}
			frames, origins = append(frames, f), append(origins, o)
		}
		env, err := openEnvelope(seal(data))
		if err != nil || env.run != run || env.number != number {
			t.Fatalf("seed %d: %v, run %d number %d", seed, err, env.run, env.number)
		}
		var e entry
		var got wire.Reading
		for i, f := range frames {
			o := origins[i]
			if !env.next(&e) || string(e.device) != o.device || e.prior != o.prior || e.received != o.received {
				t.Fatalf("seed %d: entry %d is %+v; want %+v", seed, i, e, o)
			}
			if f == nil {
				if e.kind != entryRefusal || string(e.reason) != "bad_json" || e.count != o.prior%7 {
					t.Fatalf("seed %d: refusal %+v", seed, e)
				}
				continue
			}
			if e.kind != entryReadings || string(e.boot) != string(f.Boot) || string(e.measurement) != string(f.Measurement) || e.seq != f.Seq ||
				e.count != uint64(len(f.Readings)) || (o.clock == 0) != (e.clock == 0) || (o.clock > 0 && e.clock != o.received+int64(o.clock)-1) {
				t.Fatalf("seed %d: entry %+v of %+v", seed, e, f)
			}
			for k := range f.Readings {
				if !e.reading(&got) || !equal(&got, &f.Readings[k]) {
					t.Fatalf("seed %d: reading\n%+v\nwant\n%+v", seed, got, f.Readings[k])
				}
			}
			if e.reading(&got) {
				t.Fatalf("seed %d: a reading too many", seed)
			}
		}
		if env.next(&e) {
			t.Fatalf("seed %d: an entry too many", seed)
		}
	}
}

func sampleEnvelope(t testing.TB) []byte {
	data := appendHeader(nil, 7, 3)
	frame := telemetry(t, `{"boot":"b","seq":5,"readings":[{"ts":1,"values":{"a":1.5,"b":"x","c":true}},{"values":[]}]}`)
	data = appendReadings(data, origin{device: "a", prior: 4, received: received, clock: 1}, frame)
	return seal(appendRefusal(data, origin{device: "a", prior: 6, received: received}, "bad_json", 1))
}

func TestEachDamagedByteIsFound(t *testing.T) {
	good := sampleEnvelope(t)
	if _, err := openEnvelope(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			if _, err := openEnvelope(bad); !errors.Is(err, errDamaged) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
		if _, err := openEnvelope(good[:i]); !errors.Is(err, errDamaged) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
}

func TestAnEnvelopeOfALaterVersionIsNamed(t *testing.T) {
	later := sampleEnvelope(t)
	later = later[:len(later)-checksumSize]
	later[2]++
	if _, err := openEnvelope(seal(later)); err == nil || errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "version 2") {
		t.Fatalf("a later version: %v", err)
	}
}

// TestLongEntriesKeepTheirLength goes over each size of the entry's length.
func TestLongEntriesKeepTheirLength(t *testing.T) {
	for _, size := range []int{0, 100, 1 << 7, 1 << 14, 1<<21 - 3, 1<<21 + 5} {
		data := appendHeader(nil, 1, 1)
		data = appendReadings(data, origin{device: "a"}, &wire.Telemetry{Readings: []wire.Reading{{Flaw: "f", Raw: make([]byte, size)}}})
		data = appendRefusal(data, origin{device: "b"}, "r", 1)
		env, err := openEnvelope(seal(data))
		if err != nil {
			t.Fatal(err)
		}
		var e entry
		var r wire.Reading
		if !env.next(&e) || !e.reading(&r) || len(r.Raw) != size || !env.next(&e) || string(e.device) != "b" || env.next(&e) {
			t.Fatalf("an entry of %d bytes is not read back: %+v", size, e)
		}
	}
}

// FuzzEnvelope reads anything that has a right checksum: it neither panics nor takes memory beyond the envelope's.
func FuzzEnvelope(f *testing.F) {
	good := sampleEnvelope(f)
	f.Add(good[headerSize : len(good)-checksumSize])
	f.Add([]byte{})
	f.Add([]byte{1, 5, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, body []byte) {
		openEnvelope(body)
		data := append(appendHeader(nil, 1, 1)[:headerSize], body...)
		env, err := openEnvelope(binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli)))
		if err != nil {
			return
		}
		var e entry
		var r wire.Reading
		for entries := 0; env.next(&e); entries++ {
			if entries > len(body) {
				t.Fatal("more entries than bytes")
			}
			for n := uint64(0); n < e.count && e.reading(&r); n++ {
				if n > uint64(len(body)) || len(r.Fields) > len(body) {
					t.Fatalf("%d readings, one of %d fields, from %d bytes", n, len(r.Fields), len(body))
				}
				if line := appendLine(nil, e.device, e.measurement, &r, nil, e.stamp(e.seq, &r)); len(line) > 64*(len(body)+1) {
					t.Fatalf("a line of %d bytes from %d", len(line), len(body))
				}
			}
		}
	})
}
