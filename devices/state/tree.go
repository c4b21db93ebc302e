package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// A tree is a JSON value: map[string]any, []any, string, number, bool or nil. Trees are not changed once they are made.

// number is a JSON number as it was written, so that none is rounded.
type number string

// Limits of a document beside its size.
const (
	MaxDepth = 16  // objects and lists within each other
	MaxName  = 128 // bytes of a member's name
)

// parseObject reads one strict JSON object (RFC 8259, no name twice). The error is an *InvalidError whose pointer begins
// at the object.
func parseObject(text []byte) (map[string]any, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	if kind := dec.PeekKind(); kind != '{' && kind != 0 {
		return nil, &InvalidError{Message: "not an object"}
	}
	tree, err := readTree(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &InvalidError{Message: "something follows the object"}
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, &InvalidError{Message: "not an object"}
	}
	return object, nil
}

func readTree(dec *jsontext.Decoder, depth int) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, notJSON(dec, err)
	}
	switch token.Kind() {
	case '{', '[':
		if depth == MaxDepth {
			return nil, &InvalidError{Pointer: pointerOf(dec), Message: fmt.Sprintf("deeper than %d objects and lists within each other", MaxDepth), Limit: MaxDepth}
		}
		if token.Kind() == '[' {
			return readList(dec, depth)
		}
		return readObject(dec, depth)
	case '"':
		return token.String(), nil
	case '0':
		text := token.String()
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return nil, &InvalidError{Pointer: pointerOf(dec), Message: "a number that no 64-bit float holds"}
		}
		return number(text), nil
	case 't', 'f':
		return token.Bool(), nil
	}
	return nil, nil
}

func readObject(dec *jsontext.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, notJSON(dec, err)
		}
		name := token.String()
		if fault := nameFault(name); fault != "" {
			return nil, &InvalidError{Pointer: pointerOf(dec), Message: fault}
		}
		if object[name], err = readTree(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := dec.ReadToken()
	return object, err
}

func readList(dec *jsontext.Decoder, depth int) (any, error) {
	list := []any{}
	for dec.PeekKind() != ']' {
		value, err := readTree(dec, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	_, err := dec.ReadToken()
	return list, err
}

// nameFault says what is wrong with a member's name, "" if nothing is.
func nameFault(name string) string {
	switch {
	case name == "":
		return "a member's name is empty"
	case len(name) > MaxName:
		return fmt.Sprintf("a member's name of %d bytes is longer than %d", len(name), MaxName)
	case name[0] == '$':
		return "names that begin with $ are reserved"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "a member's name holds a control character"
	}
	return ""
}

// pointerOf says where the decoder is; a long one is shortened, as names may be of any length.
func pointerOf(dec *jsontext.Decoder) string { return clip(string(dec.StackPointer())) }

func clip(pointer string) string {
	const most = 256
	if len(pointer) <= most {
		return pointer
	}
	return strings.ToValidUTF8(pointer[:most], "") + "…"
}

func notJSON(dec *jsontext.Decoder, err error) *InvalidError {
	fault := &InvalidError{Pointer: pointerOf(dec), Message: "not JSON"}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok && syntactic.Err != nil {
		fault.Pointer, fault.Message = clip(string(syntactic.JSONPointer)), "not JSON: "+syntactic.Err.Error()
	}
	return fault
}

// appendTree appends a tree as JSON without white space, members sorted by name.
func appendTree(dst []byte, tree any) []byte {
	switch v := tree.(type) {
	case map[string]any:
		dst = append(dst, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst, _ = jsontext.AppendQuote(dst, name) // what was parsed is UTF-8
			dst = appendTree(append(dst, ':'), v[name])
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, value := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendTree(dst, value)
		}
		return append(dst, ']')
	case string:
		dst, _ = jsontext.AppendQuote(dst, v)
		return dst
	case number:
		return append(dst, v...)
	case bool:
		return strconv.AppendBool(dst, v)
	}
	return append(dst, "null"...)
}

func encode(tree map[string]any) []byte { return appendTree(nil, tree) }

// same reports whether two trees are the same value: 20, 20.0 and 2e1 are.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, same)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case number:
		b, ok := b.(number)
		return ok && sameNumber(a, b)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

// sameNumber compares as 64-bit floats; what is above the integers that these hold exactly, as texts.
func sameNumber(a, b number) bool {
	if a == b {
		return true
	}
	const exact = 1 << 53
	x, errX := strconv.ParseFloat(string(a), 64)
	y, errY := strconv.ParseFloat(string(b), 64)
	return errX == nil && errY == nil && x == y && -exact < x && x < exact
}

// DesiredOf returns the member desired of {"desired": …}, the body that changes it: a merge patch, or null; {} where it
// is absent. Any other member is refused. The error is an *InvalidError.
func DesiredOf(body []byte) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if token, err := dec.ReadToken(); err != nil {
		return nil, notJSON(dec, err)
	} else if token.Kind() != '{' {
		return nil, &InvalidError{Message: `not an object; it is {"desired": {…}}`}
	}
	desired := []byte("{}")
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, notJSON(dec, err)
		}
		if name.String() != string(Desired) {
			return nil, &InvalidError{Pointer: pointerOf(dec), Message: "only desired can be changed"}
		}
		value, err := dec.ReadValue()
		if err != nil {
			return nil, notJSON(dec, err)
		}
		desired = bytes.Clone(value)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, notJSON(dec, err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &InvalidError{Message: "something follows the object"}
	}
	return desired, nil
}
