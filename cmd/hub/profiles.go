package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	maptypes "telemetryhub/bridge/maps"
	"telemetryhub/devices"
	"telemetryhub/ingest"
)

// LimitsConfig bounds what one device may bring in a time, unless its type or its own record says otherwise.
type LimitsConfig struct {
	Messages int           `yaml:"messages"` // a second; 0: no bound
	Bytes    Size          `yaml:"bytes"`    // a second; 0: no bound
	Burst    time.Duration `yaml:"burst"`    // so much time's worth of both at once
	Connects int           `yaml:"connects"` // a minute; 0: no bound
}

// TypeLimitsConfig is what a type says of limits. What it leaves out is as for all.
type TypeLimitsConfig struct {
	Messages *int           `yaml:"messages"`
	Bytes    *Size          `yaml:"bytes"`
	Burst    *time.Duration `yaml:"burst"`
	MaxFrame *Size          `yaml:"max_frame"`
	Fields   *int           `yaml:"fields"`
	Connects *int           `yaml:"connects"`
}

// named returns the limits that are said, by the names that the registry has for them.
func (l TypeLimitsConfig) named() map[string]int64 {
	said := map[string]int64{}
	put := func(name string, is bool, value func() int64) {
		if is {
			said[name] = value()
		}
	}
	put(devices.LimitMessages, l.Messages != nil, func() int64 { return int64(*l.Messages) })
	put(devices.LimitBytes, l.Bytes != nil, func() int64 { return int64(*l.Bytes) })
	put(devices.LimitBurst, l.Burst != nil, func() int64 { return l.Burst.Milliseconds() })
	put(devices.LimitMaxFrame, l.MaxFrame != nil, func() int64 { return int64(*l.MaxFrame) })
	put(devices.LimitFields, l.Fields != nil, func() int64 { return int64(*l.Fields) })
	put(devices.LimitConnects, l.Connects != nil, func() int64 { return int64(*l.Connects) })
	return said
}

// KeepaliveConfig is what a type says of the keepalive; 0: as for all devices.
type KeepaliveConfig struct {
	Interval time.Duration `yaml:"interval"` // of a device that asks for none
	Min      time.Duration `yaml:"min"`      // of what a device may ask for
	Max      time.Duration `yaml:"max"`
}

func (k KeepaliveConfig) profile() devices.Keepalive {
	return devices.Keepalive{Interval: k.Interval, Min: k.Min, Max: k.Max}
}

// profile is what holds for a device without a type.
func (c *Config) profile() devices.Profile {
	d := c.Devices
	return devices.Profile{
		Keepalive: devices.Keepalive{Interval: d.Keepalive, Min: d.KeepaliveMin, Max: d.KeepaliveMax},
		Limits: devices.Limits{
			Messages: int64(d.Limits.Messages), Bytes: int64(d.Limits.Bytes), BurstMs: d.Limits.Burst.Milliseconds(),
			MaxFrame: int64(d.MaxFrame), Fields: int64(c.Ingest.DeviceFields), Connects: int64(d.Limits.Connects),
		},
	}
}

// profiles joins the configuration and the bridges' maps, which know the types, and the registry, which knows the type of
// a device.
func (c *Config) profiles(registry *devices.Registry, mapped []maptypes.DeviceType) *devices.Profiles {
	types := make(map[string]devices.TypeProfile, len(c.Types))
	for _, t := range c.Types {
		fields := make(map[string]devices.Field, len(t.Fields))
		for name, f := range t.Fields {
			fields[name] = devices.Field{Type: f.Type, Unit: f.Unit}
		}
		types[t.Name] = devices.TypeProfile{Keepalive: t.Keepalive.profile(), Limits: t.Limits.named(), Fields: fields, Home: t.Measurement}
	}
	for _, t := range mapped {
		if of := types[t.Name]; of.Home == "" {
			of.Home = t.Measurement
			types[t.Name] = of
		}
	}
	return devices.NewProfiles(registry, c.profile(), types)
}

// homes tells where the readings of a device stand.
func homes(profiles *devices.Profiles) func(device string) string {
	return func(device string) string { return profiles.Of(device).Home }
}

// fieldTypes tells ingest what the device's type says of a field.
func fieldTypes(profiles *devices.Profiles) func(device, field string) ingest.FieldType {
	return func(device, field string) ingest.FieldType {
		return ingest.FieldType(profiles.Of(device).Fields[field].Type)
	}
}

// keyOfLimit is where a limit stands in the configuration of all devices, by the name that the registry has for it.
func keyOfLimit(name string) string {
	switch name {
	case devices.LimitBurst:
		return "devices.limits.burst"
	case devices.LimitMaxFrame:
		return "devices.max_frame"
	case devices.LimitFields:
		return "ingest.device_fields"
	}
	return "devices.limits." + name
}

func (c *Config) validateProfiles(faults *faultList) {
	common := c.profile()
	checkLimits(faults, common.Limits, common.Limits.Named(), keyOfLimit)
	checkKeepalive(faults, common.Keepalive, "devices.keepalive", "devices.keepalive_min", "devices.keepalive_max")
	of := c.profiles(nil, nil)
	for i, t := range c.Types {
		at := fmt.Sprintf("types[%d]", i)
		typed, _ := of.OfType(t.Name)
		checkLimits(faults, typed.Limits, t.Limits.named(), func(name string) string {
			if name == devices.LimitBurst {
				name = "burst"
			}
			return at + ".limits." + name
		})
		if t.Keepalive != (KeepaliveConfig{}) {
			key := at + ".keepalive."
			checkKeepalive(faults, typed.Keepalive, key+"interval", key+"min", key+"max")
		}
	}
}

// checkLimits notes what is wrong with each of those that are said, and with all together where one of those is said
// that do not fit.
func checkLimits(faults *faultList, all devices.Limits, said map[string]int64, key func(name string) string) {
	whole := true
	for _, name := range slices.Sorted(maps.Keys(said)) {
		if wrong := devices.CheckLimit(name, said[name]); wrong != "" {
			if name == devices.LimitBurst { // whose key is a duration
				within(faults, key(name), time.Duration(said[name])*time.Millisecond, time.Second, time.Hour)
			}
			faults.add(key(name), "%s", wrong) // unless it is told
			whole = false
		}
	}
	if wrong := all.Check(); wrong != "" && whole {
		for _, name := range []string{devices.LimitBytes, devices.LimitMaxFrame} {
			if _, ok := said[name]; ok {
				faults.add(key(name), "%s", wrong)
				return
			}
		}
	}
}

func checkKeepalive(faults *faultList, k devices.Keepalive, interval, shortest, longest string) {
	const least, most = time.Second, 24 * time.Hour
	within(faults, interval, k.Interval, least, most)
	within(faults, shortest, k.Min, least, most)
	within(faults, longest, k.Max, least, most)
	if k.Min > k.Max {
		faults.add(shortest, "%v is longer than the longest that a device may ask for, %v", k.Min, k.Max)
	}
}
