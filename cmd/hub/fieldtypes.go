package main

import (
	"telemetryhub/devices"
	"telemetryhub/ingest"
)

// fieldTypes joins the registry, which knows the type of a device, and the configuration, which knows the fields of a
// type.
func fieldTypes(types []TypeConfig, registry *devices.Registry) func(device, field string) ingest.FieldType {
	byType := make(map[string]map[string]FieldConfig, len(types))
	for _, t := range types {
		byType[t.Name] = t.Fields
	}
	return func(device, field string) ingest.FieldType {
		d, ok := registry.Get(device)
		if !ok {
			return ""
		}
		return ingest.FieldType(byType[d.Type][field].Type)
	}
}
