package catalogue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What becomes of a method that a type does not list.
const (
	Allow     = "allow"     // it is sent
	Refuse    = "refuse"    // it is refused
	Announced = "announced" // it is sent if the device announced it in hello
)

// Type is what is known of the devices of one type.
type Type struct {
	Name    string
	Methods map[string]Method
	// OtherMethods is Allow, Refuse or Announced. Empty: Refuse for a type that lists methods, else Allow.
	OtherMethods string
}

// Method is one thing that devices of a type do.
type Method struct {
	Description string
	Params      json.RawMessage // a JSON Schema; empty: anything goes
	Timeout     time.Duration   // for the answer, if the sender names none; 0: the hub's
	Delivery    string          // if the sender names none; empty: the hub's
	Role        string          // whom it takes to send it; empty: whoever may send commands
}

// others is what becomes of methods that are not listed.
func (t *Type) others() string {
	if len(t.Methods) > 0 {
		return cmp.Or(t.OtherMethods, Refuse)
	}
	return cmp.Or(t.OtherMethods, Allow)
}

// Fault is one thing that is wrong, and where: a JSON pointer (RFC 6901) into the params or the schema. Its message
// holds nothing of the value that stands there, which may be secret.
type Fault struct {
	Pointer string
	Message string
}

// The reasons of a Refusal.
const (
	ReasonMethod = "unknown_method"
	ReasonParams = "bad_params"
)

// Refusal says why a device does not take a command.
type Refusal struct {
	Reason  string
	Message string
	Faults  []Fault // all of them; of ReasonParams only
}

func (e *Refusal) Error() string { return e.Message }

// Call is a command to be checked.
type Call struct {
	Type      string   // of the device; may be empty, or one that the catalogue does not know
	Announced []string // what the device said in hello that it does
	Method    string
	Params    json.RawMessage // JSON, or empty
}

// Terms are a checked command.
type Terms struct {
	Method Method
	Params json.RawMessage // with the schema's defaults
	Masked json.RawMessage // Params without what is secret; nil when nothing is
}

// Catalogue holds the types. It does not change.
type Catalogue struct {
	types   map[string]Type
	schemas map[string]map[string]*schema // by type and method; only of methods with a schema
}

// New compiles the types' schemas. An error names the first type and method that is wrong; CheckSchema tells more.
func New(types []Type) (*Catalogue, error) {
	c := &Catalogue{types: map[string]Type{}, schemas: map[string]map[string]*schema{}}
	for _, t := range types {
		c.types[t.Name], c.schemas[t.Name] = t, map[string]*schema{}
		for name, m := range t.Methods {
			if len(m.Params) == 0 {
				continue
			}
			compiled, faults := compile(m.Params)
			if len(faults) > 0 {
				return nil, fmt.Errorf("type %s: method %s: schema of params: %s: %s", t.Name, name, faults[0].Pointer, faults[0].Message)
			}
			c.schemas[t.Name][name] = compiled
		}
	}
	return c, nil
}

// Types returns all types, by name.
func (c *Catalogue) Types() []Type {
	all := make([]Type, 0, len(c.types))
	for _, t := range c.types {
		t.OtherMethods = t.others()
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Type) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Type returns what is known of a type; of one that is not in the catalogue, that it takes everything.
func (c *Catalogue) Type(name string) (t Type, known bool) {
	t, known = c.types[name]
	if !known {
		t.Name = name
	}
	t.OtherMethods = t.others()
	return t, known
}

// Check returns the terms of a command, or the Refusal that says why its device does not take it.
func (c *Catalogue) Check(call Call) (Terms, error) {
	t, _ := c.Type(call.Type)
	m, listed := t.Methods[call.Method]
	if !listed {
		if err := takesOther(t, call); err != nil {
			return Terms{}, err
		}
	}
	s := c.schemas[call.Type][call.Method]
	if s == nil {
		return Terms{Method: m, Params: call.Params}, nil
	}
	params, masked, faults := s.apply(call.Params)
	if len(faults) > 0 {
		message := fmt.Sprintf("the params do not fit method %s of type %s", call.Method, call.Type)
		return Terms{}, &Refusal{Reason: ReasonParams, Message: message, Faults: faults}
	}
	return Terms{Method: m, Params: params, Masked: masked}, nil
}

// takesOther says whether a method that the type does not list is sent.
func takesOther(t Type, call Call) error {
	known := strings.Join(slices.Sorted(maps.Keys(t.Methods)), ", ")
	switch {
	case t.OtherMethods == Allow:
		return nil
	case t.OtherMethods == Announced && slices.Contains(call.Announced, call.Method):
		return nil
	case t.OtherMethods == Announced:
		announced := strings.Join(call.Announced, ", ")
		message := fmt.Sprintf("neither the type %s (%s) nor the device's hello (%s) has a method %q", t.Name, cmp.Or(known, "no methods"), cmp.Or(announced, "nothing announced"), call.Method)
		return &Refusal{Reason: ReasonMethod, Message: message}
	}
	message := fmt.Sprintf("the type %s has no method %q; it has %s", t.Name, call.Method, cmp.Or(known, "none"))
	return &Refusal{Reason: ReasonMethod, Message: message}
}
