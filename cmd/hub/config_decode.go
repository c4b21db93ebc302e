package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// decodeConfig reads YAML over the values that are in cfg and notes every fault. The library's own decoder is not used: it
// does not tell the full path of a key, and values such as sizes have words of their own for what is wrong.
func decodeConfig(data []byte, cfg *Config, faults *faultList) {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		faults.addAt(0, "", "cannot be read: %v", err)
		return
	}
	var document, second yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF):
		return // an empty file is a configuration of defaults
	case err != nil:
		addSyntaxFault(err, faults)
		return
	}
	if err := loader.Load(&second); err == nil {
		faults.addAt(second.Line, "", "a second document begins here; a configuration is one document")
	} else if !errors.Is(err, io.EOF) {
		addSyntaxFault(err, faults)
	}
	d := configDecoder{faults: faults, known: configKeys(reflect.TypeFor[Config](), "")}
	for _, root := range document.Content {
		d.value(root, reflect.ValueOf(cfg).Elem(), "")
	}
}

// addSyntaxFault turns what the parser says into a fault. The parser stops at the first: what follows cannot be read.
func addSyntaxFault(err error, faults *faultList) {
	var syntax *yaml.LoadError
	if !errors.As(err, &syntax) {
		faults.addAt(0, "", "is not YAML: %v", err)
		return
	}
	message := syntax.Message
	if syntax.ContextMsg != "" {
		message = syntax.ContextMsg + ": " + message
	}
	faults.addAt(syntax.Mark.Line, "", "is not YAML: %s", message)
}

// configDecoder walks the file and the struct side by side.
type configDecoder struct {
	faults *faultList
	known  []string // the full paths of all keys, for suggestions
}

// value reads one node into target. An empty value (a section whose keys are all commented out) leaves the default.
func (d *configDecoder) value(node *yaml.Node, target reflect.Value, path string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		return
	}
	switch {
	case target.Kind() == reflect.Pointer: // nil: not said
		target.Set(reflect.New(target.Type().Elem()))
		d.value(node, target.Elem(), path)
	case target.Type() == reflect.TypeFor[Schema]():
		d.schema(node, target, path)
	case target.Kind() == reflect.Interface:
		d.anything(node, target, path)
	case target.Type() == reflect.TypeFor[time.Time]() || target.Kind() != reflect.Struct && target.Kind() != reflect.Slice && target.Kind() != reflect.Map:
		d.scalar(node, target, path)
	case target.Kind() == reflect.Struct:
		d.section(node, target, path)
	case target.Kind() == reflect.Map:
		d.named(node, target, path)
	default:
		d.list(node, target, path)
	}
}

func (d *configDecoder) section(node *yaml.Node, target reflect.Value, path string) {
	if of, ok := reflect.TypeAssert[interface{ shorthand(text string) }](target.Addr()); ok && node.Kind == yaml.ScalarNode {
		of.shorthand(node.Value)
		return
	}
	if node.Kind != yaml.MappingNode {
		d.faults.addAt(node.Line, path, "must be a section with keys of its own%s", describe(node))
		return
	}
	fields := fieldsByKey(target)
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		full := joinKey(path, key.Value)
		field, ok := fields[key.Value]
		switch {
		case !ok:
			d.faults.addAt(key.Line, full, "unknown key%s", d.suggest(full))
			continue
		case first[key.Value] > 0:
			d.faults.addAt(key.Line, full, "is set twice; the first is on line %d", first[key.Value])
			continue
		}
		first[key.Value] = key.Line
		d.faults.lines[full] = key.Line
		d.value(value, field, full)
	}
}

func (d *configDecoder) list(node *yaml.Node, target reflect.Value, path string) {
	if node.Kind != yaml.SequenceNode {
		d.faults.addAt(node.Line, path, "must be a list%s", describe(node))
		return
	}
	if len(node.Content) == 0 {
		target.SetZero() // as where the list is left out
		return
	}
	list := reflect.MakeSlice(target.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		element := list.Index(i)
		if withDefaults, ok := reflect.TypeAssert[interface{ defaults() }](element.Addr()); ok {
			withDefaults.defaults()
		}
		full := path + "[" + strconv.Itoa(i) + "]"
		d.faults.lines[full] = item.Line
		d.value(item, element, full)
	}
	target.Set(list)
}

