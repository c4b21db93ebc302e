package devices

import (
	"maps"

	"telemetryhub/wire"
)

// maxUnits bounds the fields of one device whose units are kept; as many fields can a device have at all.
const maxUnits = 1024

// LearnUnits notes in which units the device says that its fields are. They are kept with what is known of the device,
// and not with each reading, which would double what is stored; the last that was said counts.
func (s *Session) LearnUnits(units []wire.Unit) { s.sessions.LearnUnits(s.Device, units) }

// LearnUnits does the same for a device that may not be connected, as one that posts over HTTP.
func (s *Sessions) LearnUnits(device string, units []wire.Unit) {
	if len(units) == 0 || s.knowsUnits(device, units) {
		return // almost always
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := maps.Clone(s.units[device]) // whoever was given the old one reads it without a lock
	if known == nil {
		known = map[string]string{}
	}
	for _, u := range units {
		if _, has := known[string(u.Field)]; has || len(known) < maxUnits {
			known[string(u.Field)] = string(u.Symbol)
		}
	}
	s.units[device] = known
	s.dirty[device] = true
}

func (s *Sessions) knowsUnits(device string, units []wire.Unit) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	known := s.units[device]
	for _, u := range units {
		if known[string(u.Field)] != string(u.Symbol) {
			return false
		}
	}
	return true
}

// Units returns the units of the device's fields, as it last said them, by field. They must not be changed.
func (s *Sessions) Units(device string) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.units[device]
}
