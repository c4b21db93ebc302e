package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type devicesMethods struct {
	Device string `arg:"" help:"Its id."`
}

// Help is what kong shows below the flags.
func (devicesMethods) Help() string {
	return "The commands that the device takes: those of its type, with their parameters (* is needed), and those that it announced. --json shows the schemas."
}

// Run shows what commands a device takes.
func (c *devicesMethods) Run(a *app) error {
	m, err := a.hub.DeviceMethods(a.ctx, c.Device)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(m)
	}
	rows := newTable(a.stdout, "METHOD", "PARAMETERS", "KNOWN BY", "ROLE", "TIMEOUT", "DELIVERY", "DESCRIPTION")
	for _, method := range m.Methods {
		if err := rows.row(method.Name, parametersText(method), knownBy(method), method.Role, timeoutText(method), method.Delivery, method.Description); err != nil {
			return err
		}
	}
	if err := rows.flush(); err != nil {
		return err
	}
	others := map[string]string{
		"refuse": "hubctl: other methods are refused", "allow": "hubctl: other methods are sent too",
		"announced": "hubctl: other methods are sent if the device announces them",
	}
	say(a.stderr, others[m.OtherMethods])
	return nil
}

func knownBy(m client.DeviceMethod) string {
	switch {
	case !m.Taken:
		return "device; refused"
	case m.Listed && m.Announced:
		return "type, device"
	case m.Listed:
		return "type"
	}
	return "device"
}

func timeoutText(m client.DeviceMethod) string {
	if m.TimeoutMs == 0 {
		return ""
	}
	return (time.Duration(m.TimeoutMs) * time.Millisecond).String()
}

// parametersText writes the members of a schema as name:type, with a star where one is needed.
func parametersText(m client.DeviceMethod) string {
	s := parseSchema(m.Params)
	var parts []string
	for _, name := range sortedKeys(s.properties) {
		member := s.resolve(s.properties[name])
		part := name
		if slices.Contains(s.required, name) {
			part += "*"
		}
		if types := typesOf(member); len(types) > 0 {
			part += ":" + strings.Join(types, "|")
		}
		writeOnly, _ := member["writeOnly"].(bool)
		if secret, _ := member["x-secret"].(bool); secret || writeOnly {
			part += " (secret)"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

// paramSchema is as much of a JSON Schema as hubctl understands. The hub understands all of it.
type paramSchema struct {
	properties map[string]any
	required   []string
	defs       map[string]any // by "#/$defs/NAME"
}

func parseSchema(text json.RawMessage) (s paramSchema) {
	var doc struct {
		Properties  map[string]any `json:"properties"`
		Required    []string       `json:"required"`
		Defs        map[string]any `json:"$defs"`
		Definitions map[string]any `json:"definitions"`
	}
	_ = json.Unmarshal(text, &doc) // what it does not say is not known
	s.properties, s.required, s.defs = doc.Properties, doc.Required, map[string]any{}
	for name, def := range doc.Defs {
		s.defs["#/$defs/"+name] = def
	}
	for name, def := range doc.Definitions {
		s.defs["#/definitions/"+name] = def
	}
	return s
}

// resolve follows a member's reference, which may lead to another.
func (s paramSchema) resolve(member any) map[string]any {
	object, _ := member.(map[string]any)
	for range 8 {
		ref, ok := object["$ref"].(string)
		if !ok {
			break
		}
		object, _ = s.defs[ref].(map[string]any)
	}
	return object
}

// typesOf returns the types that a schema names, or those of the values that it lists.
func typesOf(schema map[string]any) (types []string) {
	switch t := schema["type"].(type) {
	case string:
		return []string{t}
	case []any:
		for _, one := range t {
			if text, ok := one.(string); ok {
				types = append(types, text)
			}
		}
		return types
	}
	values, _ := schema["enum"].([]any)
	if value, ok := schema["const"]; ok {
		values = []any{value}
	}
	for _, v := range values {
		kind := jsonType(v)
		if !slices.Contains(types, kind) {
			types = append(types, kind)
		}
	}
	return types
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

// typedBy takes a value as the schema of its parameter wants it: as text where that takes no value of the type that the
// text has as JSON. What the schema does not say is as without one.
func (s paramSchema) typedBy(name, text string) json.RawMessage {
	value := typed(text)
	types := typesOf(s.resolve(s.properties[name]))
	if !slices.Contains(types, "string") {
		return value
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return value
	}
	kind := jsonType(v)
	fits := slices.Contains(types, kind) || kind == "number" && slices.Contains(types, "integer")
	if kind == "string" || fits {
		return value
	}
	return quoted(text)
}

// schemaWait is how long sending waits for a schema; without one values are taken as they look.
const schemaWait = 5 * time.Second

// schemaOf asks the hub for the schema of a method. Any failure is left to the sending itself.
func (a *app) schemaOf(device, method string) paramSchema {
	ctx, cancel := context.WithTimeout(a.ctx, schemaWait)
	defer cancel()
	m, err := a.hub.DeviceMethods(ctx, device)
	if err != nil {
		return paramSchema{}
	}
	i := slices.IndexFunc(m.Methods, func(m client.DeviceMethod) bool { return m.Name == method })
	if i < 0 {
		return paramSchema{}
	}
	return parseSchema(m.Methods[i].Params)
}
