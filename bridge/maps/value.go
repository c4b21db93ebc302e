package maps

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"telemetryhub/wire"
)

// value is one value of a payload: of a string its characters, else its JSON text.
type value struct {
	kind valueKind
	text []byte
}

type valueKind uint8

const (
	absent valueKind = iota
	null
	text
	number
	truth
	composite // an object or a list
	foreign   // what only CBOR has words for
)

// valueOf reads JSON text that a decoder has passed.
func valueOf(from []byte) value {
	if len(from) == 0 {
		return value{}
	}
	switch c := from[0]; {
	case c == '"':
		return value{text, wire.AppendUnquoted(nil, from)}
	case c == '{' || c == '[':
		return value{composite, from}
	case string(from) == "null":
		return value{null, from}
	case string(from) == "true" || string(from) == "false":
		return value{truth, from}
	case c == '-' || c >= '0' && c <= '9':
		if bytes.IndexByte(from, '(') < 0 && string(from) != "-Infinity" {
			return value{number, from}
		}
	}
	return value{foreign, from}
}

func textValue(s string) value { return value{text, []byte(s)} }

// isThere reports whether there is something to take.
func (v value) isThere() bool { return v.kind != absent && v.kind != null }

// appendJSON appends the value as JSON.
func (v value) appendJSON(dst []byte) []byte {
	switch v.kind {
	case absent:
		return append(dst, "null"...)
	case text:
		return wire.AppendQuoted(dst, v.text)
	}
	return append(dst, v.text...)
}

// filter changes a value.
type filter func(value) (value, error)

// parseFilter reads name or name:argument[:argument].
func parseFilter(source string) (filter, error) {
	name, rest, has := strings.Cut(source, ":")
	switch name {
	case "lower", "upper", "trim", "id", "json", "text", "number", "bool":
		if has {
			return nil, fmt.Errorf("the filter %s takes no argument", name)
		}
	case "default":
		return func(v value) (value, error) {
			if v.isThere() {
				return v, nil
			}
			return textValue(rest), nil
		}, nil
	case "replace":
		from, to, ok := strings.Cut(rest, ":")
		if !ok || from == "" {
			return nil, errors.New("the filter replace is written replace:FROM:TO")
		}
		return ofText(func(s []byte) []byte { return bytes.ReplaceAll(s, []byte(from), []byte(to)) }), nil
	case "times", "plus":
		by, err := strconv.ParseFloat(rest, 64)
		if err != nil || math.IsInf(by, 0) || math.IsNaN(by) {
			return nil, fmt.Errorf("the filter %s is written %s:NUMBER", name, name)
		}
		return arithmetic(name, by), nil
	}
	switch name {
	case "lower":
		return ofText(bytes.ToLower), nil
	case "upper":
		return ofText(bytes.ToUpper), nil
	case "trim":
		return ofText(bytes.TrimSpace), nil
	case "text":
		return ofText(func(s []byte) []byte { return s }), nil
	case "id":
		return ofText(escapeID), nil
	case "json":
		return func(v value) (value, error) { return value{composite, v.appendJSON(nil)}, nil }, nil
	case "number":
		return toNumber, nil
	case "bool":
		return toBool, nil
	}
	return nil, fmt.Errorf("no filter is called %q; there are bool, default, id, json, lower, number, plus, replace, text, times, trim, upper", name)
}

// ofText makes a filter of texts; what is not there stays away.
func ofText(change func([]byte) []byte) filter {
	return func(v value) (value, error) {
		if !v.isThere() {
			return v, nil
		}
		return value{text, change(v.text)}, nil
	}
}

func arithmetic(name string, by float64) filter {
	return func(v value) (value, error) {
		v, err := toNumber(v)
		if err != nil || v.kind != number {
			return v, err
		}
		n, err := strconv.ParseFloat(string(v.text), 64)
		if name == "times" {
			n *= by
		} else {
			n += by
		}
		if err != nil || math.IsInf(n, 0) {
			return v, fmt.Errorf("%s: the result is out of range", name)
		}
		return value{number, strconv.AppendFloat(nil, n, 'g', -1, 64)}, nil
	}
}

func toNumber(v value) (value, error) {
	if v.kind == truth {
		if string(v.text) == "true" {
			return value{number, []byte("1")}, nil
		}
		return value{number, []byte("0")}, nil
	}
	if v.kind != text {
		return v, nil
	}
	return parseNumber(v.text)
}

// parseNumber reads a number as JSON writes it, with + before it and zeros in front besides.
func parseNumber(s []byte) (value, error) {
	s = bytes.TrimSpace(s)
	n, err := strconv.ParseFloat(string(s), 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return value{}, fmt.Errorf("%q is out of the range of a number", clip(s))
	case err != nil || bytes.ContainsAny(s, "xX_pP"):
		return value{}, fmt.Errorf("%q is not a number", clip(s))
	case math.IsNaN(n) || math.IsInf(n, 0):
		return value{}, fmt.Errorf("%q is not a finite number", clip(s))
	}
	if json.Valid(s) {
		return value{number, s}, nil
	}
	return value{number, strconv.AppendFloat(nil, n, 'g', -1, 64)}, nil
}

func toBool(v value) (value, error) {
	if !v.isThere() || v.kind == truth {
		return v, nil
	}
	switch strings.ToLower(string(bytes.TrimSpace(v.text))) {
	case "on", "true", "yes", "1", "online", "open", "enabled":
		return value{truth, []byte("true")}, nil
	case "off", "false", "no", "0", "offline", "closed", "disabled":
		return value{truth, []byte("false")}, nil
	}
	return v, fmt.Errorf("%q is neither true nor false", clip(v.text))
}

// escapeID makes a device id of any text, of two different texts always two different ids: what is not a letter, a
// digit, ., _ or - becomes : and the two hexadecimal digits of its byte, as % does in a URL.
func escapeID(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for i, c := range s {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' && !onlyDots(s)
		if plain {
			out = append(out, s[i])
			continue
		}
		const digits = "0123456789ABCDEF"
		out = append(out, ':', digits[c>>4], digits[c&15])
	}
	return out
}

// onlyDots reports whether a text is . or .., which no device id may be.
func onlyDots(s []byte) bool { return string(s) == "." || string(s) == ".." }

// unescapeID takes back what escapeID did; ok is false of what it cannot have made.
func unescapeID(s string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != ':' {
			out.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		out.WriteByte(byte(c))
		i += 2
	}
	return out.String(), string(escapeID([]byte(out.String()))) == s
}

// clip shortens what is quoted in a message.
func clip(s []byte) string {
	const most = 64
	if len(s) > most {
		return string(s[:most]) + "…"
	}
	return string(s)
}