// named reads a section whose keys are names of the operator's choice.
func (d *configDecoder) named(node *yaml.Node, target reflect.Value, path string) {
	if node.Kind != yaml.MappingNode {
		d.faults.addAt(node.Line, path, "must be a section with keys of its own%s", describe(node))
		return
	}
	if len(node.Content) == 0 {
		target.SetZero()
		return
	}
	section := reflect.MakeMap(target.Type())
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		full := joinKey(path, name.Value)
		key := reflect.ValueOf(name.Value)
		if section.MapIndex(key).IsValid() {
			d.faults.addAt(name.Line, full, "is set twice; the first is on line %d", d.faults.lines[full])
			continue
		}
		d.faults.lines[full] = name.Line
		element := reflect.New(target.Type().Elem()).Elem()
		d.value(value, element, full)
		section.SetMapIndex(key, element)
	}
	target.Set(section)
}

func (d *configDecoder) scalar(node *yaml.Node, target reflect.Value, path string) {
	if node.Kind != yaml.ScalarNode {
		d.faults.addAt(node.Line, path, "must be one value%s", describe(node))
		return
	}
	if err := setScalar(target, node.Value); err != nil {
		d.faults.addAt(node.Line, path, "%v", err)
	}
}

// setScalar reads the text of a value by the type it is for, not by what YAML would guess: a password of digits is a text.
func setScalar(target reflect.Value, text string) error {
	var value any
	var err error
	switch target.Interface().(type) {
	case time.Duration:
		value, err = parseDuration(text)
	case time.Time:
		value, err = parseDate(text)
	case Size:
		value, err = parseSize(text)
	default:
		switch target.Kind() {
		case reflect.String:
			value = text
		case reflect.Bool:
			value, err = parseBool(text)
		case reflect.Int:
			value, err = parseInt(text)
		default:
			err = fmt.Errorf("the hub cannot read values of type %s", target.Type())
		}
	}
	if err != nil {
		return err
	}
	target.Set(reflect.ValueOf(value).Convert(target.Type()))
	return nil
}

// suggest names the key that was probably meant: one of similar spelling, or the same key in another section.
func (d *configDecoder) suggest(unknown string) string {
	unknown = withoutIndexes(unknown)
	best, bestDistance := "", max(2, len(unknown)/4)+1
	for _, known := range d.known {
		distance := editDistance(unknown, known)
		if lastPart(known) == lastPart(unknown) {
			distance = min(distance, 1)
		}
		if distance < bestDistance {
			best, bestDistance = known, distance
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// fieldsByKey maps the keys of a section to its fields.
func fieldsByKey(section reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range section.NumField() {
		key := section.Type().Field(i).Tag.Get("yaml")
		if key == inline {
			maps.Copy(fields, fieldsByKey(section.Field(i)))
			continue
		}
		fields[key] = section.Field(i)
	}
	return fields
}

// inline is the tag of a struct whose keys are those of the section that it stands in.
const inline = ",inline"

// anything reads a value of no certain type as JSON has it.
func (d *configDecoder) anything(node *yaml.Node, target reflect.Value, path string) {
	text, err := d.jsonOf(node, path, 0)
	var value any
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		d.faults.addAt(node.Line, path, "%v", err)
		return
	}
	if value != nil {
		target.Set(reflect.ValueOf(value))
	}
}

// anyName stands in a path for a name of the operator's choice.
const anyName = "NAME"

// configKeys lists the full paths of all keys, in the order of the structs.
func configKeys(section reflect.Type, path string) []string {
	var keys []string
	for field := range section.Fields() {
		if field.Tag.Get("yaml") == inline {
			keys = append(keys, configKeys(field.Type, path)...)
			continue
		}
		full := joinKey(path, field.Tag.Get("yaml"))
		keys = append(keys, full)
		inner := field.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch inner.Kind() {
		case reflect.Slice:
			inner = inner.Elem()
		case reflect.Map:
			inner, full = inner.Elem(), joinKey(full, anyName)
			keys = append(keys, full)
		}
		if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() && inner != reflect.TypeFor[Schema]() {
			keys = append(keys, configKeys(inner, full)...)
		}
	}
	return keys
}

// describe says what a node is, where something else was due.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return ", not a section"
	case yaml.SequenceNode:
		return ", not a list"
	default:
		return fmt.Sprintf(", not the value %q", node.Value)
	}
}

func joinKey(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func lastPart(key string) string { return key[strings.LastIndex(key, ".")+1:] }

// withoutIndexes turns bridge.brokers[2].url into bridge.brokers.url.
func withoutIndexes(key string) string {
	for {
		open := strings.IndexByte(key, '[')
		length := strings.IndexByte(key[max(open, 0):], ']')
		if open < 0 || length < 0 {
			return key
		}
		key = key[:open] + key[open+length+1:]
	}
}

// editDistance counts the insertions, deletions and replacements between two texts (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			replaced := previous[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, previous[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
