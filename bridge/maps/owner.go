package maps

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"telemetryhub/wire"
)

// Owner returns the device that a topic alone tells, "" where its map reads the id from the payload or none is for it.
func (s *Set) Owner(topic string) string {
	for _, r := range s.rules {
		vars, ok := r.match(topic)
		if !ok || r.device.readsPayload() {
			continue
		}
		id, err := r.device.append(nil, &facts{vars: append(vars, Var{"topic", topic})})
		if err == nil && wire.CheckDeviceID(string(id)) == nil {
			return string(id)
		}
	}
	return ""
}

// Has reports whether devices of a group and a type have a command of exactly this method.
func (s *Set) Has(group, deviceType, method string) bool {
	return slices.ContainsFunc(s.commands, func(c *command) bool {
		return c.group == group && c.method == method && (len(c.types) == 0 || slices.Contains(c.types, deviceType))
	})
}

// Within returns how long the outcome of a command takes at most, 0 where its map does not say.
func (s *Set) Within(group, deviceType, method string) time.Duration {
	cmd, e := s.command(group, Target{Type: deviceType}, method)
	if e != nil || cmd.done == nil {
		return 0
	}
	return cmd.done.within
}

// Correlates reports whether an answer bears the command's id, so that it is to no other, however late it comes.
func (e *Expectation) Correlates() bool { return e.answer != nil && e.answer.correlation.isSet() }

// Seen returns what an outcome says of its device, as an object of JSON.
func Seen(o *Outcome) []byte {
	text, err := json.Marshal(valuesOf(o))
	if err != nil {
		return []byte("{}") // the values are those of a reading or of JSON
	}
	return text
}

// SplitFilters is Filters in two parts: of readings, which one of several hubs takes, and of all that each of them has to
// know: states, presence and answers.
func (s *Set) SplitFilters() (readings, rest []string) {
	var shared, each Set
	for _, r := range s.rules {
		if r.isReading() {
			shared.rules = append(shared.rules, r)
		} else {
			each.rules = append(each.rules, r)
		}
	}
	return shared.Filters(), each.Filters()
}

func (r *rule) isReading() bool { return (r.what == Telemetry || r.what == Event) && r.report == nil }

// CheckSplit says which two maps keep readings from being split among hubs: a message that is for both would come twice.
func (s *Set) CheckSplit() error {
	for _, r := range s.rules {
		for _, other := range s.rules {
			if !r.isReading() || other.isReading() {
				continue
			}
			plain, err := parsePattern(other.pattern.filter())
			if err != nil {
				continue
			}
			own, err := parsePattern(r.pattern.filter())
			if err != nil {
				continue
			}
			if met, both := own.meet(plain); both {
				return fmt.Errorf("the readings of map %s cannot be split among hubs: messages on %s are also for %s, which each hub has to know", r.title(), met.text, other.title())
			}
		}
	}
	return nil
}

// Params returns the JSON Schema of a command's params, nil where its map has none.
func (s *Set) Params(group, deviceType, method string) json.RawMessage {
	cmd, e := s.command(group, Target{Type: deviceType}, method)
	if e != nil {
		return nil
	}
	return cmd.params
}

// Takes reports whether a topic is for a map, an answer, or is passed over as ignore says.
func (s *Set) Takes(topic string) bool {
	for _, r := range s.rules {
		if _, ok := r.match(topic); ok {
			return true
		}
	}
	return slices.ContainsFunc(s.ignored, func(p pattern) bool {
		_, ok := p.match(topic, nil)
		return ok
	})
}

// Under returns a map all of whose topics a filter of MQTT matches.
func (s *Set) Under(filter string) (name string, ok bool) {
	p, err := parsePattern(filter)
	if err != nil {
		return "", false
	}
	for _, r := range s.rules {
		if p.covers(r.pattern) {
			return r.title(), true
		}
	}
	return "", false
}
