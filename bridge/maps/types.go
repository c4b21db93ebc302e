package maps

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DeviceType is what groups say of the devices of one type.
type DeviceType struct {
	Name        string
	Measurement string   // that its readings stand in, by the first map of telemetry that says so; empty: the default one
	Methods     []Method // by name
	Any         bool     // other methods go to the device too
}

// Method is a command as people see it.
type Method struct {
	Name        string
	Description string
	Params      json.RawMessage // a JSON Schema; nil: anything goes
	Within      time.Duration   // for its outcome; 0: the map does not say
}

// DeviceTypes returns the types that the groups have commands or a measurement for, by name. A command that names no types
// is for all that the maps beside it give to new devices by name.
func DeviceTypes(groups []Group) ([]DeviceType, error) {
	var all []DeviceType
	for _, g := range groups {
		for i := range g.Maps {
			all = addMeasurement(all, &g.Maps[i])
		}
		for i := range g.Commands {
			m, err := describe(&g.Commands[i])
			if err != nil {
				return nil, fmt.Errorf("commands[%d].params: %w", i, err)
			}
			names := g.Commands[i].Types
			if len(names) == 0 {
				names = g.typeNames()
			}
			for _, name := range names {
				all = addMethod(all, name, m)
			}
		}
	}
	slices.SortFunc(all, func(a, b DeviceType) int { return strings.Compare(a.Name, b.Name) })
	for i := range all {
		slices.SortFunc(all[i].Methods, func(a, b Method) int { return strings.Compare(a.Name, b.Name) })
	}
	return all, nil
}

func describe(c *Command) (Method, error) {
	m := Method{Name: c.Method, Description: c.Description}
	if c.DoneWhen != nil {
		m.Within = c.DoneWhen.Within
	}
	if c.Params == nil {
		return m, nil
	}
	var err error
	if m.Params, err = json.Marshal(c.Params); err != nil {
		return m, fmt.Errorf("it is no JSON: %w", err)
	}
	return m, nil
}

// addMeasurement notes where the readings of a map's type stand, if neither is made of a message.
func addMeasurement(all []DeviceType, m *Map) []DeviceType {
	if m.As != "" && What(m.As) != Telemetry || m.Measurement == "" || m.Type == "" || strings.ContainsAny(m.Type+m.Measurement, "{}") {
		return all
	}
	all, t := typeNamed(all, m.Type)
	if t.Measurement == "" {
		t.Measurement = m.Measurement
	}
	return all
}

// typeNamed returns the type of that name, which it adds if there is none; the pointer holds until the next one is added.
func typeNamed(all []DeviceType, name string) ([]DeviceType, *DeviceType) {
	at := slices.IndexFunc(all, func(t DeviceType) bool { return t.Name == name })
	if at < 0 {
		at = len(all)
		all = append(all, DeviceType{Name: name})
	}
	return all, &all[at]
}

// addMethod adds a method to a type; of one that two groups have, the first counts.
func addMethod(all []DeviceType, name string, m Method) []DeviceType {
	all, t := typeNamed(all, name)
	switch {
	case m.Name == AnyMethod:
		t.Any = true
	case !slices.ContainsFunc(t.Methods, func(other Method) bool { return other.Name == m.Name }):
		t.Methods = append(t.Methods, m)
	}
	return all
}

// typeNames returns the types that the group's maps give, without those that are made of a message.
func (g *Group) typeNames() []string {
	var names []string
	for i := range g.Maps {
		if name := g.Maps[i].Type; name != "" && !strings.ContainsAny(name, "{}") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
