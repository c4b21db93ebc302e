package devices

import "time"

// Clock is how far a device's clock is off, as its hellos told. The way of hello from the device to the hub is not
// taken into account: on a slow line the clock seems to be behind by so much. No reading is moved by it.
type Clock struct {
	ClockOffsetMs int64     `json:"clock_offset_ms,omitempty"` // positive: the device is ahead of the hub
	ClockAt       time.Time `json:"clock_at,omitzero"`         // when it was learned last; zero: never
}

// A hello that differs from what is known by no more than clockNoise counts a quarter, as slow lines and busy hubs
// differ by so much from hello to hello. More than that is a clock that was set.
const (
	clockNoise  = 2 * time.Second
	clockWeight = 4
)

// learn returns what is known after a hello that was off by offset ms.
func (c Clock) learn(offset int64, now time.Time) Clock {
	change := offset - c.ClockOffsetMs
	if noise := clockNoise.Milliseconds(); !c.ClockAt.IsZero() && -noise <= change && change <= noise {
		offset = c.ClockOffsetMs + change/clockWeight
	}
	return Clock{ClockOffsetMs: offset, ClockAt: now}
}
