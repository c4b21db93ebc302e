package catalogue

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// maxFaults bounds what is told at once.
const maxFaults = 100

// check returns everything that is wrong with a value.
func (s *schema) check(v any) []Fault {
	var invalid *jsonschema.ValidationError
	err := s.root.Validate(v)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return faultsOf(invalid)
	}
	return []Fault{{Message: err.Error()}} // the schema leads in a circle
}

// checkNumbers finds numbers that would be computed with for seconds, such as 1e999999.
func checkNumbers(v any, pointer string, faults []Fault) []Fault {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		digits := strings.FieldsFunc(string(v), func(r rune) bool { return r == 'e' || r == 'E' })[0]
		if err != nil || math.IsInf(f, 0) || f == 0 && strings.Trim(digits, "-0.") != "" {
			return append(faults, Fault{pointer, "is a number that no 64-bit float holds"})
		}
	case []any:
		for i, inner := range v {
			faults = checkNumbers(inner, pointer+"/"+strconv.Itoa(i), faults)
		}
	case map[string]any:
		for name, inner := range v {
			faults = checkNumbers(inner, pointer+"/"+escape(name), faults)
		}
	}
	return faults
}

// faultsOf lists the faults below an error, by pointer.
func faultsOf(e *jsonschema.ValidationError) []Fault {
	faults := appendFaults(nil, e)
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.Pointer, b.Pointer), strings.Compare(a.Message, b.Message))
	})
	faults = slices.Compact(faults)
	if more := len(faults) - maxFaults; more > 0 {
		faults = append(faults[:maxFaults], Fault{Message: fmt.Sprintf("and %d faults more", more)})
	}
	return faults
}

func appendFaults(faults []Fault, e *jsonschema.ValidationError) []Fault {
	at := pointerOf(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required: // told where each is missing, so that a form shows it at its field
		for _, name := range k.Missing {
			faults = append(faults, Fault{at + "/" + escape(name), "is missing"})
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			faults = append(faults, Fault{at + "/" + escape(name), "is not known here"})
		}
	case *kind.DependentRequired:
		for _, name := range k.Missing {
			faults = append(faults, Fault{at + "/" + escape(name), fmt.Sprintf("is missing: it is needed with %q", k.Prop)})
		}
	case *kind.AnyOf, *kind.OneOf, *kind.Not: // what is wrong with each of the alternatives would say too much
		faults = append(faults, Fault{at, message(e.ErrorKind)})
	default:
		if len(e.Causes) == 0 {
			return append(faults, Fault{at, message(e.ErrorKind)})
		}
		for _, cause := range e.Causes {
			faults = appendFaults(faults, cause)
		}
	}
	return faults
}

// pointerOf writes a path as a JSON pointer.
func pointerOf(path []string) string {
	var b strings.Builder
	for _, name := range path {
		b.WriteString("/" + escape(name))
	}
	return b.String()
}

// message says what is wrong, without the value: it may be secret, and messages are logged.
func message(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("must be of type %s, not %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Enum:
		return "must be one of " + values(k.Want...)
	case *kind.Const:
		return "must be " + values(k.Want)
	case *kind.Format:
		return fmt.Sprintf("must have the format %s", k.Want)
	case *kind.Pattern:
		return fmt.Sprintf("must match the pattern %s", k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters, not %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters, not %d", k.Want, k.Got)
	case *kind.Minimum:
		return "must be at least " + number(k.Want)
	case *kind.Maximum:
		return "must be at most " + number(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be more than " + number(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be less than " + number(k.Want)
	case *kind.MultipleOf:
		return "must be a multiple of " + number(k.Want)
	case *kind.AnyOf:
		return "fits none of the alternatives"
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			return "fits more than one of the alternatives"
		}
		return "fits none of the alternatives"
	case *kind.Not, *kind.FalseSchema:
		return "is not allowed"
	}
	return listMessage(k)
}

// listMessage is message for lists and objects.
func listMessage(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items, not %d", k.Want, k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items, not %d", k.Want, k.Got)
	case *kind.UniqueItems:
		return fmt.Sprintf("items %d and %d must not be equal", k.Duplicates[0], k.Duplicates[1])
	case *kind.Contains, *kind.MinContains:
		return "must contain more of the items that are asked for"
	case *kind.MaxContains:
		return "must contain fewer of the items that are asked for"
	case *kind.AdditionalItems:
		return fmt.Sprintf("has %d items too many", k.Count)
	case *kind.MinProperties:
		return fmt.Sprintf("must have at least %d members, not %d", k.Want, k.Got)
	case *kind.MaxProperties:
		return fmt.Sprintf("must have at most %d members, not %d", k.Want, k.Got)
	case *kind.Dependency:
		return fmt.Sprintf("with %q must have %s", k.Prop, strings.Join(k.Missing, ", "))
	case *kind.PropertyNames:
		return "has a member whose name does not fit"
	}
	if path := k.KeywordPath(); len(path) > 0 {
		return "does not fit " + path[len(path)-1]
	}
	return "does not fit the schema"
}

func values(list ...any) string {
	texts := make([]string, len(list))
	for i, v := range list {
		text, err := json.Marshal(v)
		if err != nil {
			return "what the schema says"
		}
		texts[i] = string(text)
	}
	return strings.Join(texts, ", ")
}

// number writes a bound as people do.
func number(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}
