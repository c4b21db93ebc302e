package ingest

import (
	"slices"
	"sync"

	"telemetryhub/wire"
)

// arrivals is what is known of devices ahead of the writer: what has been committed, and the clock that gives readings
// without a time one of their own. Append uses it under the journal's lock; others take mu.
type arrivals struct {
	mu       sync.Mutex
	byDevice map[string]*arrival
}

type arrival struct {
	device   string
	received uint64    // readings and refused frames that are durable
	boots    []numbers // what is durable of each, flawed readings too; the one used last at the end

	// Of the journal's lock.
	appended uint64 // readings and refused frames that the journal was given
	clock    int64  // the last time that was given to a reading without one, Unix ms
	top      int64  // the latest time of its readings, Unix ms
	names    names  // that its readings bear; of the journal's lock
	pace     arrivalPace
}

// of returns the device's arrival, made if need be.
func (a *arrivals) of(device string) *arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.byDevice[device]
	if d == nil {
		d = &arrival{device: device}
		a.byDevice[device] = d
	}
	return d
}

// durable returns the last durable number of a device's boot, and the gaps below it.
func (a *arrivals) durable(device, boot string) (last uint64, gaps [][2]uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := a.byDevice[device]; d != nil {
		for i := range d.boots {
			if n := &d.boots[i]; n.Boot == boot {
				return n.last(), n.gaps()
			}
		}
	}
	return 0, nil
}

// commit notes what became durable.
func (a *arrivals) commit(marks []mark) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range marks {
		m := &marks[i]
		m.of.received += m.count
		if m.last > 0 && m.boot != "" {
			m.of.numbersOf(m.boot).add(m.last-m.count+1, m.last)
		}
	}
}

// numbersOf returns the boot's numbers, made if need be, and puts them to the end. It needs arrivals.mu.
func (d *arrival) numbersOf(boot string) *numbers {
	if last := len(d.boots) - 1; last >= 0 && d.boots[last].Boot == boot {
		return &d.boots[last]
	}
	n := numbers{Boot: boot}
	if i := slices.IndexFunc(d.boots, func(o numbers) bool { return o.Boot == boot }); i >= 0 {
		n = d.boots[i]
		d.boots = slices.Delete(d.boots, i, i+1)
	} else if len(d.boots) == maxBoots {
		d.boots = slices.Delete(d.boots, 0, 1)
	}
	d.boots = append(d.boots, n)
	return &d.boots[len(d.boots)-1]
}

// mark is one frame within a commit.
type mark struct {
	of    *arrival
	boot  string
	last  uint64 // number of its last reading
	count uint64 // of its readings, or 1 refused frame
}

// bootOf returns boot as the text that is already there, where it is.
func (d *arrival) bootOf(boot []byte) string {
	if n := len(d.boots); n > 0 && d.boots[n-1].Boot == string(boot) {
		return d.boots[n-1].Boot
	}
	return string(boot)
}

// timeReadings gives each reading its time, or the flaw that its time is beyond the limits. Readings without a time
// get that of their receipt, each its own millisecond: two of them never overwrite each other in the store. It reports
// whether there were such readings. names bounds the fields of the device.
func (d *arrival) timeReadings(t *wire.Telemetry, received int64, limits TimeLimits, names func(device string) int) (clocked bool) {
	for i := range t.Readings {
		r := &t.Readings[i]
		if r.Flaw != "" {
			continue
		}
		switch r.Clock {
		case wire.ClockNone:
			d.clock = max(received, d.clock+1)
			r.Time = d.clock
			clocked = true
		case wire.ClockAge:
			r.Time = received - r.Time
		}
		r.Clock = wire.ClockGiven
		switch {
		case !d.names.admit(t.Measurement, r.Fields, nameLimit{names, d.device}):
			r.Flaw = wire.ReasonTooManyNames
		case r.Time < limits.Past.UnixMilli():
			r.Flaw = wire.ReasonTimePast
		case r.Time > received+limits.Future.Milliseconds():
			r.Flaw = wire.ReasonTimeFuture
		default:
			d.top = max(d.top, r.Time)
		}
	}
	return clocked
}
