package readings

import (
	"math"
	"strconv"
)

// MaxRun bounds a run's number: it is stored as float64, which holds integers exactly up to 2^53.
const MaxRun = 1 << 48

// waveLength is the number of steps of a whole wave in the table.
const waveLength = 1024

// Wave is a table of one sine wave in thousandths, made once and shared by all devices.
type Wave [waveLength]int16

// NewWave computes the table.
func NewWave() *Wave {
	var w Wave
	for i := range w {
		w[i] = int16(math.Round(1000 * math.Sin(2*math.Pi*float64(i)/waveLength)))
	}
	return &w
}

// Synth is a made-up device: slow waves of temperature and humidity, each device's own, with noise, and a vibration
// that is noise; beside them its number n and the run.
type Synth struct {
	wave *Wave
	seed uint64
	run  uint64
}

// NewSynth makes the device of that index. The same seed and index give the same values in each run.
func NewSynth(wave *Wave, seed, index, run uint64) *Synth {
	return &Synth{wave: wave, seed: mix(seed + index*0x9e3779b97f4a7c15), run: run}
}

// Names says the fields.
func (*Synth) Names() []string {
	return []string{"temperature", "humidity", "vibration", FieldNumber, FieldRun}
}

// Values appends the values of reading n.
func (s *Synth) Values(dst []float64, n uint64) []float64 {
	temperature, humidity, vibration := s.sample(n)
	return append(dst, float64(temperature)/1e2, float64(humidity)/1e2, float64(vibration)/1e6, float64(n), float64(s.run))
}

// AppendValues appends the JSON object of reading n.
func (s *Synth) AppendValues(dst []byte, n uint64) []byte {
	temperature, humidity, vibration := s.sample(n)
	dst = append(dst, `{"temperature":`...)
	dst = appendFixed(dst, temperature, 2)
	dst = append(dst, `,"humidity":`...)
	dst = appendFixed(dst, humidity, 2)
	dst = append(dst, `,"vibration":`...)
	dst = appendFixed(dst, vibration, 6)
	dst = append(dst, `,"n":`...)
	dst = strconv.AppendUint(dst, n, 10)
	dst = append(dst, `,"run":`...)
	dst = strconv.AppendUint(dst, s.run, 10)
	return append(dst, '}')
}

// sample gives temperature and humidity in hundredths (15.9 to 26.1 °C, 34.9 to 65.1 %), vibration in millionths of g.
func (s *Synth) sample(n uint64) (temperature, humidity, vibration int64) {
	noise := mix(s.seed + n)
	step := s.seed + n // each device begins elsewhere on the wave
	temperature = 2100 + int64(s.wave[step%waveLength])/2 + int64(noise&0xf) - 8
	humidity = 5000 + 3*int64(s.wave[(step/3+300)%waveLength])/2 + int64(noise>>4&0xf) - 8
	vibration = int64(noise>>16&0xfffff) - 1<<19
	return temperature, humidity, vibration
}

// mix is splitmix64 (Steele, Lea, Flood 2014): a cheap hash of 64 bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
