package maps_test

import (
	"testing"

	"telemetryhub/bridge/maps"
)

func TestDeviceTypes(t *testing.T) {
	of := func(name, kind string) maps.Map {
		return named(name, "x/{name}/"+name, func(m *maps.Map) { m.Type = kind })
	}
	groups := []maps.Group{
		{
			Name: "one",
			Maps: []maps.Map{of("a", "lamp"), of("b", "plug"), of("c", "lamp"), of("d", "{$.kind}")},
			Commands: []maps.Command{
				{Method: "set", Topic: "x/{name}", Description: "Sets.", Params: map[string]any{"type": "object"}},
				{Method: "dim", Topic: "x/{name}", Types: []string{"lamp"}},
			},
		},
		{Name: "two", Maps: []maps.Map{of("e", "rpc")}, Commands: []maps.Command{{Method: "*", Topic: "x/{name}"}, {Method: "set", Types: []string{"plug"}}}},
	}
	all, err := maps.DeviceTypes(groups)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	lamp, plug, rpc := all[0], all[1], all[2]
	if lamp.Name != "lamp" || len(lamp.Methods) != 2 || lamp.Methods[0].Name != "dim" || lamp.Any {
		t.Errorf("lamp: %+v", lamp)
	}
	if len(plug.Methods) != 1 || plug.Methods[0].Description != "Sets." || string(plug.Methods[0].Params) != `{"type":"object"}` {
		t.Errorf("plug: the first group's method counts: %+v", plug)
	}
	if rpc.Name != "rpc" || len(rpc.Methods) != 0 || !rpc.Any {
		t.Errorf("rpc: %+v", rpc)
	}
	groups[0].Commands[0].Params = map[any]any{1: func() {}}
	if _, err := maps.DeviceTypes(groups); err == nil {
		t.Error("a schema that is no JSON is taken")
	}
}
