package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is the compiled schema of a method's params.
type schema struct {
	root   *jsonschema.Schema
	secret bool // something in it is
}

// location is the schema's own address. Nothing is ever read from there.
const location = "params.invalid/schema"

// noLoader refuses to read schemas from files and networks.
type noLoader struct{}

var errOutside = errors.New("only references within the schema itself are followed")

// Load implements jsonschema.URLLoader.
func (noLoader) Load(string) (any, error) { return nil, errOutside }

// CheckSchema returns everything that is wrong with a schema.
func CheckSchema(text json.RawMessage) []Fault {
	_, faults := compile(text)
	return faults
}

func compile(text json.RawMessage) (*schema, []Fault) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, []Fault{{Message: "is not JSON: " + err.Error()}}
	}
	w := &schemaWalk{refs: map[string]string{}}
	w.walk(doc, "")
	if len(w.faults) > 0 {
		return nil, w.faults
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat() // an annotation only, by the draft; who writes format: ipv4 means it
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource("https://"+location, doc); err != nil {
		return nil, []Fault{{Message: err.Error()}}
	}
	root, err := compiler.Compile("https://" + location)
	if err != nil {
		return nil, w.compileFaults(err)
	}
	return &schema{root: root, secret: w.secret}, nil
}

// compileFaults says where in the schema the compiler found what is wrong.
func (w *schemaWalk) compileFaults(err error) []Fault {
	var invalid *jsonschema.SchemaValidationError
	var cause *jsonschema.ValidationError
	if errors.As(err, &invalid) && errors.As(invalid.Err, &cause) {
		return faultsOf(cause)
	}
	// The others name the reference that leads nowhere, behind the schema's own address.
	text := err.Error()
	for _, pointer := range slices.Sorted(maps.Keys(w.refs)) {
		if ref := w.refs[pointer]; strings.Contains(text, location+ref) || strings.Contains(text, `"`+ref+`"`) {
			return []Fault{{Pointer: pointer, Message: fmt.Sprintf("%q leads nowhere", ref)}}
		}
	}
	return []Fault{{Message: strings.ReplaceAll(text, "https://"+location, "")}}
}

// schemaWalk goes through a schema before it is compiled: a keyword that is misspelt would be ignored by the rules of
// JSON Schema, and a reference to elsewhere would be looked up.
type schemaWalk struct {
	faults []Fault
	refs   map[string]string // by pointer
	secret bool
}

// What the value of a keyword is.
const (
	plain       = iota // not a schema
	one                // a schema
	many               // a list of schemas
	named              // schemas by name
	oneOrMany          // items of earlier drafts
	namedOrList        // dependencies of earlier drafts
)

// keywords are those of the 2020-12 vocabularies, of drafts back to 4, and of OpenAPI that people bring along. What
// begins with x- is free.
func keywords() map[string]int {
	return map[string]int{
		"$schema": plain, "$id": plain, "$ref": plain, "$anchor": plain, "$dynamicRef": plain, "$dynamicAnchor": plain, "$vocabulary": plain, "$comment": plain,
		"$recursiveRef": plain, "$recursiveAnchor": plain, "id": plain,
		"$defs": named, "definitions": named,
		"allOf": many, "anyOf": many, "oneOf": many, "not": one, "if": one, "then": one, "else": one,
		"properties": named, "patternProperties": named, "additionalProperties": one, "propertyNames": one, "unevaluatedProperties": one, "dependentSchemas": named, "dependencies": namedOrList,
		"prefixItems": many, "items": oneOrMany, "additionalItems": one, "contains": one, "unevaluatedItems": one,
		"type": plain, "enum": plain, "const": plain, "multipleOf": plain, "maximum": plain, "exclusiveMaximum": plain, "minimum": plain, "exclusiveMinimum": plain,
		"maxLength": plain, "minLength": plain, "pattern": plain, "maxItems": plain, "minItems": plain, "uniqueItems": plain, "maxContains": plain, "minContains": plain,
		"maxProperties": plain, "minProperties": plain, "required": plain, "dependentRequired": plain,
		"title": plain, "description": plain, "default": plain, "deprecated": plain, "readOnly": plain, "writeOnly": plain, "examples": plain,
		"format": plain, "contentEncoding": plain, "contentMediaType": plain, "contentSchema": one,
	}
}

// walk looks at one schema; a value that cannot be one is left to the compiler.
func (w *schemaWalk) walk(v any, pointer string) {
	object, ok := v.(map[string]any)
	if !ok {
		return
	}
	known := keywords()
	for _, name := range slices.Sorted(maps.Keys(object)) {
		value, at := object[name], pointer+"/"+escape(name)
		kind, ok := known[name]
		switch {
		case strings.HasPrefix(name, "x-"):
			continue
		case !ok:
			w.faults = append(w.faults, Fault{at, "is no keyword of JSON Schema (what is free begins with x-)"})
			continue
		}
		if ref, isText := value.(string); isText && (name == "$ref" || name == "$dynamicRef") {
			w.refs[at] = ref
			if !strings.HasPrefix(ref, "#") {
				w.faults = append(w.faults, Fault{at, fmt.Sprintf("%q leads out of the schema; %v", ref, errOutside)})
			}
		}
		w.inner(value, kind, at)
	}
	// One word for both, so that there is one place to ask.
	if secret, _ := object["x-secret"].(bool); secret {
		object["writeOnly"] = true
	}
	if secret, _ := object["writeOnly"].(bool); secret {
		w.secret = true
	}
}

// inner goes on with the schemas that a keyword holds.
func (w *schemaWalk) inner(value any, kind int, at string) {
	switch inner := value.(type) {
	case []any:
		if kind == many || kind == oneOrMany {
			for i, v := range inner {
				w.walk(v, at+"/"+strconv.Itoa(i))
			}
		}
	case map[string]any:
		switch kind {
		case one, oneOrMany:
			w.walk(inner, at)
		case named, namedOrList:
			for _, name := range slices.Sorted(maps.Keys(inner)) {
				w.walk(inner[name], at+"/"+escape(name))
			}
		}
	}
}

// escape writes a name as a part of a JSON pointer (RFC 6901 section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
