package main

import (
	"encoding/json"
	"errors"
	"fmt"
	stdmaps "maps"
	"slices"
	"strconv"

	"telemetryhub/bridge/maps"
	"telemetryhub/bridge/presets"
	"telemetryhub/commands/catalogue"
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
	times := map[string]int{}
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
		times[p.Name]++
		g.Name = presets.Title(p.Name, times[p.Name])
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
	for i, p := range m.Presets {
		same := func(other PresetConfig) bool { return other.Name == p.Name && stdmaps.Equal(other.Options, p.Options) }
		if slices.IndexFunc(m.Presets, same) < i {
			faults.add(fmt.Sprintf("%s.presets[%d]", at, i), "the preset %s stands there twice with the same options", p.Name)
		}
	}
	if len(m.Maps) == 0 && len(m.Commands) > 0 {
		faults.add(at+".commands", "are for devices that maps beside them have made: there are none")
	}
	m.validateParams(faults, at)
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

// validateParams checks the schemas of commands.
func (m MapsConfig) validateParams(faults *faultList, at string) {
	for i, c := range m.Commands {
		key := fmt.Sprintf("%s.commands[%d].params", at, i)
		if c.Params == nil {
			continue
		}
		schema, err := json.Marshal(c.Params)
		if err != nil {
			faults.add(key, "%v", err)
			continue
		}
		for _, f := range catalogue.CheckSchema(schema) {
			where := key + keyOfPointer(f.Pointer)
			faults.addAt(faults.lineOf(where), where, "%s", f.Message)
		}
	}
}

// mappedTypes returns the types of devices that the bridges' maps have commands for.
func (c Config) mappedTypes() ([]maps.DeviceType, error) {
	all, _, _ := c.MQTT.groups()
	for _, broker := range c.Bridge.Brokers {
		groups, _, _ := broker.groups() // what is wrong with them validate has told
		all = append(all, groups...)
	}
	types, err := maps.DeviceTypes(all)
	if err != nil {
		return nil, fmt.Errorf("types of the bridges' devices: %w", err)
	}
	return types, nil
}

// withMapped adds to the configured types what the maps of bridges say of theirs: a type that lists no methods has those of
// its maps. So a preset's commands are checked and offered like those of a type in the file, which may say otherwise.
func withMapped(all []catalogue.Type, mapped []maps.DeviceType) []catalogue.Type {
	for _, m := range mapped {
		at := slices.IndexFunc(all, func(t catalogue.Type) bool { return t.Name == m.Name })
		if at < 0 {
			at = len(all)
			all = append(all, catalogue.Type{Name: m.Name})
		}
		t := &all[at]
		if len(t.Methods) > 0 || t.OtherMethods != "" {
			continue
		}
		t.Methods = map[string]catalogue.Method{}
		for _, method := range m.Methods {
			t.Methods[method.Name] = catalogue.Method{Description: method.Description, Params: method.Params, Timeout: method.Within}
		}
		if m.Any {
			t.OtherMethods = catalogue.Allow
		}
	}
	return all
}

// addMapFault notes a fault of the file, or of a preset, which has no lines in it.
func addMapFault(faults *faultList, at, preset, path, message string) {
	if preset == "" {
		faults.addAt(faults.lineOf(at+"."+path), at+"."+path, "%s", message)
		return
	}
	faults.addAt(faults.lineOf(at+"."+preset), at+"."+preset, "%s: %s", path, message)
}
