package devices

import (
	"maps"
	"time"
)

// Profile is what holds for a device: by its type, else for all, and where an operator set it for the device itself. One
// that was given out does not change.
type Profile struct {
	Type      string // as the configuration names it; empty: the device has none, or one that is not configured
	Home      string // measurement that its readings stand in where nobody names one; empty: the default one
	Keepalive Keepalive
	Limits    Limits
	Fields    map[string]Field // by name; those that the type knows
}

// Keepalive is after how long a silent device is pinged.
type Keepalive struct {
	Interval time.Duration // of a device that asks for none
	Min, Max time.Duration // of what a device may ask for
}

// Agree returns what a device gets that asks for a keepalive; 0: it asks for none.
func (k Keepalive) Agree(asked time.Duration) time.Duration {
	if asked <= 0 {
		return k.Interval
	}
	return min(max(asked, k.Min), k.Max)
}

// Field is what a type knows of a field.
type Field struct {
	Type string // float, integer, string or boolean; empty: that of the first value that comes
	Unit string // for people
}

// TypeProfile is what the configuration says of a type. What it does not say is as for all devices.
type TypeProfile struct {
	Keepalive Keepalive        // 0 in a member: not said
	Limits    map[string]int64 // by name, checked by CheckLimit
	Fields    map[string]Field
	Home      string // measurement; empty: the default one
}

// Profiles knows what holds for each device. The types are fixed; what is of the device is in the registry, and counts as
// soon as it changes there.
type Profiles struct {
	registry *Registry
	common   Profile
	types    map[string]*Profile
	said     map[string]map[string]int64 // by type: the limits that it names itself
}

// NewProfiles returns the profiles of the registry's devices. common is of those without a type, and says what types do
// not.
func NewProfiles(registry *Registry, common Profile, types map[string]TypeProfile) *Profiles {
	p := &Profiles{registry: registry, common: common, types: map[string]*Profile{}, said: map[string]map[string]int64{}}
	for name, t := range types {
		of := common
		of.Type, of.Fields, of.Home = name, t.Fields, t.Home
		for _, one := range []struct {
			to   *time.Duration
			said time.Duration
		}{{&of.Keepalive.Interval, t.Keepalive.Interval}, {&of.Keepalive.Min, t.Keepalive.Min}, {&of.Keepalive.Max, t.Keepalive.Max}} {
			if one.said != 0 {
				*one.to = one.said
			}
		}
		of.Limits.set(t.Limits)
		p.types[name], p.said[name] = &of, maps.Clone(t.Limits)
	}
	return p
}

// Version changes whenever a profile may have changed: who keeps one asks anew then.
func (p *Profiles) Version() uint64 { return p.registry.changes.Load() }

// Of returns the profile of a device; of one that is not in the registry, that of all.
func (p *Profiles) Of(device string) *Profile {
	d, _ := p.registry.Get(device)
	return p.With(d.Type, d.Limits)
}

// OfType returns what holds for devices of a type; known is false for one that is not configured, which is as none.
func (p *Profiles) OfType(name string) (of *Profile, known bool) {
	if of, known = p.types[name]; !known {
		of = &p.common
	}
	return of, known
}

// With returns what holds for a device of that type with these limits of its own.
func (p *Profiles) With(typ string, own map[string]int64) *Profile {
	of, _ := p.OfType(typ)
	if len(own) == 0 {
		return of
	}
	with := *of
	with.Limits.set(own)
	return &with
}

// Where a limit comes from.
const (
	FromDevice  = "device"
	FromType    = "type"
	FromDefault = "default"
)

// EffectiveLimit is a limit that holds for a device.
type EffectiveLimit struct {
	Value int64  // 0: no bound
	From  string // FromDevice, FromType or FromDefault
}

// Effective returns the limits of a device of that type with these limits of its own, by name.
func (p *Profiles) Effective(typ string, own map[string]int64) map[string]EffectiveLimit {
	limits := p.With(typ, own).Limits
	all := make(map[string]EffectiveLimit, len(limitBounds()))
	for name := range limitBounds() {
		e := EffectiveLimit{Value: *limits.member(name), From: FromDefault}
		if _, ok := own[name]; ok {
			e.From = FromDevice
		} else if _, ok := p.said[typ][name]; ok {
			e.From = FromType
		}
		all[name] = e
	}
	return all
}

// ProfileSource is Profiles, as those need it that keep a profile.
type ProfileSource interface {
	Of(device string) *Profile
	Version() uint64
}

// KeptProfile is a device's profile as one goroutine keeps it, so that it is looked up only after a change.
type KeptProfile struct {
	of      *Profile
	version uint64
}

// Of returns the device's profile.
func (k *KeptProfile) Of(p ProfileSource, device string) *Profile {
	if v := p.Version(); k.of == nil || v != k.version { // asked before the look-up: a change meanwhile makes another
		k.of, k.version = p.Of(device), v
	}
	return k.of
}
