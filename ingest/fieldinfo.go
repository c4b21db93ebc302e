package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// FieldInfo is what is known of a field's type.
type FieldInfo struct {
	Measurement, Field string
	Type               FieldType
	StoredAs           string    // the name that values are stored by
	By                 string    // the operator who set it; empty: it was settled by the device's type, the store or the first value
	At                 time.Time // and when
	Earlier            []EarlierType
}

// EarlierType is a type that a field had, and under which name its values were stored.
type EarlierType struct {
	Type     FieldType
	StoredAs string
}

func (m *measurementTypes) newest(field string) (t FieldType, as string) {
	if list := m.Changes[field]; len(list) > 0 {
		return list[len(list)-1].Type, list[len(list)-1].As
	}
	return m.Fields[field], ""
}

func (m *measurementTypes) info(field string) FieldInfo {
	c := TypeChange{Measurement: m.Measurement, Field: field}
	c.Type, c.As = m.newest(field)
	info := FieldInfo{Measurement: m.Measurement, Field: field, Type: c.Type, StoredAs: c.storedAs()}
	for i, had := range m.Changes[field] {
		if i == len(m.Changes[field])-1 {
			info.By, info.At = had.By, had.At
			break
		}
		c.As = had.As
		info.Earlier = append(info.Earlier, EarlierType{Type: had.Type, StoredAs: c.storedAs()})
	}
	return info
}

// look reads the record of one measurement, without touching the writer's copy.
func (ts *fieldTypes) look(ctx context.Context, measurement string) (*measurementTypes, error) {
	apart := &fieldTypes{kv: ts.kv, by: map[string]*measurementTypes{}}
	m, _, err := apart.read(ctx, measurement)
	if err != nil {
		return nil, fmt.Errorf("read the types of fields: %w", err)
	}
	return m, nil
}

// Types returns the types of all fields, or of those of one measurement, sorted by measurement and field.
func (in *Ingest) Types(ctx context.Context, measurement string) ([]FieldInfo, error) {
	apart := &fieldTypes{kv: in.writer.types.kv, by: map[string]*measurementTypes{}}
	var err error
	if measurement != "" {
		var m *measurementTypes
		if m, _, err = apart.read(ctx, measurement); err == nil {
			apart.by[measurement] = m
		}
	} else {
		err = apart.load(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("read the types of fields: %w", err)
	}
	var all []FieldInfo
	for _, m := range apart.by {
		for field := range m.Fields {
			all = append(all, m.info(field))
		}
	}
	slices.SortFunc(all, func(a, b FieldInfo) int {
		if c := strings.Compare(a.Measurement, b.Measurement); c != 0 {
			return c
		}
		return strings.Compare(a.Field, b.Field)
	})
	return all, nil
}
