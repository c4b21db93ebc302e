package maps

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/influxdata/influxdb/models"

	"telemetryhub/wire"
)

// kind is how a payload is written.
type kind string

const (
	kindJSON   kind = "json"
	kindAuto   kind = "auto"
	kindNumber kind = "number"
	kindText   kind = "text"
	kindCBOR   kind = "cbor"
	kindSenML  kind = "senml"
	kindLine   kind = "line"
)

func parseKind(text string, otherwise kind) (kind, error) {
	switch k := kind(text); k {
	case "":
		return otherwise, nil
	case kindJSON, kindAuto, kindNumber, kindText, kindCBOR, kindSenML, kindLine:
		return k, nil
	}
	return "", fmt.Errorf("%q is not one of json, auto, number, text, cbor, senml, line", text)
}

// tree returns a payload as JSON text: a view that lives until the scratch's next use. strict leaves nothing in it that
// JSON has no word for.
func (s *Scratch) tree(payload []byte, as kind, strict bool) ([]byte, error) {
	switch as {
	case kindCBOR:
		return s.decoder.Text(payload, true, strict)
	case kindSenML:
		return s.decoder.Text(payload, wire.DialectOfPayload(payload).CBOR, strict)
	case kindNumber:
		v, err := parseNumber(payload)
		if err != nil {
			return nil, &wire.Error{Reason: wire.ReasonBadFrame, Message: "the payload " + err.Error()}
		}
		return v.text, nil
	case kindText:
		return s.text(payload)
	case kindLine:
		return s.lines(payload)
	case kindAuto:
		if found, err := s.decoder.Text(payload, false, strict); err == nil {
			return found, nil
		}
		return s.text(payload)
	}
	return s.decoder.Text(payload, false, strict)
}

// text quotes a payload.
func (s *Scratch) text(payload []byte) ([]byte, error) {
	if !utf8.Valid(payload) {
		at := 0
		for at < len(payload) {
			r, size := utf8.DecodeRune(payload[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		return nil, &wire.Error{Reason: wire.ReasonBadUTF8, Message: fmt.Sprintf("the payload is not UTF-8 at byte %d", at)}
	}
	s.quoted = wire.AppendQuoted(s.quoted[:0], payload)
	return s.quoted, nil
}

// noTime stands for the time of a line that has none.
func noTime() time.Time { return time.Unix(0, -1<<62) }

// lines turns InfluxDB's line protocol into a list of {measurement, tags{}, fields{}, time}, time in ns where the line has
// one.
func (s *Scratch) lines(payload []byte) ([]byte, error) {
	if !utf8.Valid(payload) {
		return nil, &wire.Error{Reason: wire.ReasonBadUTF8, Message: "the payload is not UTF-8"}
	}
	points, err := models.ParsePointsWithPrecision(payload, noTime(), "n")
	if err != nil {
		message, _, _ := strings.Cut(err.Error(), "\n")
		return nil, &wire.Error{Reason: wire.ReasonBadFrame, Message: "line protocol: " + clipMessage(message)}
	}
	if len(points) == 0 {
		return nil, &wire.Error{Reason: wire.ReasonBadFrame, Message: "line protocol: no line has a point"}
	}
	out := append(s.quoted[:0], '[')
	for i, p := range points {
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = appendPoint(out, p); err != nil {
			return nil, &wire.Error{Reason: wire.ReasonBadFrame, Message: fmt.Sprintf("line protocol: point %d: %v", i+1, err)}
		}
	}
	s.quoted = append(out, ']')
	return s.quoted, nil
}

func appendPoint(out []byte, p models.Point) ([]byte, error) {
	out = append(out, `{"measurement":`...)
	out = wire.AppendQuoted(out, p.Name())
	out = append(out, `,"tags":{`...)
	for i, tag := range p.Tags() {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(wire.AppendQuoted(out, tag.Key), ':')
		out = wire.AppendQuoted(out, tag.Value)
	}
	out = append(out, `},"fields":{`...)
	seen := map[string]bool{}
	for fields := p.FieldIterator(); fields.Next(); {
		name := fields.FieldKey()
		if seen[string(name)] {
			return nil, fmt.Errorf("the field %q stands there twice", clip(name))
		}
		if seen[string(name)] = true; len(seen) > 1 {
			out = append(out, ',')
		}
		out = append(wire.AppendQuoted(out, name), ':')
		var err error
		if out, err = appendField(out, fields); err != nil {
			return nil, fmt.Errorf("the field %q: %w", clip(name), err)
		}
	}
	out = append(out, '}')
	if at := p.Time(); !at.Equal(noTime()) {
		out = append(out, `,"time":`...)
		out = strconv.AppendInt(out, at.UnixNano(), 10)
	}
	return append(out, '}'), nil
}

func appendField(out []byte, f models.FieldIterator) ([]byte, error) {
	switch f.Type() {
	case models.Integer:
		n, err := f.IntegerValue()
		return strconv.AppendInt(out, n, 10), err
	case models.Unsigned:
		n, err := f.UnsignedValue()
		return strconv.AppendUint(out, n, 10), err
	case models.Float:
		n, err := f.FloatValue()
		return strconv.AppendFloat(out, n, 'g', -1, 64), err
	case models.Boolean:
		is, err := f.BooleanValue()
		return strconv.AppendBool(out, is), err
	case models.String:
		return wire.AppendQuoted(out, []byte(f.StringValue())), nil
	}
	return nil, errors.New("it has no value")
}

func clipMessage(message string) string {
	const most = 200
	if len(message) > most {
		return strings.ToValidUTF8(message[:most], "") + "…"
	}
	return message
}

// appendValues appends the members of an object, without those that are left out and with lists as r says; at leads to the
// object.
func (r *rule) appendValues(dst, object []byte, at []string) []byte {
	c := wire.Walk(object)
	first := true
	i := 0
	for c.Enter(); c.More(); i++ {
		var name []byte
		if object[0] == '[' {
			name = strconv.AppendQuote(nil, strconv.Itoa(i))
		} else {
			name = c.Name()
		}
		inner := c.Value()
		here := append(slices.Clip(at), string(wire.AppendUnquoted(nil, name)))
		if r.omits(here) || r.isAbsent(inner) || inner[0] == '[' && r.arrays == arraysOmit {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, name...), ':')
		// Of what is nested too deep the decoder says so.
		if inner[0] != '{' && (inner[0] != '[' || r.arrays != arraysIndex) || len(here) > wire.MaxDepth {
			dst = append(dst, inner...)
			continue
		}
		dst = append(r.appendValues(append(dst, '{'), inner, here), '}')
	}
	return dst
}

// anyMember stands for any name in a path of omit.
const anyMember = "*"

// isAbsent reports whether a value is a text that stands for none.
func (r *rule) isAbsent(inner []byte) bool {
	return len(r.absent) > 0 && inner[0] == '"' && slices.Contains(r.absent, string(wire.AppendUnquoted(nil, inner)))
}

func (r *rule) omits(at []string) bool {
	return slices.ContainsFunc(r.omit, func(path []step) bool {
		return slices.EqualFunc(path, at, func(s step, name string) bool {
			return s.member == name || s.member == anyMember || s.member == "" && strconv.Itoa(s.index) == name
		})
	})
}
