package ingest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"telemetryhub/wire"
)

// FieldTyper is implemented by stores that can say which types the fields of a measurement have, whoever wrote them.
type FieldTyper interface {
	FieldTypes(ctx context.Context, measurement string) (map[string]FieldType, error)
}

// Reasons of readings that are set aside because of their fields.
const (
	reasonTypeConflict = "type_conflict"
	reasonFieldLimit   = "field_limit"
)

// Bounds of the registry of types, some tens of MB in memory.
const (
	maxFieldsEach = 4096    // fields of a measurement
	maxFieldsAll  = 100_000 // of all of them
	askAgain      = time.Minute
)

// fieldTypes is the registry of types, the writer's copy of a bucket that hubs share: one key a measurement. An entry never
// changes and never goes, and no reading is judged by anything else: a field that has no entry gets one, durably, before
// its reading is judged. So a reading that is read again after a crash is judged as it was before; and what a copy lacks
// is found when it is needed, without a watch.
type fieldTypes struct {
	kv    jetstream.KeyValue
	store Store
	ofOwn func(device, field string) FieldType // what the device's type says; nil: nothing
	most  int                                  // bytes of the largest record
	log   *slog.Logger
	fault func(error) // told why the store does not answer

	by    map[string]*measurementTypes
	count int // of all fields
}

// measurementTypes is the record of one measurement.
type measurementTypes struct {
	Measurement string               `json:"measurement"`
	Fields      map[string]FieldType `json:"fields"`

	inStore map[string]FieldType // the store's answer, and
	askedAt time.Time            // when it came
}

// load reads the registry.
func (ts *fieldTypes) load(ctx context.Context) error {
	watch, err := ts.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read the types of fields: %w", err)
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case e := <-watch.Updates():
			if e == nil {
				return nil
			}
			if _, err := ts.take(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("read the types of fields: %w", ctx.Err())
		}
	}
}

// take adds a record of the bucket to the copy.
func (ts *fieldTypes) take(e jetstream.KeyValueEntry) (*measurementTypes, error) {
	var record measurementTypes
	if err := json.Unmarshal(e.Value(), &record); err != nil {
		return nil, fmt.Errorf("read the types of fields: key %s: %w", e.Key(), err)
	}
	m := ts.by[record.Measurement]
	if m == nil {
		m = &measurementTypes{Measurement: record.Measurement, Fields: map[string]FieldType{}}
		ts.by[record.Measurement] = m
	}
	ts.count += len(record.Fields) - len(m.Fields) // entries never go
	m.Fields = record.Fields
	return m, nil
}

// of returns what the copy has of a measurement; nil: nothing.
func (ts *fieldTypes) of(measurement []byte) *measurementTypes {
	if len(measurement) == 0 {
		return ts.by[wire.DefaultMeasurement]
	}
	return ts.by[string(measurement)]
}

// knows says whether each field of r has a type, or one of those that have cannot take its value.
func (m *measurementTypes) knows(r *wire.Reading) bool {
	if m == nil {
		return false
	}
	known := true
	for i := range r.Fields {
		t, ok := m.Fields[string(r.Fields[i].Name)]
		if ok && !fits(&r.Fields[i], t) {
			return true
		}
		known = known && ok
	}
	return known
}

// apply casts the fields of r to their types, which it appends to into. With a reason nothing was cast: the reading
// cannot be stored.
func (m *measurementTypes) apply(r *wire.Reading, into []FieldType) (types []FieldType, reason, message string) {
	var lacking *wire.Field
	for i := range r.Fields {
		f := &r.Fields[i]
		var t FieldType
		if m != nil {
			t = m.Fields[string(f.Name)]
		}
		switch {
		case t == "":
			lacking = f
		case !fits(f, t):
			return into, reasonTypeConflict, fmt.Sprintf("the field %q is stored as %s, and came as %s", f.Name, t, typeOf(f))
		}
		into = append(into, t)
	}
	if lacking != nil {
		return into, reasonFieldLimit, fmt.Sprintf("the field %q would be one more than the hub takes: %d of a measurement, %d in all", lacking.Name, maxFieldsEach, maxFieldsAll)
	}
	for i := range r.Fields {
		cast(&r.Fields[i], into[i])
	}
	return into, "", ""
}

