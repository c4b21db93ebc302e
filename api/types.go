package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/wire"
)

// Types is the registry of the types that fields have in the store.
type Types interface {
	// List pages through the fields of one measurement, or of all, sorted; cursor "" begins, next "" is the end.
	List(ctx context.Context, q TypesQuery) (fields []FieldType, next string, err error)
	// Get returns one field; false if the hub has not met it.
	Get(ctx context.Context, measurement, field string) (FieldType, bool, error)
	// Set changes the type of a field for readings to come; when ctx ends before the hub has come to that it is queued,
	// and goes on. Errors are ErrFieldTaken, ErrNoRoomForField and *UnavailableError.
	Set(ctx context.Context, c TypeChange) (FieldTypeSet, error)
}

// Reasons why a type cannot be changed.
var (
	ErrFieldTaken     = errors.New("that name is taken")
	ErrNoRoomForField = errors.New("there is no room for one more field: raise ingest.measurement_fields or ingest.total_fields")
)

// TypesQuery chooses among fields; an empty measurement chooses all.
type TypesQuery struct {
	Measurement string
	Cursor      string
	Limit       int
}

// FieldType is the type that a field of a measurement has in the store, for all devices.
type FieldType struct {
	Measurement string        `json:"measurement"`
	Field       string        `json:"field" doc:"As devices name it"`
	Type        string        `json:"type" enum:"float,integer,string,boolean"`
	StoredAs    string        `json:"stored_as" doc:"The name by which the store has its values: the field's own, unless its type was changed after values of another type were stored"`
	ChangedBy   string        `json:"changed_by,omitempty" doc:"The operator who set the type; left out where it was settled by the device's type or the first value"`
	ChangedAt   time.Time     `json:"changed_at,omitzero"`
	Earlier     []EarlierType `json:"earlier,omitempty" doc:"The types that it had before, the oldest first; what was stored then is still there"`
}

// EarlierType is a type that a field had.
type EarlierType struct {
	Type     string `json:"type"`
	StoredAs string `json:"stored_as"`
}

// TypeChange asks for another type of a field.
type TypeChange struct{ Measurement, Field, Type, StoredAs, By string }

// FieldTypeSet is what a change came to.
type FieldTypeSet struct {
	FieldType
	State   string `json:"state" enum:"applied,queued,unchanged" doc:"queued: it is durable, and applies once the readings that came before it are stored"`
	Message string `json:"message" doc:"What it means for readings that are stored, to come, and in the quarantine"`
}

// TypesChoice chooses a page of fields.
type TypesChoice struct {
	Measurement string `query:"measurement" maxLength:"128" doc:"Only of this measurement"`
	Limit       int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	Cursor      string `query:"cursor" maxLength:"1024" doc:"next of the page before"`
}

type typesOutput struct {
	Body struct {
		Items []FieldType `json:"items" nullable:"false"`
		Next  string      `json:"next" doc:"Cursor of the next page; empty on the last"`
	}
}

// FieldPath names a field.
type FieldPath struct {
	Measurement string `path:"measurement" maxLength:"128" doc:"telemetry, unless the readings name another"`
	Field       string `path:"field" maxLength:"256" doc:"As devices name it; nested ones are joined by dots"`
}

type fieldTypeOutput struct{ Body FieldType }

type setTypeInput struct {
	FieldPath
	Body struct {
		Type     string `json:"type" enum:"float,integer,string,boolean"`
		StoredAs string `json:"stored_as,omitempty" maxLength:"256" doc:"The name by which values are stored from now on. Left out: the field's own, or FIELD_TYPE where the store holds values of another type by that name"`
	}
}

type fieldTypeSetOutput struct{ Body FieldTypeSet }

// typeWait bounds how long a request waits for a change of a type. After that it goes on by itself.
const typeWait = 10 * time.Second

