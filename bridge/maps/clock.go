package maps

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"telemetryhub/wire"
)

// clock reads the time of a payload.
type clock struct {
	from   taken
	format string
	layout string         // of a format that is neither iso nor a unit
	zone   *time.Location // nil: times that name none are none
	orElse bool           // of what is no time, that of its receipt
}

// The time zone, and what becomes of what is no time.
const (
	zoneNone       = "none"
	elseQuarantine = "quarantine"
	elseReceipt    = "receipt"
)

// formats are the units of numbers, in ms.
func unitOf(format string) (ms float64, age, ok bool) {
	switch format {
	case "s":
		return 1000, false, true
	case "ms":
		return 1, false, true
	case "us":
		return 1e-3, false, true
	case "ns":
		return 1e-6, false, true
	case "age_s":
		return 1000, true, true
	case "age_ms":
		return 1, true, true
	}
	return 0, false, false
}

func compileClock(c Clock) (clock, string, error) {
	k := clock{format: c.TimeFormat, zone: time.UTC}
	var err error
	if k.from, err = optional(c.Time); err != nil {
		return k, "time", err
	}
	if k.orElse = c.TimeElse == elseReceipt; !k.orElse && c.TimeElse != "" && c.TimeElse != elseQuarantine {
		return k, "time_else", fmt.Errorf("%q is not quarantine or receipt", c.TimeElse)
	}
	if c.TimeZone == zoneNone {
		k.zone = nil
	} else if c.TimeZone != "" {
		if k.zone, err = time.LoadLocation(c.TimeZone); err != nil || c.TimeZone == "Local" {
			return k, "time_zone", fmt.Errorf("%q is not a time zone such as Europe/Berlin", c.TimeZone)
		}
	}
	if c.Time == "" && (c.TimeFormat != "" || c.TimeZone != "" || c.TimeElse != "") {
		return k, "time_format", errors.New("is of no use without time")
	}
	if k.format == "" {
		k.format = "iso"
	}
	if _, _, isUnit := unitOf(k.format); isUnit || k.format == "iso" {
		return k, "", nil
	}
	// A layout that says nothing of the day would make times of the year 0.
	k.layout = k.format
	a, b := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), time.Date(2012, 11, 14, 15, 16, 17, 0, time.UTC)
	if a.Format(k.layout) == b.Format(k.layout) || !strings.Contains(k.layout, "06") {
		return k, "time_format", fmt.Errorf("%q is not iso, s, ms, us, ns, age_s, age_ms or a layout of Go with year and day, such as 2006-01-02 15:04:05", k.format)
	}
	return k, "", nil
}

// append appends the members of telemetry that tell the time. A time that cannot be read is written so that its reading
// is quarantined as bad_time, with what was received in it.
func (k *clock) append(dst []byte, f *facts) ([]byte, error) {
	v, err := k.from.of(f)
	if err != nil {
		return dst, fmt.Errorf("time: %w", err)
	}
	if !v.isThere() {
		return dst, nil
	}
	if ms, age, isUnit := unitOf(k.format); isUnit {
		n, err := strconv.ParseFloat(strings.TrimSpace(string(v.text)), 64)
		n = math.Round(n * ms)
		if err != nil || !(math.Abs(n) <= 1e15) || v.kind != number && v.kind != text || k.isUnset(int64(n), age) {
			return k.appendBad(dst, v), nil
		}
		name := `"ts":`
		if age {
			name = `"age_ms":`
		}
		return append(strconv.AppendInt(append(dst, name...), int64(n), 10), ','), nil
	}
	at, ok := k.parse(string(v.text))
	if v.kind != text || !ok || k.isUnset(at.UnixMilli(), false) {
		return k.appendBad(dst, v), nil
	}
	dst = append(dst, `"ts":`...)
	return append(strconv.AppendInt(dst, at.UnixMilli(), 10), ','), nil
}

func (k *clock) appendBad(dst []byte, v value) []byte {
	if k.orElse {
		return dst
	}
	dst = append(dst, `"ts":`...)
	dst = wire.AppendQuoted(dst, append([]byte("not a time: "), v.text...))
	return append(dst, ',')
}

// isUnset reports whether a time is that of a clock that nobody has set, where it is not to be used.
func (k *clock) isUnset(ms int64, age bool) bool {
	return k.orElse && !age && ms < earliest
}

// earliest is the first time that readings may have (2000-01-01), in ms.
const earliest = 946_684_800_000

// parse reads a time. One that names no zone is of the map's.
func (k *clock) parse(s string) (time.Time, bool) {
	if k.layout != "" {
		return k.local(k.layout, s)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999 -0700"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if at, ok := k.local(layout, s); ok {
			return at, true
		}
	}
	return time.Time{}, false
}

// local reads a time by a layout. A clock that is set back shows an hour twice: the first is meant. A clock that is set
// forward never shows the hour that it leaves out: that is no time.
func (k *clock) local(layout, s string) (time.Time, bool) {
	if hasZone(layout) {
		zone := k.zone
		if zone == nil {
			zone = time.UTC
		}
		at, err := time.ParseInLocation(layout, s, zone)
		return at, err == nil
	}
	wall, err := time.Parse(layout, s)
	if err != nil || k.zone == nil {
		return time.Time{}, false
	}
	const day = 24 * time.Hour // no zone changes its clock twice in two days
	for _, near := range []time.Time{wall.Add(-day), wall.Add(day)} {
		_, offset := near.In(k.zone).Zone()
		at := wall.Add(-time.Duration(offset) * time.Second)
		if _, is := at.In(k.zone).Zone(); is == offset {
			return at, true
		}
	}
	return time.Time{}, false
}

func hasZone(layout string) bool {
	return strings.Contains(layout, "MST") || strings.Contains(layout, "Z07") || strings.Contains(layout, "-07")
}
