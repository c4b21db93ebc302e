package rollouts

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// Bounds of a selector.
const (
	MaxIDs      = 10_000 // in one request; more devices are reached by tag, attribute, type or all
	maxKeptIDs  = 100    // of a selector, in the plan
	maxCriteria = 64     // tags, and attributes
	maxText     = 1024   // bytes of one
)

// Selector says which devices are meant. Its members are joined by and; disabled devices are never meant.
type Selector struct {
	All        bool              `json:"all,omitempty"` // every device; alone, or with Online
	IDs        []string          `json:"ids,omitempty"`
	Tags       []string          `json:"tags,omitempty"` // a device has all of them
	Attributes map[string]string `json:"attributes,omitempty"`
	Type       string            `json:"type,omitempty"`
	Online     bool              `json:"online,omitempty"` // connected now
}

// String is the selector as hubctl writes it.
func (s Selector) String() string {
	var words []string
	if s.All {
		words = append(words, "all")
	}
	if len(s.IDs) > 0 {
		words = append(words, "id="+strings.Join(s.IDs, ","))
	}
	for _, tag := range s.Tags {
		words = append(words, "tag="+tag)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Attributes)) {
		words = append(words, "attr."+name+"="+s.Attributes[name])
	}
	if s.Type != "" {
		words = append(words, "type="+s.Type)
	}
	if s.Online {
		words = append(words, "online")
	}
	return strings.Join(words, " ")
}

func (s Selector) check() error {
	invalid := func(format string, args ...any) error {
		return &commands.InvalidError{Field: "to", Message: fmt.Sprintf(format, args...)}
	}
	narrow := len(s.IDs) > 0 || len(s.Tags) > 0 || len(s.Attributes) > 0 || s.Type != ""
	switch {
	case !s.All && !narrow && !s.Online:
		return invalid("it names no device; all devices are meant only by all")
	case s.All && narrow:
		return invalid("all stands alone or with online; leave it out to narrow the choice")
	case len(s.IDs) > MaxIDs:
		return &commands.InvalidError{
			Field: "to", Message: fmt.Sprintf("%d ids are more than %d; use tags, attributes or the type", len(s.IDs), MaxIDs),
			Limit: MaxIDs, Value: int64(len(s.IDs)),
		}
	case len(s.Tags) > maxCriteria || len(s.Attributes) > maxCriteria:
		return invalid("more than %d tags or attributes", maxCriteria)
	}
	for _, id := range s.IDs {
		if err := wire.CheckDeviceID(id); err != nil {
			return invalid("%q: %v", clip(id), err)
		}
	}
	for _, text := range slices.Concat(s.Tags, slices.Collect(maps.Keys(s.Attributes)), slices.Collect(maps.Values(s.Attributes)), []string{s.Type}) {
		if len(text) > maxText {
			return invalid("a text of it has %d bytes; at most %d", len(text), maxText)
		}
	}
	return nil
}

// matches reports whether the device is meant, the ids aside.
func (s Selector) matches(d Device, online func(string) bool) bool {
	if s.Type != "" && d.Type != s.Type {
		return false
	}
	for _, tag := range s.Tags {
		if !slices.Contains(d.Tags, tag) {
			return false
		}
	}
	for name, value := range s.Attributes {
		if have, ok := d.Attributes[name]; !ok || have != value {
			return false
		}
	}
	return !s.Online || online(d.ID)
}

// resolve returns the ids of the devices that are meant: in the order given, else by id. Errors:
// *commands.InvalidError, *UnknownDevicesError.
func (s Selector) resolve(fleet Fleet) ([]string, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	var ids []string
	if len(s.IDs) > 0 {
		given, err := s.named(fleet)
		if err != nil {
			return nil, err
		}
		for _, d := range given {
			if s.matches(d, fleet.Online) {
				ids = append(ids, d.ID)
			}
		}
	} else {
		for _, d := range fleet.Devices() {
			if d.Enabled && s.matches(d, fleet.Online) {
				ids = append(ids, d.ID)
			}
		}
		slices.Sort(ids)
	}
	if len(ids) == 0 {
		return nil, &commands.InvalidError{Field: "to", Message: "no enabled device is " + clip(s.String())}
	}
	return ids, nil
}

// named finds the devices that are given by id, each once.
func (s Selector) named(fleet Fleet) ([]Device, error) {
	var found []Device
	var unknown UnknownDevicesError
	seen := make(map[string]bool, len(s.IDs))
	for _, id := range s.IDs {
		if seen[id] {
			continue
		}
		seen[id] = true
		d, ok := fleet.Find(id)
		switch {
		case !ok:
			unknown.Unknown = append(unknown.Unknown, id)
		case !d.Enabled:
			unknown.Disabled = append(unknown.Disabled, id)
		default:
			found = append(found, d)
		}
	}
	if len(unknown.Unknown)+len(unknown.Disabled) > 0 {
		return nil, &unknown
	}
	return found, nil
}

// partOf is a fleet of which only devices with one of the tags are to be seen.
type partOf struct {
	Fleet
	tags []string
}

// within returns the part of the fleet that has one of the tags; without tags all of it.
func within(fleet Fleet, tags []string) Fleet {
	if len(tags) == 0 {
		return fleet
	}
	return partOf{fleet, tags}
}

func (p partOf) sees(d Device) bool {
	return slices.ContainsFunc(d.Tags, func(tag string) bool { return slices.Contains(p.tags, tag) })
}

// Devices implements Fleet.
func (p partOf) Devices() (seen []Device) {
	for _, d := range p.Fleet.Devices() {
		if p.sees(d) {
			seen = append(seen, d)
		}
	}
	return seen
}

// Find implements Fleet.
func (p partOf) Find(id string) (Device, bool) {
	d, ok := p.Fleet.Find(id)
	return d, ok && p.sees(d)
}

// kept is the selector as the plan keeps it.
func (s Selector) kept() Selector {
	if len(s.IDs) > maxKeptIDs {
		s.IDs = s.IDs[:maxKeptIDs:maxKeptIDs]
	}
	return s
}

// clip shortens what is quoted back.
func clip(text string) string {
	const most = 128 // bytes
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
