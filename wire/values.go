package wire

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

// decodeValues appends the fields of a values object: numbers, booleans and strings; nested objects become a.b, null
// is left out. It returns why the reading cannot be stored, "" when it can.
func (t *Telemetry) decodeValues(values []byte) (flaw string) {
	if values[0] != '{' {
		return ReasonBadReading
	}
	from := len(t.fields)
	t.nested, t.dotted = false, false
	if flaw = t.decodeObject(values, nil, 1, from); flaw != "" {
		return flaw
	}
	if len(t.fields) == from {
		return ReasonNoValues
	}
	if t.nested && t.dotted && sameName(t.fields[from:]) {
		return ReasonFieldTwice
	}
	return ""
}

// sameName reports whether two fields have one name, as {"a.b":1,"a":{"b":2}} makes them: the store would keep one of
// the two and say nothing. It takes a name with a dot beside a nested object, so few readings are looked at.
func sameName(fields []Field) bool {
	seen := make(map[string]struct{}, len(fields))
	for _, f := range fields {
		seen[string(f.Name)] = struct{}{}
	}
	return len(seen) < len(fields)
}

func (t *Telemetry) decodeObject(object, prefix []byte, depth, from int) (flaw string) {
	if depth > MaxDepth {
		return ReasonTooDeep
	}
	c := cursor{text: object}
	for c.enter(); c.more(); {
		quoted := c.quoted()
		value := c.value()
		if value[0] == 'n' {
			continue
		}
		name := t.join(prefix, quoted)
		own := name
		if prefix != nil {
			own = name[len(prefix)+1:]
		}
		t.dotted = t.dotted || bytes.IndexByte(own, '.') >= 0
		if value[0] == '{' {
			// Each name within repeats this one: without a bound a small frame could ask for gigabytes.
			if len(name) > MaxFieldName {
				return ReasonBadFieldName
			}
			t.nested = true
			if flaw = t.decodeObject(value, name, depth+1, from); flaw != "" {
				return flaw
			}
			continue
		}
		if flaw = checkFieldName(name); flaw != "" {
			return flaw
		}
		if len(t.fields)-from == MaxFields {
			return ReasonTooManyFields
		}
		f := Field{Name: name}
		if flaw = t.decodeValue(&f, value); flaw != "" {
			return flaw
		}
		t.fields = append(t.fields, f)
	}
	return ""
}

func (t *Telemetry) decodeValue(f *Field, value []byte) (flaw string) {
	switch value[0] {
	case '"':
		f.Kind = String
		f.Text, t.text = unquote(t.text, value)
		if len(f.Text) > MaxString {
			return ReasonStringTooLong
		}
	case 't':
		f.Kind = True
	case 'f':
		f.Kind = False
	case '[':
		return ReasonBadValue
	default:
		f.Kind = Float
		n, err := strconv.ParseFloat(string(value), 64)
		if errors.Is(err, strconv.ErrSyntax) {
			return ReasonBadValue // bytes, a tag, a simple value: only CBOR has them
		}
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return ReasonNumberRange
		}
		f.Number = n
	}
	return ""
}

// join returns prefix.name, or a view of name where there is no prefix.
func (t *Telemetry) join(prefix, quoted []byte) []byte {
	if prefix == nil {
		var name []byte
		name, t.text = unquote(t.text, quoted)
		return name
	}
	from := len(t.text)
	t.text = append(t.text, prefix...)
	t.text = append(t.text, '.')
	escaped := len(t.text)
	name, grown := unquote(t.text, quoted)
	if t.text = grown; len(grown) == escaped {
		t.text = append(t.text, name...)
	}
	return t.text[from:len(t.text):len(t.text)]
}

// checkFieldName refuses what line protocol cannot hold (an empty name, line breaks, a backslash before a separator)
// and the names that InfluxDB keeps for itself.
func checkFieldName(name []byte) (flaw string) {
	if len(name) == 0 || len(name) > MaxFieldName || !writable(name) {
		return ReasonBadFieldName
	}
	switch string(name) {
	case "time", "_time", "_field", "_measurement", "device":
		return ReasonReservedName
	}
	return ""
}

// writable reports whether a name can stand in line protocol, where a backslash cannot be escaped.
func writable(name []byte) bool {
	for _, c := range name {
		if c < 0x20 || c == 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

func printable(text []byte) bool {
	for _, c := range text {
		if c < 0x20 || c == 0x7f {
			return false
		}
	}
	return true
}
