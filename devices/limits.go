package devices

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"telemetryhub/wire"
)

// Limits bounds what a device may bring. 0 is no bound, but of MaxFrame and Fields, which are always bounded.
type Limits struct {
	Messages int64 // frames, MQTT messages and posts, a second
	Bytes    int64 // of them, a second
	BurstMs  int64 // so much time's worth of both may come at once
	MaxFrame int64 // bytes of the largest
	Fields   int64 // distinct ones, over all its measurements
	Connects int64 // connections that it opens, a minute
}

// Names of the limits, as the registry, notices, metrics and the API have them.
const (
	LimitMessages = "messages"
	LimitBytes    = "bytes"
	LimitBurst    = "burst_ms"
	LimitMaxFrame = "max_frame"
	LimitFields   = "fields"
	LimitConnects = "connects"
)

// LongestHold is how long one frame may hold up its sender, so that pings behind it are still answered in time: a rate in
// bytes that a frame of the largest size would exhaust for longer is none.
const LongestHold = 5 * 1000 // ms

// bounds are the least and the most that a limit may be. Zero is no bound, where a limit can be without.
type bounds struct {
	least, most int64
	none        bool
}

func limitBounds() map[string]bounds {
	return map[string]bounds{
		LimitMessages: {1, 1_000_000, true},
		LimitBytes:    {1 << 10, 1 << 40, true},
		LimitBurst:    {1000, 3_600_000, false},
		LimitMaxFrame: {1 << 10, wire.HardMaxFrame, false},
		LimitFields:   {1, 100_000, false},
		LimitConnects: {1, 100_000, true},
	}
}

// CheckLimit says what is wrong with a limit; "" if nothing is.
func CheckLimit(name string, value int64) string {
	b, ok := limitBounds()[name]
	switch {
	case !ok:
		return fmt.Sprintf("there is no such limit; there are %s", strings.Join(slices.Sorted(maps.Keys(limitBounds())), ", "))
	case value == 0 && b.none, b.least <= value && value <= b.most:
		return ""
	case b.none:
		return fmt.Sprintf("%d is not from %d to %d, nor 0, which is none", value, b.least, b.most)
	}
	return fmt.Sprintf("%d is not from %d to %d", value, b.least, b.most)
}

// Check says what is wrong with limits that hold together; "" if nothing is.
func (l Limits) Check() string {
	if l.Bytes > 0 && l.MaxFrame*1000 > l.Bytes*LongestHold {
		return fmt.Sprintf("at %d bytes a second a frame of max_frame, %d bytes, would hold its sender up for longer than %d s, within which pings wait: at least %d bytes a second, or a smaller max_frame",
			l.Bytes, l.MaxFrame, LongestHold/1000, (l.MaxFrame*1000+LongestHold-1)/LongestHold)
	}
	return ""
}

// Named returns all limits by their names.
func (l Limits) Named() map[string]int64 {
	named := map[string]int64{}
	for name := range limitBounds() {
		named[name] = *l.member(name)
	}
	return named
}

// member returns the limit of that name; nil if there is none.
func (l *Limits) member(name string) *int64 {
	switch name {
	case LimitMessages:
		return &l.Messages
	case LimitBytes:
		return &l.Bytes
	case LimitBurst:
		return &l.BurstMs
	case LimitMaxFrame:
		return &l.MaxFrame
	case LimitFields:
		return &l.Fields
	case LimitConnects:
		return &l.Connects
	}
	return nil
}

// set lays those that are named over l. A name that is not known, of a newer hub's record, is passed over.
func (l *Limits) set(own map[string]int64) {
	for name, value := range own {
		if member := l.member(name); member != nil {
			*member = value
		}
	}
}
