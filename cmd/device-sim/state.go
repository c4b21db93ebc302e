package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
)

// stateful is what a device reports of itself, and how it obeys what is desired. Guarded by the device's lock.
type stateful struct {
	reported map[string]any // as the device is
	every    int64          // ms between two readings; 0: each that is due is measured
	measured int64          // time of the last reading, ms
}

// desiredState is what the hub tells of the desired state: in hello's answer, in hub.state, on the topic desired.
type desiredState struct {
	Delta map[string]any `json:"delta"`
}

// newState is the device before anybody desired anything; interval is in seconds, 0 where it does not measure by time.
func newState(interval float64) stateful {
	s := stateful{reported: map[string]any{"firmware": "1.0.0", "model": "device-sim"}}
	if interval > 0 {
		s.reported["interval"] = interval
	}
	return s
}

// obey does what the delta says. A device takes any member; interval changes how often it measures, where that is not
// more often than --rate.
func (s *stateful) obey(delta map[string]any, fastest float64) {
	s.reported = merged(s.reported, delta)
	interval, ok := delta["interval"].(float64)
	if !ok {
		return
	}
	if interval < fastest || fastest == 0 { // it cannot, and says so by what it reports
		interval = fastest
	}
	s.every = int64(interval * 1000)
	if s.reported["interval"] = interval; fastest == 0 {
		delete(s.reported, "interval")
	}
}

// merged is a device's own merge patch (RFC 7396), apart from the hub's.
func merged(target, patch map[string]any) map[string]any {
	result := maps.Clone(target)
	for name, change := range patch {
		inner, isObject := change.(map[string]any)
		switch {
		case change == nil:
			delete(result, name)
		case isObject:
			before, _ := result[name].(map[string]any)
			if before == nil {
				before = map[string]any{}
			}
			result[name] = merged(before, inner)
		default:
			result[name] = change
		}
	}
	return result
}

// isDue reports whether a reading at ts is to be measured, as the desired interval has it.
func (s *stateful) isDue(ts int64) bool {
	const slack = 5 // ms: readings are due at fractions of it
	if s.every > 0 && ts < s.measured+s.every-slack {
		return false
	}
	s.measured = ts
	return true
}

// desired takes what the hub tells of the desired state, does it, and reports what is then. At the beginning of a
// connection the device reports in any case.
func (d *device) desired(l link, told desiredState, begins bool) {
	if !d.fleet.options.State || len(told.Delta) == 0 && !begins {
		return
	}
	d.mu.Lock()
	d.state.obey(told.Delta, d.interval())
	reported, err := json.Marshal(d.state.reported)
	d.mu.Unlock()
	if err == nil {
		err = l.state(reported)
	}
	if err != nil && !errors.Is(err, errFinished) {
		d.fleet.tally.note("a state could not be reported", err)
	}
}

// desiredFrame takes the params of hub.state.
func (d *device) desiredFrame(l link, params []byte) {
	var told desiredState
	if err := json.NewDecoder(bytes.NewReader(params)).Decode(&told); err != nil {
		d.fleet.tally.note("a hub.state is not understood", err)
		return
	}
	d.desired(l, told, false)
}

// interval is the shortest time between two readings, in seconds; 0 where the device does not measure by time.
func (d *device) interval() float64 {
	if rate := d.fleet.options.Rate; rate > 0 && len(d.fleet.options.Replay) == 0 {
		return 1 / rate
	}
	return 0
}
