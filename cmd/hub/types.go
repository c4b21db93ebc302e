package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"telemetryhub/api"
	"telemetryhub/ingest"
)

// typesAPI is ingest's registry of types as the API asks for it.
type typesAPI struct{ ingest *ingest.Ingest }

// List implements api.Types. A cursor is the last field of the page before.
func (a typesAPI) List(ctx context.Context, q api.TypesQuery) ([]api.FieldType, string, error) {
	after, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil {
		return nil, "", &api.QueryError{Parameter: "cursor", Value: q.Cursor, Message: "it is not one that the hub gave"}
	}
	all, err := a.ingest.Types(ctx, q.Measurement)
	if err != nil {
		return nil, "", typesError(err)
	}
	var page []api.FieldType
	for _, f := range all {
		if fieldKey(f.Measurement, f.Field) <= string(after) {
			continue
		}
		if len(page) == q.Limit {
			last := page[len(page)-1]
			return page, base64.RawURLEncoding.EncodeToString([]byte(fieldKey(last.Measurement, last.Field))), nil
		}
		page = append(page, fieldTypeView(f))
	}
	return page, "", nil
}

// fieldKey orders as the list is ordered: no name has a byte as low as the one between.
func fieldKey(measurement, field string) string { return measurement + "\x00" + field }

// Get implements api.Types.
func (a typesAPI) Get(ctx context.Context, measurement, field string) (api.FieldType, bool, error) {
	all, err := a.ingest.Types(ctx, measurement)
	if err != nil {
		return api.FieldType{}, false, typesError(err)
	}
	for _, f := range all {
		if f.Field == field {
			return fieldTypeView(f), true, nil
		}
	}
	return api.FieldType{}, false, nil
}

// Set implements api.Types.
func (a typesAPI) Set(ctx context.Context, c api.TypeChange) (api.FieldTypeSet, error) {
	set, err := a.ingest.SetType(ctx, ingest.TypeChange{
		Measurement: c.Measurement, Field: c.Field, Type: ingest.FieldType(c.Type), As: c.StoredAs, By: c.By,
	})
	if err != nil {
		return api.FieldTypeSet{}, typesError(err)
	}
	answer := api.FieldTypeSet{FieldType: fieldTypeView(set.Field), State: string(set.State)}
	switch set.State {
	case ingest.TypeUnchanged:
		answer.Message = "the field has that type already"
		return answer, nil
	case ingest.TypeQueued:
		answer.Message = "the change is durable and waits for readings that came before it; they wait for the store. "
	}
	answer.Message += fmt.Sprintf("Values received from now on are stored as %s by the name %q, in readings of all devices; what does not fit is quarantined (type_conflict). What is stored stays as it is.", c.Type, set.Field.StoredAs)
	switch {
	case set.Held != "" && set.Field.StoredAs == c.Field:
		answer.Message += fmt.Sprintf(" The store holds %q as %s: where its shard does, it rejects the new values, which are then quarantined (store_rejected); in shards that begin later it takes them.", c.Field, set.Held)
	case set.Held != "":
		answer.Message += fmt.Sprintf(" The store holds %q as %s, and a field there has one type: read %q beside it.", c.Field, set.Held, set.Field.StoredAs)
	}
	answer.Message += " Readings in the quarantine are judged anew when they are retried: hubctl quarantine retry --reason type_conflict"
	return answer, nil
}

func fieldTypeView(f ingest.FieldInfo) api.FieldType {
	view := api.FieldType{
		Measurement: f.Measurement, Field: f.Field, Type: string(f.Type), StoredAs: f.StoredAs, ChangedBy: f.By, ChangedAt: f.At,
	}
	for _, e := range f.Earlier {
		view.Earlier = append(view.Earlier, api.EarlierType{Type: string(e.Type), StoredAs: e.StoredAs})
	}
	return view
}

func typesError(err error) error {
	switch {
	case errors.Is(err, ingest.ErrFieldTaken):
		return fmt.Errorf("%w: %s", api.ErrFieldTaken, strings.TrimPrefix(err.Error(), ingest.ErrFieldTaken.Error()+": "))
	case errors.Is(err, ingest.ErrNoRoom):
		return api.ErrNoRoomForField
	case errors.Is(err, ingest.ErrStoreBusy):
		return &api.UnavailableError{Message: "the store does not say which types it holds, so no name can be chosen; give stored_as, or try again", Err: err}
	case errors.Is(err, ingest.ErrStopped):
		return &api.UnavailableError{Message: "the hub is stopping", Err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &api.UnavailableError{Message: "the journal takes nothing at present; the change may still be made once it does", Err: err}
	}
	return err
}
