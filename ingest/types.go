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

// askAgain is how often at most the store is asked for the types of a measurement.
const askAgain = time.Minute

// fieldTypes is the registry of types, the writer's copy of a bucket that hubs share: one key a measurement. An entry never
// goes, it changes at a place of the journal only (retype.go), and no reading is judged by anything else: a field that has
// no entry gets one, durably, before its reading is judged. So a reading that is read again after a crash is judged as it
// was before; and what a copy lacks is found when it is needed, without a watch.
type fieldTypes struct {
	kv     jetstream.KeyValue
	store  Store
	ofOwn  func(device, field string) FieldType // what the device's type says; nil: nothing
	limits FieldLimits
	most   int // bytes of the largest record
	log    *slog.Logger
	fault  func(error) // told why the store does not answer

	by    map[string]*measurementTypes
	count int // of all fields
}

// measurementTypes is the record of one measurement.
type measurementTypes struct {
	Measurement string               `json:"measurement"`
	Fields      map[string]FieldType `json:"fields"`
	// Changes are those of the fields whose type an operator set, the newest last. Fields has the newest type of these too.
	Changes map[string][]typeChange `json:"changes,omitempty"`

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
	m.Fields, m.Changes = record.Fields, record.Changes
	return m, nil
}

// of returns what the copy has of a measurement; nil: nothing.
func (ts *fieldTypes) of(measurement []byte) *measurementTypes {
	if len(measurement) == 0 {
		return ts.by[wire.DefaultMeasurement]
	}
	return ts.by[string(measurement)]
}

// knows says whether each field of r, which stands in the journal's envelope at, has a type, or one of those that have
// cannot take its value.
func (m *measurementTypes) knows(r *wire.Reading, at uint64) bool {
	if m == nil {
		return false
	}
	known := true
	for i := range r.Fields {
		t, _ := m.at(r.Fields[i].Name, at)
		if t != "" && !fits(&r.Fields[i], t) {
			return true
		}
		known = known && t != ""
	}
	return known
}

// apply casts the fields of r, which stands in the journal's envelope at, to their types, which it appends to into, and
// gives them the names that they are stored by. With a reason nothing was changed: the reading cannot be stored.
func (ts *fieldTypes) apply(m *measurementTypes, r *wire.Reading, at uint64, into []FieldType) (types []FieldType, reason, message string) {
	var lacking *wire.Field
	for i := range r.Fields {
		f := &r.Fields[i]
		var t FieldType
		if m != nil {
			t, _ = m.at(f.Name, at)
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
		return into, reasonFieldLimit, fmt.Sprintf("the field %q would be one more than the hub takes: %d of a measurement (ingest.measurement_fields), %d in all (ingest.total_fields), %d bytes of a measurement's names",
			lacking.Name, ts.limits.Measurement, ts.limits.All, ts.most)
	}
	if m != nil && len(m.Changes) > 0 {
		if other := m.rename(r, at); other != "" {
			return into, wire.ReasonFieldTwice, fmt.Sprintf("two of its fields are stored as %q: the type of one was changed", other)
		}
	}
	for i := range r.Fields {
		cast(&r.Fields[i], into[i])
	}
	return into, "", ""
}

// settle gives the fields of r that have no type one, durably: that of another hub, of the store, of the device's type, or
// of the value, the first that there is. Where the bounds forbid it they stay without. It tries until that succeeds, a
// try fails after ctx has ended, or hard ends.
func (ts *fieldTypes) settle(ctx, hard context.Context, device string, measurement []byte, r *wire.Reading, at uint64) error {
	name := strings.Clone(measurementOf(measurement))
	return ts.persist(ctx, hard, func() error { return ts.trySettle(hard, device, name, r, at) })
}

// persist tries to write to the registry until that succeeds, a try fails after ctx has ended, or hard ends.
func (ts *fieldTypes) persist(ctx, hard context.Context, try func() error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := try()
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

// read returns what the bucket has of a measurement now, and its revision, 0 for none.
func (ts *fieldTypes) read(ctx context.Context, measurement string) (m *measurementTypes, revision uint64, err error) {
	e, err := ts.kv.Get(ctx, typesKey(measurement))
	switch {
	case err == nil:
		m, err = ts.take(e)
		return m, e.Revision(), err
	case !errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, 0, err
	}
	if m = ts.by[measurement]; m == nil {
		m = &measurementTypes{Measurement: measurement, Fields: map[string]FieldType{}}
	}
	return m, 0, nil
}

func typesKey(measurement string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(measurement))
}

// write makes next the record of a measurement, unless another hub has written since that revision; m was the record
// then. False: the record is larger than NATS takes.
func (ts *fieldTypes) write(ctx context.Context, m, next *measurementTypes, revision uint64) (written bool, err error) {
	next.Measurement = m.Measurement
	data, err := json.Marshal(next)
	if err != nil || len(data) > ts.most {
		return false, err
	}
	if revision > 0 {
		_, err = ts.kv.Update(ctx, typesKey(m.Measurement), data, revision)
	} else {
		_, err = ts.kv.Create(ctx, typesKey(m.Measurement), data)
	}
	if err != nil {
		return false, err
	}
	ts.count += len(next.Fields) - len(m.Fields)
	m.Fields, m.Changes = next.Fields, next.Changes
	ts.by[m.Measurement] = m
	return true, nil
}

func (ts *fieldTypes) trySettle(hard context.Context, device, measurement string, r *wire.Reading, at uint64) error {
	m, revision, err := ts.read(hard, measurement)
	if err != nil {
		return err
	}
	if m.knows(r, at) {
		return nil
	}
	if room := min(ts.limits.Measurement-len(m.Fields), ts.limits.All-ts.count); room < 1 {
		return nil
	}
	if err := ts.ask(hard, m); err != nil {
		return err
	}
	settled := ts.extend(m, device, r)
	if settled == nil {
		return nil
	}
	_, err = ts.write(hard, m, &measurementTypes{Fields: settled, Changes: m.Changes}, revision)
	return err
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
	if len(all) > ts.limits.Measurement || ts.count+len(all)-len(m.Fields) > ts.limits.All {
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