func (s *Server) registerTypes() {
	tags := []string{"account"}
	register(s, viewer, huma.Operation{
		OperationID: "list-types", Method: http.MethodGet, Path: "/api/v1/types", Tags: tags, Summary: "Types of fields in the store",
		Description: "Sorted by measurement and field.",
	}, s.types)
	register(s, viewer, huma.Operation{
		OperationID: "get-type", Method: http.MethodGet, Path: "/api/v1/types/{measurement}/{field}", Tags: tags, Summary: "Type of one field",
	}, s.fieldType)
	register(s, admin, huma.Operation{
		OperationID: "set-type", Method: http.MethodPut, Path: "/api/v1/types/{measurement}/{field}", Tags: tags, Summary: "Change the type of a field",
		Description: "It holds for readings received from now on, of all devices, and for those in the quarantine that are retried. What is stored stays as it is: " +
			"as the store has one type for a field, values of the new one are stored by another name, FIELD_TYPE, where it holds values of the old. A field that no reading has had yet gets its type beforehand.",
	}, s.setType)
}

func (s *Server) types(ctx context.Context, in *TypesChoice) (*typesOutput, error) {
	out := &typesOutput{}
	var err error
	if out.Body.Items, out.Body.Next, err = s.deps.Types.List(ctx, TypesQuery{Measurement: in.Measurement, Cursor: in.Cursor, Limit: in.Limit}); err != nil {
		return nil, err
	}
	if out.Body.Items == nil {
		out.Body.Items = []FieldType{}
	}
	return out, nil
}

func (s *Server) fieldType(ctx context.Context, in *FieldPath) (*fieldTypeOutput, error) {
	t, ok, err := s.deps.Types.Get(ctx, in.Measurement, in.Field)
	if err == nil && !ok {
		err = newProblem(http.StatusNotFound, "field_not_found", "no reading of measurement %q has had a field %q", clip(in.Measurement), clip(in.Field))
	}
	if err != nil {
		return nil, err
	}
	return &fieldTypeOutput{Body: t}, nil
}

func (s *Server) setType(ctx context.Context, in *setTypeInput) (*fieldTypeSetOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	c := TypeChange{
		Measurement: in.Measurement, Field: in.Field, Type: in.Body.Type, StoredAs: in.Body.StoredAs, By: exchangeOf(ctx).operator.Name,
	}
	note(ctx, "measurement", c.Measurement)
	note(ctx, "field", c.Field)
	note(ctx, "type", c.Type)
	wait, cancel := context.WithTimeout(ctx, typeWait)
	defer cancel()
	set, err := s.deps.Types.Set(wait, c)
	switch {
	case errors.Is(err, ErrFieldTaken):
		return nil, newProblem(http.StatusConflict, "field_taken", "%v; choose another stored_as", err)
	case errors.Is(err, ErrNoRoomForField):
		return nil, newProblem(http.StatusConflict, "field_limit", "%v", err)
	case err != nil:
		return nil, err
	}
	note(ctx, "stored_as", set.StoredAs)
	s.log.InfoContext(ctx, "type of a field set", "measurement", c.Measurement, "field", c.Field, "type", c.Type, "stored_as", set.StoredAs, "state", set.State, "operator", c.By)
	return &fieldTypeSetOutput{Body: set}, nil
}

// check names what no reading could bear.
func (in *setTypeInput) check() error {
	if !wire.IsMeasurement([]byte(in.Measurement)) {
		return newProblem(http.StatusUnprocessableEntity, "bad_parameter", "no measurement can have that name").at("path.measurement", clip(in.Measurement))
	}
	for _, n := range []struct{ location, name string }{{"path.field", in.Field}, {"body.stored_as", in.Body.StoredAs}} {
		if reason := wire.CheckFieldName(n.name); reason != "" && (n.name != "" || n.location == "path.field") {
			return newProblem(http.StatusUnprocessableEntity, reason, "no field can have that name").at(n.location, clip(n.name))
		}
	}
	return nil
}
