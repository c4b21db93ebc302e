package catalogue

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Masked stands for a secret value where people look.
const Masked = "[secret]"

// apply returns the params with the schema's defaults, and without its secrets (nil when nothing in the schema is
// secret), or what is wrong with them. What is returned is what was checked, written anew: of a member that was given
// twice, a device might take the one that was not looked at.
func (s *schema) apply(params json.RawMessage) (whole, masked json.RawMessage, faults []Fault) {
	given := len(params) > 0
	if !given {
		params = json.RawMessage("{}")
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(params))
	if err != nil {
		return nil, nil, []Fault{{Message: "is not JSON"}}
	}
	if faults := checkNumbers(v, "", nil); len(faults) > 0 {
		return nil, nil, faults
	}
	fill(v, s.root)
	if faults := s.check(v); len(faults) > 0 {
		return nil, nil, faults
	}
	if object, ok := v.(map[string]any); ok && len(object) == 0 && !given {
		return nil, nil, nil
	}
	if whole, err = encode(v); err != nil {
		return nil, nil, []Fault{{Message: err.Error()}}
	}
	if !s.secret {
		return whole, nil, nil
	}
	if masked, err = encode(mask(v, []*jsonschema.Schema{s.root}, true)); err != nil {
		return nil, nil, []Fault{{Message: err.Error()}}
	}
	return whole, masked, nil
}

func encode(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("write the params: %w", err)
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}

// fill sets the members that are missing and have a default. Alternatives (anyOf, oneOf, if) give none: which of them
// holds is not known before.
func fill(v any, s *jsonschema.Schema) { fillFrom(v, s, map[*jsonschema.Schema]bool{}) }

func fillFrom(v any, s *jsonschema.Schema, seen map[*jsonschema.Schema]bool) {
	object, ok := v.(map[string]any)
	if !ok || s == nil || seen[s] {
		return
	}
	seen[s] = true
	fillFrom(v, s.Ref, seen)
	for _, inner := range s.AllOf {
		fillFrom(v, inner, seen)
	}
	for name, member := range s.Properties {
		if _, has := object[name]; !has {
			if d := defaultOf(member); d != nil {
				object[name] = clone(*d)
			}
		}
		if inner, has := object[name]; has {
			fill(inner, member)
		}
	}
}

// defaultOf finds a member's default, also behind references.
func defaultOf(s *jsonschema.Schema) *any {
	for range 8 { // references lead to references; a circle ends here
		if s == nil || s.Default != nil {
			break
		}
		s = s.Ref
	}
	if s == nil {
		return nil
	}
	return s.Default
}

// clone copies what comes from the schema, which all commands share.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for name, inner := range v {
			c[name] = clone(inner)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, inner := range v {
			c[i] = clone(inner)
		}
		return c
	}
	return v
}

// mask returns a copy without the values that a schema calls secret. What no schema names may be a secret under a
// misspelt name and is masked as well; names say whether that is so here: below a member that a schema does name and
// says nothing more of, everything is as it seems.
func mask(v any, schemas []*jsonschema.Schema, names bool) any {
	all := reach(schemas)
	for _, s := range all {
		if s.WriteOnly {
			return Masked
		}
	}
	switch v := v.(type) {
	case map[string]any:
		masked := make(map[string]any, len(v))
		for name, inner := range v {
			members := membersOf(all, name)
			if len(members) == 0 && names {
				masked[name] = Masked
				continue
			}
			masked[name] = mask(inner, members, names && namesMembers(members))
		}
		return masked
	case []any:
		masked := make([]any, len(v))
		for i, inner := range v {
			items := itemsOf(all, i)
			masked[i] = mask(inner, items, names && namesMembers(items))
		}
		return masked
	}
	return v
}

// reach adds to schemas those that hold for the same value.
func reach(schemas []*jsonschema.Schema) (all []*jsonschema.Schema) {
	seen := map[*jsonschema.Schema]bool{}
	var add func(s *jsonschema.Schema)
	add = func(s *jsonschema.Schema) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		all = append(all, s)
		add(s.Ref)
		add(s.RecursiveRef)
		if s.DynamicRef != nil {
			add(s.DynamicRef.Ref)
		}
		for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf, {s.If, s.Then, s.Else}} {
			for _, inner := range list {
				add(inner)
			}
		}
		for _, inner := range s.DependentSchemas {
			add(inner)
		}
	}
	for _, s := range schemas {
		add(s)
	}
	return all
}

// membersOf returns the schemas of an object's member.
func membersOf(schemas []*jsonschema.Schema, name string) (members []*jsonschema.Schema) {
	for _, s := range schemas {
		if member := s.Properties[name]; member != nil {
			members = append(members, member)
		}
		for pattern, member := range s.PatternProperties {
			if pattern.MatchString(name) {
				members = append(members, member)
			}
		}
		if further, ok := s.AdditionalProperties.(*jsonschema.Schema); ok && s.Properties[name] == nil {
			members = append(members, further)
		}
		if s.UnevaluatedProperties != nil {
			members = append(members, s.UnevaluatedProperties)
		}
	}
	return members
}

// itemsOf returns the schemas of a list's item.
func itemsOf(schemas []*jsonschema.Schema, i int) (items []*jsonschema.Schema) {
	for _, s := range schemas {
		if i < len(s.PrefixItems) {
			items = append(items, s.PrefixItems[i])
		}
		for _, further := range []*jsonschema.Schema{s.Items2020, s.Contains, s.UnevaluatedItems} {
			if further != nil {
				items = append(items, further)
			}
		}
		switch of := s.Items.(type) { // of earlier drafts
		case *jsonschema.Schema:
			items = append(items, of)
		case []*jsonschema.Schema:
			if i < len(of) {
				items = append(items, of[i])
			}
		}
	}
	return items
}

// namesMembers reports whether some of the schemas say which members an object has.
func namesMembers(schemas []*jsonschema.Schema) bool {
	for _, s := range reach(schemas) {
		if len(s.Properties) > 0 || len(s.PatternProperties) > 0 || s.AdditionalProperties != nil || s.UnevaluatedProperties != nil {
			return true
		}
		if len(s.PrefixItems) > 0 || s.Items2020 != nil || s.Contains != nil || s.Items != nil || s.UnevaluatedItems != nil {
			return true
		}
	}
	return false
}