// settle gives the fields of r that have no type one, durably: that of another hub, of the store, of the device's type, or
// of the value, the first that there is. Where the bounds forbid it they stay without. It tries until that succeeds, a
// try fails after ctx has ended, or hard ends.
func (ts *fieldTypes) settle(ctx, hard context.Context, device string, measurement []byte, r *wire.Reading) error {
	name := wire.DefaultMeasurement
	if len(measurement) > 0 {
		name = strings.Clone(string(measurement))
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := ts.trySettle(hard, device, name, r)
		if err == nil {
			return nil
		}
		if errors.Is(err, jetstream.ErrKeyExists) && hard.Err() == nil {
			continue // another hub was first: see what it wrote
		}
		if ctx.Err() != nil || hard.Err() != nil {
			return fmt.Errorf("settle the types of fields: %w: %w", errLeft, err)
		}
		ts.fault(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done(): // one try more
		}
	}
}

func (ts *fieldTypes) trySettle(hard context.Context, device, measurement string, r *wire.Reading) error {
	key := base64.RawURLEncoding.EncodeToString([]byte(measurement))
	m, revision := ts.by[measurement], uint64(0)
	e, err := ts.kv.Get(hard, key)
	switch {
	case err == nil:
		revision = e.Revision()
		if m, err = ts.take(e); err != nil {
			return err
		}
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return err
	}
	if m == nil {
		m = &measurementTypes{Measurement: measurement, Fields: map[string]FieldType{}}
	}
	if m.knows(r) {
		return nil
	}
	if room := min(maxFieldsEach-len(m.Fields), maxFieldsAll-ts.count); room < 1 {
		return nil
	}
	if err := ts.ask(hard, m); err != nil {
		return err
	}
	settled := ts.extend(m, device, r)
	if settled == nil {
		return nil
	}
	data, err := json.Marshal(&measurementTypes{Measurement: measurement, Fields: settled})
	if err != nil || len(data) > ts.most {
		return err
	}
	if revision > 0 {
		_, err = ts.kv.Update(hard, key, data, revision)
	} else {
		_, err = ts.kv.Create(hard, key, data)
	}
	if err != nil {
		return err
	}
	ts.count += len(settled) - len(m.Fields)
	m.Fields = settled
	ts.by[measurement] = m
	return nil
}

// extend returns m's fields and types for those of r that it lacks; nil if there is no room for them. A type that only
// the value says is not settled by a reading that will not be stored.
func (ts *fieldTypes) extend(m *measurementTypes, device string, r *wire.Reading) map[string]FieldType {
	told, all := make(map[string]FieldType), make(map[string]FieldType)
	for name, t := range m.Fields {
		told[name], all[name] = t, t
	}
	fit := true
	for i := range r.Fields {
		f := &r.Fields[i]
		if _, ok := all[string(f.Name)]; ok {
			continue
		}
		t := m.inStore[string(f.Name)]
		if t == "" && ts.ofOwn != nil {
			t = ts.ofOwn(device, string(f.Name))
		}
		if t == "" {
			all[string(f.Name)] = typeOf(f)
			continue
		}
		told[string(f.Name)], all[string(f.Name)] = t, t
		fit = fit && fits(f, t)
	}
	if !fit {
		all = told
	}
	if len(all) > maxFieldsEach || ts.count+len(all)-len(m.Fields) > maxFieldsAll {
		return nil
	}
	return all
}

// ask learns from the store, at most once a minute, what fields others have written there. A store that is away is waited
// for, as for a write. One that cannot say is not: it rejects what conflicts, and that is set aside then.
func (ts *fieldTypes) ask(hard context.Context, m *measurementTypes) error {
	typer, ok := ts.store.(FieldTyper)
	if !ok || !m.askedAt.IsZero() && time.Since(m.askedAt) < askAgain {
		return nil
	}
	types, err := typer.FieldTypes(hard, m.Measurement)
	var later RetryAfter
	switch {
	case err != nil && (hard.Err() != nil || errors.As(err, &later)):
		return err
	case err != nil:
		ts.log.Warn("the store does not say which types its fields have", "measurement", m.Measurement, "err", err)
	}
	m.inStore, m.askedAt = types, time.Now()
	return nil
}
