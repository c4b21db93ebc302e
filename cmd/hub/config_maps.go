package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"telemetryhub/bridge/maps"
	"telemetryhub/bridge/presets"
)

// MapsConfig says what the messages of devices mean that do not speak the hub's own words.
type MapsConfig struct {
	Presets  []PresetConfig `yaml:"presets"`
	Maps     []maps.Map     `yaml:"maps"`
	Commands []maps.Command `yaml:"commands"`
	Ignore   []string       `yaml:"ignore"` // patterns of topics that come along and mean nothing
}

// PresetConfig names maps that come with the hub. In a file it may be the name alone.
type PresetConfig struct {
	Name    string            `yaml:"name"`
	Options map[string]string `yaml:"options"`
}

func (p *PresetConfig) shorthand(name string) { p.Name = name }

// presetHub stands for the hub's own topics, beside maps and presets.
const presetHub = "hub"

// foreign reports whether the hub's own topics are not wanted.
func (m MapsConfig) foreign() bool {
	if len(m.Maps) == 0 && len(m.Presets) == 0 {
		return false
	}
	return !slices.ContainsFunc(m.Presets, func(p PresetConfig) bool { return p.Name == presetHub })
}

// groups returns the presets in their order and then what the file itself says, and for each the key that it comes from.
func (m MapsConfig) groups() (groups []maps.Group, keys []string, errs []error) {
	for i, p := range m.Presets {
		if p.Name == presetHub {
			continue
		}
		key := "presets[" + strconv.Itoa(i) + "]"
		g, err := presets.Load(p.Name, p.Options)
		if err != nil {
			errs = append(errs, keyedError{key, err})
			continue
		}
		groups, keys = append(groups, g), append(keys, key)
	}
	if len(m.Maps) > 0 || len(m.Commands) > 0 || len(m.Ignore) > 0 {
		groups, keys = append(groups, maps.Group{Maps: m.Maps, Commands: m.Commands, Ignore: m.Ignore}), append(keys, "")
	}
	return groups, keys, errs
}

// keyedError is an error of one key.
type keyedError struct {
	key string
	error
}

// validate checks the maps and proves their examples; at is the section that they stand in.
func (m MapsConfig) validate(faults *faultList, at string) {
	named := map[string]bool{}
	for i, p := range m.Presets {
		if named[p.Name] {
			faults.add(fmt.Sprintf("%s.presets[%d]", at, i), "the preset %s stands there twice", p.Name)
		}
		named[p.Name] = true
	}
	if len(m.Maps) == 0 && len(m.Commands) > 0 {
		faults.add(at+".commands", "are for devices that maps beside them have made: there are none")
	}
	groups, keys, errs := m.groups()
	for _, err := range errs {
		if of, ok := errors.AsType[keyedError](err); ok {
			faults.add(at+"."+of.key, "%v", of.error)
		}
	}
	if len(groups) == 0 {
		return
	}
	set, err := maps.Compile(groups)
	if of, ok := errors.AsType[maps.Faults](err); ok {
		for _, f := range of {
			addMapFault(faults, at, keys[f.Group], f.Path, f.Message)
		}
		return
	}
	for _, d := range set.Prove(groups) {
		key := ""
		for i, g := range groups {
			if g.Name == d.Group {
				key = keys[i]
			}
		}
		addMapFault(faults, at, key, d.Path, d.Message)
	}
}

// addMapFault notes a fault of the file, or of a preset, which has no lines in it.
func addMapFault(faults *faultList, at, preset, path, message string) {
	if preset == "" {
		faults.addAt(faults.lineOf(at+"."+path), at+"."+path, "%s", message)
		return
	}
	faults.addAt(faults.lineOf(at+"."+preset), at+"."+preset, "%s: %s", path, message)
}
