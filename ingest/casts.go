package ingest

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"telemetryhub/wire"
)

// FieldType is the type of a field in the store. A field has one until an operator sets another (retype.go).
type FieldType string

// The types of fields.
const (
	FloatField   FieldType = "float"
	IntegerField FieldType = "integer"
	StringField  FieldType = "string"
	BooleanField FieldType = "boolean"
)

// maxExact is the largest whole number that a float64 holds and no other number rounds to.
const maxExact = 1<<53 - 1

// typeOf is the type that a value has by itself: each number is a float.
func typeOf(f *wire.Field) FieldType {
	switch f.Kind {
	case wire.Float:
		return FloatField
	case wire.String:
		return StringField
	}
	return BooleanField
}

// fits says whether a value can be stored in a field of type t without loss:
//
//	number  → float; → integer, if it is whole and at most 2^53-1; → string, as JSON writes it
//	string  → string; → float and integer, if it is a number as JSON writes it; → boolean, if it is true or false
//	boolean → boolean; → string, true or false. Never a number: 1 is not said to mean true.
func fits(f *wire.Field, t FieldType) bool {
	switch {
	case typeOf(f) == t, t == StringField:
		return true
	case f.Kind == wire.Float:
		return t == IntegerField && isWhole(f.Number)
	case f.Kind == wire.String && t == BooleanField:
		return string(f.Text) == "true" || string(f.Text) == "false"
	case f.Kind == wire.String:
		n, ok := numberIn(f.Text)
		return ok && (t == FloatField || t == IntegerField && isWhole(n))
	}
	return false
}

// cast makes of a value that fits what is stored.
func cast(f *wire.Field, t FieldType) {
	switch {
	case typeOf(f) == t, t == IntegerField && f.Kind == wire.Float:
	case t == StringField:
		f.Text = []byte(textOf(f))
		f.Kind = wire.String
	case t == BooleanField:
		f.Kind = wire.False
		if string(f.Text) == "true" {
			f.Kind = wire.True
		}
		f.Text = nil
	default:
		f.Number, _ = numberIn(f.Text)
		f.Kind, f.Text = wire.Float, nil
	}
}

func isWhole(n float64) bool { return n == math.Trunc(n) && math.Abs(n) <= maxExact }

// numberIn reads a text that is a number and nothing else. A whole number that a float64 cannot hold exactly is none: it
// is more likely a name.
func numberIn(text []byte) (float64, bool) {
	if len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') || !json.Valid(text) || text[len(text)-1] <= ' ' {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.Abs(n) > maxExact && !bytes.ContainsAny(text, ".eE") {
		return 0, false
	}
	return n, true
}

// textOf writes a number or a boolean as JSON does.
func textOf(f *wire.Field) string {
	switch f.Kind {
	case wire.Float:
		if a := math.Abs(f.Number); a != 0 && (a < 1e-6 || a >= 1e21) {
			return strconv.FormatFloat(f.Number, 'e', -1, 64)
		}
		return strconv.FormatFloat(f.Number, 'f', -1, 64)
	case wire.True:
		return "true"
	}
	return "false"
}
