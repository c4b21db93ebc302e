package api

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"telemetryhub/auth"
	"telemetryhub/commands/catalogue"
)

// Catalogue knows what commands the types of devices take; catalogue.Catalogue is one.
type Catalogue interface {
	Types() []catalogue.Type
	Type(name string) (t catalogue.Type, known bool)
}

// Method is one thing that a device does when it is sent a command.
type Method struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Params      json.RawMessage `json:"params,omitempty" doc:"A JSON Schema (2020-12) of the params; left out: anything goes. writeOnly and x-secret mark what is shown to nobody"`
	TimeoutMs   int64           `json:"timeout_ms,omitempty" doc:"For the answer, unless the sender says otherwise; left out: the hub's"`
	Delivery    string          `json:"delivery,omitempty" doc:"Unless the sender says otherwise; left out: at-most-once"`
	Role        string          `json:"role" doc:"Whom it takes to send it"`
}

// DeviceType is what is known of the devices of one type.
type DeviceType struct {
	Name         string               `json:"name"`
	Methods      []Method             `json:"methods" nullable:"false" doc:"By name"`
	OtherMethods string               `json:"other_methods" enum:"allow,refuse,announced" doc:"What becomes of methods that are not listed: they are sent, refused, or sent if the device announced them in hello"`
	Fields       map[string]TypeField `json:"fields" doc:"By name"`
	Keepalive    TypeKeepalive        `json:"keepalive"`
	Limits       map[string]Limit     `json:"limits" doc:"By name, as in a device"`
}

// DeviceMethods is what one device takes.
type DeviceMethods struct {
	Type         string         `json:"type,omitempty"`
	Methods      []DeviceMethod `json:"methods" nullable:"false" doc:"Those of its type and those that it announced, by name"`
	OtherMethods string         `json:"other_methods" enum:"allow,refuse,announced" doc:"What becomes of methods that its type does not list"`
}

// DeviceMethod is one method of one device.
type DeviceMethod struct {
	Method
	Listed    bool `json:"listed" doc:"Its type has it"`
	Announced bool `json:"announced" doc:"Its last hello said that it has it"`
	Taken     bool `json:"taken" doc:"The hub sends it; false: it refuses it, as the type does not list it"`
}

func methodView(name string, m catalogue.Method) Method {
	return Method{
		Name: name, Description: m.Description, Params: m.Params, TimeoutMs: m.Timeout.Milliseconds(), Delivery: m.Delivery,
		Role: cmp.Or(m.Role, string(auth.RoleOperator)),
	}
}

func (s *Server) typeView(t catalogue.Type) DeviceType {
	v := DeviceType{Name: t.Name, OtherMethods: t.OtherMethods, Methods: []Method{}}
	for _, name := range slices.Sorted(maps.Keys(t.Methods)) {
		v.Methods = append(v.Methods, methodView(name, t.Methods[name]))
	}
	v.setProfile(s.deps.Profiles)
	return v
}

type deviceTypesOutput struct {
	Body struct {
		Types []DeviceType `json:"types" nullable:"false" doc:"By name"`
	}
}

type deviceTypePath struct {
	ID string `path:"id" maxLength:"128" doc:"The type's name"`
}

type deviceTypeOutput struct{ Body DeviceType }

type deviceMethodsOutput struct{ Body DeviceMethods }

func (s *Server) registerDeviceTypes() {
	tags := []string{"devices"}
	register(s, viewer, huma.Operation{
		OperationID: "list-device-types", Method: http.MethodGet, Path: "/api/v1/device-types", Tags: tags, Summary: "What is known of devices by their type",
		Description: "As the hub's configuration has it. A device of another type, or of none, is sent any command.",
	}, func(ctx context.Context, _ *struct{}) (*deviceTypesOutput, error) {
		out := &deviceTypesOutput{}
		out.Body.Types = []DeviceType{}
		seen := s.typesInScope(ctx)
		for _, t := range s.deps.Catalogue.Types() {
			if seen != nil && !seen[t.Name] {
				continue
			}
			out.Body.Types = append(out.Body.Types, s.typeView(t))
		}
		return out, nil
	})
	register(s, viewer, huma.Operation{
		OperationID: "get-device-type", Method: http.MethodGet, Path: "/api/v1/device-types/{id}", Tags: tags, Summary: "What is known of devices of one type",
	}, func(ctx context.Context, in *deviceTypePath) (*deviceTypeOutput, error) {
		t, known := s.deps.Catalogue.Type(in.ID)
		if seen := s.typesInScope(ctx); !known || seen != nil && !seen[in.ID] {
			return nil, newProblem(http.StatusNotFound, "no_such_type", "the hub's configuration knows no type %q", clip(in.ID))
		}
		return &deviceTypeOutput{Body: s.typeView(t)}, nil
	})
	register(s, viewer, huma.Operation{
		OperationID: "device-methods", Method: http.MethodGet, Path: "/api/v1/devices/{id}/methods", Tags: tags, Summary: "The commands that a device takes",
	}, s.deviceMethods)
}

func (s *Server) deviceMethods(_ context.Context, in *DevicePath) (*deviceMethodsOutput, error) {
	d, err := s.find(in.ID)
	if err != nil {
		return nil, err
	}
	t, _ := s.deps.Catalogue.Type(d.Type)
	announced := s.deps.Sessions.Presence(d.ID).Methods
	out := &deviceMethodsOutput{Body: DeviceMethods{Type: d.Type, OtherMethods: t.OtherMethods, Methods: []DeviceMethod{}}}
	for name, m := range t.Methods {
		out.Body.Methods = append(out.Body.Methods, DeviceMethod{
			Method: methodView(name, m), Listed: true, Announced: slices.Contains(announced, name), Taken: true,
		})
	}
	for _, name := range announced {
		if _, listed := t.Methods[name]; !listed {
			taken := t.OtherMethods != catalogue.Refuse
			out.Body.Methods = append(out.Body.Methods, DeviceMethod{Method: methodView(name, catalogue.Method{}), Announced: true, Taken: taken})
		}
	}
	slices.SortFunc(out.Body.Methods, func(a, b DeviceMethod) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
