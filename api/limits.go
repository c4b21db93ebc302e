package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// Profiles knows what holds for each device by its type and its own record; devices.Profiles is one.
type Profiles interface {
	Of(device string) *devices.Profile
	OfType(name string) (of *devices.Profile, known bool)
	With(typ string, own map[string]int64) *devices.Profile
	Effective(typ string, own map[string]int64) map[string]devices.EffectiveLimit
}

// Throttle holds devices to their rates; devices.Throttle is one.
type Throttle interface {
	// Try counts a post; a Hold that is not zero refuses it.
	Try(device string, p *devices.Profile, size int64) devices.Hold
	Passed(limit string, p *devices.Profile, n uint64) // counts what another limit has refused
	Slowed(device string) devices.Slowed
	Forget(device string)
}

// Limit is one that holds for a device.
type Limit struct {
	Value int64  `json:"value" doc:"0: no bound"`
	From  string `json:"from" enum:"device,type,default" doc:"Whose it is: the device's own, its type's, or that of all devices"`
}

// Slowed is what a device's limits have cost it since the hub's start.
type Slowed struct {
	HeldMs  int64     `json:"held_ms" doc:"For so long it was not read because of its limits"`
	Refused uint64    `json:"refused" doc:"Posts and connections that were told to come back later"`
	Limit   string    `json:"limit" doc:"The last that it passed"`
	Last    time.Time `json:"last" doc:"And when"`
}

// whole is a device with what is shown only of one: its limits, and what they have cost it.
func (s *Server) whole(d devices.Device) Device {
	v := s.view(d)
	v.Limits = map[string]Limit{}
	for name, l := range s.deps.Profiles.Effective(d.Type, d.Limits) {
		v.Limits[name] = Limit(l)
	}
	if slowed := s.deps.Throttle.Slowed(d.ID); !slowed.Last.IsZero() {
		v.Slowed = &Slowed{HeldMs: slowed.Held.Milliseconds(), Refused: slowed.Refused, Limit: slowed.Limit, Last: slowed.Last.UTC()}
	}
	return v
}

// units are those of a device's fields: as it said them itself, for that is what the values came with, else as its type
// has them.
func (s *Server) units(d devices.Device) map[string]string {
	said := s.deps.Sessions.Units(d.ID)
	of, _ := s.deps.Profiles.OfType(d.Type)
	var all map[string]string
	for name, f := range of.Fields {
		if _, has := said[name]; f.Unit != "" && !has {
			if all == nil {
				all = maps.Clone(said)
			}
			if all == nil {
				all = map[string]string{}
			}
			all[name] = f.Unit
		}
	}
	if all == nil {
		return said
	}
	return all
}

// unitLines says which fields come in another unit than their type has.
func (s *Server) unitLines(d devices.Device) (lines []string) {
	said := s.deps.Sessions.Units(d.ID)
	of, _ := s.deps.Profiles.OfType(d.Type)
	for _, name := range slices.Sorted(maps.Keys(said)) {
		if unit := of.Fields[name].Unit; unit != "" && unit != said[name] {
			lines = append(lines, fmt.Sprintf("It says that %s is in %s; its type %s has %s.", name, said[name], d.Type, unit))
		}
	}
	return lines
}

// setLimits merges a change into the device's own limits. What does not hold together, such as a frame that would take
// longer than it may at so many bytes a second, is an error.
func (s *Server) setLimits(d *devices.Device, change map[string]*int64) error {
	merged := maps.Clone(d.Limits)
	for name, value := range change {
		if value == nil {
			delete(merged, name)
			continue
		}
		if wrong := devices.CheckLimit(name, *value); wrong != "" {
			return &devices.InvalidError{Field: "limits." + name, Message: wrong}
		}
		if merged == nil {
			merged = map[string]int64{}
		}
		merged[name] = *value
	}
	if wrong := s.deps.Profiles.With(d.Type, merged).Limits.Check(); wrong != "" {
		return &devices.InvalidError{Field: "limits", Message: wrong}
	}
	d.Limits = merged
	return nil
}

// pace refuses what a device posts faster than it may, and says when to send it again.
func (s *Server) pace(device string, p *devices.Profile, size int) error {
	h := s.deps.Throttle.Try(device, p, int64(size))
	if h.Wait == 0 {
		return nil
	}
	return newProblem(http.StatusTooManyRequests, wire.ReasonRateLimited, "%s: %d a second, where the limit is %d; send it again after the time", h.Limit, h.Value, h.Bound).
		over(h.Bound, h.Value).retryAfter(h.Wait)
}

// TypeField is what a type knows of a field.
type TypeField struct {
	Type string `json:"type,omitempty" enum:"float,integer,string,boolean" doc:"Left out: that of the first value that comes"`
	Unit string `json:"unit,omitempty"`
}

// TypeKeepalive is after how long a silent device of a type is pinged.
type TypeKeepalive struct {
	IntervalS int `json:"interval_s" doc:"Of a device that asks for none"`
	MinS      int `json:"min_s" doc:"The shortest that a device may ask for"`
	MaxS      int `json:"max_s" doc:"The longest"`
}

// setProfile adds to a type what is not about commands.
func (t *DeviceType) setProfile(p Profiles) {
	of, _ := p.OfType(t.Name)
	t.Fields = map[string]TypeField{}
	for name, f := range of.Fields {
		t.Fields[name] = TypeField(f)
	}
	k := of.Keepalive
	t.Keepalive = TypeKeepalive{IntervalS: int(k.Interval.Seconds()), MinS: int(k.Min.Seconds()), MaxS: int(k.Max.Seconds())}
	t.Limits = map[string]Limit{}
	for name, l := range p.Effective(t.Name, nil) {
		t.Limits[name] = Limit(l)
	}
}
