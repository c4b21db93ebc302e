package ingest

import (
	"sync"

	"telemetryhub/wire"
)

// Value is a field's newest value: number (float64), string or bool, and when it was measured, Unix ms.
type Value struct {
	Value any
	Time  int64
}

// Latest is the newest value of each field of the default measurement, by the time of its measuring. It is a cache: it
// knows a device wholly once Seed has told what the store has.
type Latest struct {
	mu       sync.RWMutex
	byDevice map[string]*latestOf
}

type latestOf struct {
	fields map[string]Value
	seeded bool
}

// note takes the fields of a reading that goes to the store.
func (l *Latest) note(device string, measurement []byte, r *wire.Reading) {
	if len(measurement) > 0 && string(measurement) != wire.DefaultMeasurement {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.of(device)
	for i := range r.Fields {
		f := &r.Fields[i]
		if old, ok := d.fields[string(f.Name)]; !ok || r.Time >= old.Time {
			d.fields[string(f.Name)] = Value{Value: valueOf(f), Time: r.Time}
		}
	}
}

// of needs mu.
func (l *Latest) of(device string) *latestOf {
	d := l.byDevice[device]
	if d == nil {
		d = &latestOf{fields: map[string]Value{}}
		l.byDevice[device] = d
	}
	return d
}

// Get returns the device's newest values, and whether older ones may be in the store only.
func (l *Latest) Get(device string) (values map[string]Value, complete bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	d := l.byDevice[device]
	if d == nil {
		return nil, false
	}
	values = make(map[string]Value, len(d.fields))
	for name, v := range d.fields {
		values[name] = v
	}
	return values, d.seeded
}

// Seed adds what the store has of the device; newer values stay.
func (l *Latest) Seed(device string, stored map[string]Value) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.of(device)
	d.seeded = true
	for name, v := range stored {
		if old, ok := d.fields[name]; !ok || v.Time > old.Time {
			d.fields[name] = v
		}
	}
}
