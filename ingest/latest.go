package ingest

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"

	"telemetryhub/wire"
)

// Value is a field's newest value: number (float64), string or bool, and when it was measured, Unix ms.
type Value struct {
	Value any
	Time  int64
}

// Latest is the newest value of each field of a device's home measurement, by the time of its measuring. It is a cache: it
// knows a device wholly once Seed has told what the store has. The zero value knows none.
type Latest struct {
	home     func(device string) string // "": the default measurement; nil: that for all
	mu       sync.RWMutex
	byDevice map[string]*latestOf
}

type latestOf struct {
	home   string // measurement that the fields are of
	fields map[string]*latestField
	seeded bool
}

// latestField is a Value that is boxed only when somebody asks: noting a number allocates nothing.
type latestField struct {
	time   int64
	stored any // as the store gave it; nil: it is what was noted
	kind   wire.FieldKind
	number float64
	text   string
}

func (f *latestField) set(field *wire.Field, when int64) {
	f.time, f.stored, f.kind, f.number = when, nil, field.Kind, field.Number
	if f.text != string(field.Text) {
		f.text = string(field.Text)
	}
}

func (f *latestField) value() Value {
	switch {
	case f.stored != nil:
		return Value{Value: f.stored, Time: f.time}
	case f.kind == wire.String:
		return Value{Value: f.text, Time: f.time}
	}
	return Value{Value: valueOf(&wire.Field{Kind: f.kind, Number: f.number}), Time: f.time}
}

// note takes the fields of a reading that goes to the store.
func (l *Latest) note(device string, measurement []byte, r *wire.Reading) {
	if string(measurement) == wire.DefaultMeasurement {
		measurement = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.of(device)
	if string(measurement) != d.home {
		if l.homeOf(device) != string(measurement) {
			return
		}
		delete(l.byDevice, device) // its type has changed
		d = l.of(device)
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		known := d.fields[string(f.Name)]
		if known == nil {
			known = &latestField{time: math.MinInt64}
			d.makeRoom()
			d.fields[string(f.Name)] = known
		}
		if r.Time >= known.time {
			known.set(f, r.Time)
		}
	}
}

// maxLatest is how many fields of a device are kept: one that makes up names would fill the memory.
const maxLatest = 1024

// makeRoom drops, where there is none, an eighth of the fields, those that were measured longest ago, so that the search
// for them is paid by many.
func (d *latestOf) makeRoom() {
	if len(d.fields) < maxLatest {
		return
	}
	names := slices.SortedFunc(maps.Keys(d.fields), func(a, b string) int { return cmp.Compare(d.fields[a].time, d.fields[b].time) })
	for _, name := range names[:maxLatest/8] {
		delete(d.fields, name)
	}
}

// Forget drops what is known of a device that was deleted.
func (l *Latest) Forget(device string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byDevice, device)
}

// of needs mu.
func (l *Latest) of(device string) *latestOf {
	d := l.byDevice[device]
	if d == nil {
		if l.byDevice == nil {
			l.byDevice = map[string]*latestOf{}
		}
		d = &latestOf{home: l.homeOf(device), fields: map[string]*latestField{}}
		l.byDevice[device] = d
	}
	return d
}

func (l *Latest) homeOf(device string) string {
	if l.home == nil {
		return ""
	}
	if home := l.home(device); home != wire.DefaultMeasurement {
		return home
	}
	return ""
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
	for name, f := range d.fields {
		values[name] = f.value()
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
		if known := d.fields[name]; known == nil || v.Time > known.time {
			d.makeRoom()
			d.fields[name] = &latestField{time: v.Time, stored: v.Value}
		}
	}
}
