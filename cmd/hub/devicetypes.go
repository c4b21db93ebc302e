package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"telemetryhub/auth"
	maptypes "telemetryhub/bridge/maps"
	"telemetryhub/commands"
	"telemetryhub/commands/catalogue"
	"telemetryhub/devices"
)

// Schema is a JSON Schema that stands in the configuration, as JSON.
type Schema struct{ JSON json.RawMessage }

// schema reads a node of the file as JSON, and notes the line of each of its parts under the path that a JSON pointer
// to it makes.
func (d *configDecoder) schema(node *yaml.Node, target reflect.Value, path string) {
	text, err := d.jsonOf(node, path, 0)
	if err != nil {
		d.faults.addAt(node.Line, path, "%v", err)
		return
	}
	target.Set(reflect.ValueOf(Schema{text}))
}

// maxSchemaDepth bounds schemas, and ends aliases that lead in a circle.
const maxSchemaDepth = 64

// jsonOf turns YAML into what JSON has. Numbers stay as they were written, and so does the order of members, in which a
// form shows them.
func (d *configDecoder) jsonOf(node *yaml.Node, path string, depth int) (json.RawMessage, error) {
	if depth > maxSchemaDepth {
		return nil, fmt.Errorf("is nested deeper than %d", maxSchemaDepth)
	}
	switch node.Kind {
	case yaml.AliasNode:
		return d.jsonOf(node.Alias, path, depth+1)
	case yaml.SequenceNode:
		items := make([][]byte, len(node.Content))
		for i, item := range node.Content {
			at := joinKey(path, strconv.Itoa(i))
			d.faults.lines[at] = item.Line
			var err error
			if items[i], err = d.jsonOf(item, at, depth+1); err != nil {
				return nil, err
			}
		}
		return slices.Concat([]byte("["), bytes.Join(items, []byte(",")), []byte("]")), nil
	case yaml.MappingNode:
		members, err := d.jsonMembers(node, path, depth)
		return slices.Concat([]byte("{"), bytes.Join(members, []byte(",")), []byte("}")), err
	}
	v, err := jsonScalar(node)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (d *configDecoder) jsonMembers(node *yaml.Node, path string, depth int) (members [][]byte, err error) {
	given := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := joinKey(path, key.Value)
		if given[key.Value] {
			d.faults.addAt(key.Line, at, "is set twice; the first is on line %d", d.faults.lines[at])
			continue
		}
		given[key.Value] = true
		d.faults.lines[at] = key.Line
		name, err := json.Marshal(key.Value)
		if err != nil {
			return nil, err
		}
		text, err := d.jsonOf(value, at, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, slices.Concat(name, []byte(":"), text))
	}
	return members, nil
}

func jsonScalar(node *yaml.Node) (any, error) {
	switch node.ShortTag() {
	case "!!null":
		return nil, nil //nolint:nilnil // JSON's null
	case "!!bool":
		return parseBool(strings.ToLower(node.Value))
	case "!!int", "!!float":
		if json.Valid([]byte(node.Value)) {
			return json.Number(node.Value), nil
		}
		var n float64
		if err := node.Decode(&n); err != nil {
			return nil, fmt.Errorf("%q is not a number as JSON writes it", node.Value)
		}
		return n, nil
	}
	return node.Value, nil
}

// validateMethods notes what is wrong with the methods of a type.
func (t TypeConfig) validateMethods(faults *faultList, at string) {
	if t.OtherMethods != "" {
		wantOneOf(faults, at+".other_methods", t.OtherMethods, catalogue.Allow, catalogue.Refuse, catalogue.Announced)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Methods)) {
		key, m := at+".methods."+name, t.Methods[name]
		if err := commands.CheckMethod(name); err != nil {
			faults.add(key, "is no name of a method: %s", err.Message)
		}
		if m.Timeout != 0 {
			within(faults, key+".timeout", m.Timeout, 100*time.Millisecond, commands.LongestTimeout)
		}
		if m.Delivery != "" {
			wantOneOf(faults, key+".delivery", m.Delivery, string(commands.AtMostOnce), string(commands.AtLeastOnce))
		}
		if m.Role != "" {
			wantOneOf(faults, key+".role", m.Role, string(auth.RoleOperator), string(auth.RoleAdmin))
		}
		if len(m.Params.JSON) == 0 {
			continue
		}
		for _, f := range catalogue.CheckSchema(m.Params.JSON) {
			where := key + ".params" + keyOfPointer(f.Pointer)
			faults.addAt(faults.lineOf(where), where, "%s", f.Message)
		}
	}
}

// keyOfPointer writes a JSON pointer (RFC 6901) as the keys of a configuration.
func keyOfPointer(pointer string) string {
	return strings.NewReplacer("/", ".", "~1", "/", "~0", "~").Replace(pointer)
}

// deviceTypes makes the catalogue of the configured types, and of those that the maps of bridges have commands for.
func deviceTypes(types []TypeConfig, mapped []maptypes.DeviceType) (*catalogue.Catalogue, error) {
	all := make([]catalogue.Type, len(types))
	for i, t := range types {
		all[i] = catalogue.Type{Name: t.Name, OtherMethods: t.OtherMethods, Methods: map[string]catalogue.Method{}}
		for name, m := range t.Methods {
			all[i].Methods[name] = catalogue.Method{
				Description: m.Description, Params: m.Params.JSON, Timeout: m.Timeout, Delivery: m.Delivery, Role: m.Role,
			}
		}
	}
	return catalogue.New(withMapped(all, mapped))
}

// commandCheck is the catalogue as the ledger asks for it: the registry knows the type of a device, its session what it
// announced.
type commandCheck struct {
	catalogue *catalogue.Catalogue
	registry  *devices.Registry
	sessions  *devices.Sessions
	mapped    *mappedDevices
}

// Check implements commands.Catalogue.
func (c commandCheck) Check(r commands.Request) (commands.Terms, error) {
	d, _ := c.registry.Get(r.Device) // an unknown device has no type; who asks for one is told before
	t, _ := c.catalogue.Type(d.Type)
	need := auth.Role(cmp.Or(t.Methods[r.Method].Role, string(auth.RoleOperator)))
	if need != auth.RoleOperator && !auth.Role(r.Role).Allows(need) {
		return commands.Terms{}, &commands.ForbiddenError{Method: r.Method, Needs: string(need)}
	}
	presence := c.sessions.Presence(r.Device)
	terms, err := c.catalogue.Check(catalogue.Call{
		Type: d.Type, Announced: presence.Methods, Method: r.Method, Params: r.Params,
	})
	if refusal, ok := errors.AsType[*catalogue.Refusal](err); ok {
		return commands.Terms{}, refused(refusal)
	}
	if err != nil {
		return commands.Terms{}, err
	}
	within, err := c.mapped.check(r.Device, presence.Transport, r.Method, r.Params)
	if err != nil {
		return commands.Terms{}, err
	}
	m := terms.Method
	m.Timeout = cmp.Or(m.Timeout, within)
	return commands.Terms{Params: terms.Params, Masked: terms.Masked, Timeout: m.Timeout, Delivery: commands.Delivery(m.Delivery)}, nil
}

// refused says in the ledger's words why a device does not take a command.
func refused(r *catalogue.Refusal) *commands.InvalidError {
	e := &commands.InvalidError{Field: "params", Message: r.Message, Reason: r.Reason}
	if r.Reason == catalogue.ReasonMethod {
		e.Field = "method"
	}
	for _, f := range r.Faults {
		e.Faults = append(e.Faults, commands.Fault(f))
	}
	return e
}
