package maps

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"telemetryhub/wire"
)

// takeReport returns what of the message is also reported as state, nil where nothing is.
func (r *rule) takeReport(s *slot, f *facts) ([]byte, error) {
	text, there, err := appendNamed(append(s.text[:0], '{'), r.report, f)
	s.text = append(text, '}')
	if err != nil || !there {
		return nil, err
	}
	return s.text, nil
}

// appendNamed appends the members that are there.
func appendNamed(dst []byte, all []named, f *facts) (out []byte, there bool, err error) {
	for i := range all {
		v, err := all[i].value.of(f)
		if err != nil {
			return dst, there, &Refusal{Reason: wire.ReasonBadValue, Message: fmt.Sprintf("%s: %v", all[i].name, err)}
		}
		if v.kind == absent {
			continue
		}
		if there {
			dst = append(dst, ',')
		}
		there = true
		dst = append(append(dst, all[i].json...), ':')
		dst = v.appendJSON(dst)
	}
	return dst, there, nil
}

// appendObject appends the object of values that a map takes of a payload.
func (r *rule) appendObject(dst []byte, w *Scratch, f *facts) ([]byte, error) {
	dst = append(dst, '{')
	if len(r.fields) > 0 {
		out, there, err := appendNamed(dst, r.fields, f)
		if err == nil && !there {
			err = &Refusal{Reason: ReasonNoField, Message: errNothing.Error()}
		}
		return append(out, '}'), err
	}
	if r.kind == kindLine && r.expr == nil {
		return append(appendLine(dst, f.tree), '}'), nil
	}
	wrapped := r.field != nil
	if wrapped || f.tree[0] != '{' {
		name := []byte("value")
		if wrapped {
			var err error
			if w.name, err = r.field.append(w.name[:0], f); err != nil {
				return dst, &Refusal{Reason: ReasonNoField, Message: fmt.Sprintf("field %q: %v", r.field.text, err)}
			}
			name = w.name
		}
		dst = append(wire.AppendQuoted(dst, name), ':')
	}
	switch {
	case f.tree[0] == '{' && wrapped:
		dst = append(r.appendValues(append(dst, '{'), f.tree, nil), '}')
	case f.tree[0] == '{':
		dst = r.appendValues(dst, f.tree, nil)
	case f.tree[0] == '[' && r.arrays == arraysIndex:
		dst = append(r.appendValues(append(dst, '{'), f.tree, nil), '}')
	default:
		dst = append(dst, f.tree...)
	}
	return append(dst, '}'), nil
}

// appendLine appends the fields of a line, and those of its tags that are not the name of a field.
func appendLine(dst, point []byte) []byte {
	fields, tags := step{member: "fields"}.into(point), step{member: "tags"}.into(point)
	dst = append(dst, fields[1:len(fields)-1]...)
	c := wire.Walk(tags)
	for c.Enter(); c.More(); {
		quoted, inner := c.Name(), c.Value()
		if (step{member: string(wire.AppendUnquoted(nil, quoted))}).into(fields) == nil {
			dst = append(append(append(append(dst, ','), quoted...), ':'), inner...)
		}
	}
	return dst
}

// takeReading makes telemetry, or an event, as a device of the hub's own would have written it, and decodes that: limits
// and flaws are the same, and a reading in the quarantine can be retried.
func (r *rule) takeReading(w *Scratch, s *slot, f *facts, o *Outcome) error {
	o.Telemetry = &s.telemetry
	if r.kind == kindSenML && r.expr == nil {
		if len(f.tree) > 0 && f.tree[0] == '[' {
			return w.decoder.DecodePack(f.tree, o.Device, &s.telemetry)
		}
		return &wire.Error{Reason: wire.ReasonBadSenML, Message: "a SenML pack is a list"}
	}
	text := append(s.text[:0], '{')
	var err error
	if text, err = r.clock.append(text, f); err == nil {
		if r.what == Event {
			text, err = r.appendEvent(text, w, f)
		} else {
			text, err = r.appendTelemetry(text, w, f)
		}
	}
	s.text = text
	if err != nil {
		return err
	}
	if r.what == Event {
		return w.decoder.DecodeEventParams(text, &s.telemetry)
	}
	if err := w.decoder.DecodeTelemetry(text, &s.telemetry); err != nil {
		return err
	}
	r.learnUnits(&s.telemetry, f)
	return nil
}

// learnUnits says in which units the reading's fields are.
func (r *rule) learnUnits(t *wire.Telemetry, f *facts) {
	for i := range r.units {
		symbol, err := r.units[i].symbol.append(nil, f)
		if err != nil || !isUnit(string(symbol)) {
			continue // what it is made of is not there
		}
		for _, reading := range t.Readings {
			for _, field := range reading.Fields {
				if matchName(r.units[i].field, string(field.Name)) {
					t.Units = append(t.Units, wire.Unit{Field: field.Name, Symbol: symbol})
				}
			}
		}
	}
}

// matchName reports whether a name is what a text says in which * stands for any text.
func matchName(of, name string) bool {
	prefix, rest, wild := strings.Cut(of, "*")
	if !wild {
		return of == name
	}
	name, ok := strings.CutPrefix(name, prefix)
	for ok {
		next, more, again := strings.Cut(rest, "*")
		if !again {
			break
		}
		_, name, ok = strings.Cut(name, next)
		rest = more
	}
	return ok && strings.HasSuffix(name, rest)
}

func (r *rule) appendTelemetry(text []byte, w *Scratch, f *facts) ([]byte, error) {
	var err error
	switch {
	case r.measurement != nil:
		if w.name, err = r.measurement.append(w.name[:0], f); err != nil {
			return text, &Refusal{Reason: ReasonNoField, Message: fmt.Sprintf("measurement %q: %v", r.measurement.text, err)}
		}
		text = append(wire.AppendQuoted(append(text, `"measurement":`...), w.name), ',')
	case r.kind == kindLine && r.expr == nil:
		text = append(append(append(text, `"measurement":`...), step{member: "measurement"}.into(f.tree)...), ',')
	}
	if r.kind == kindLine && r.expr == nil && !r.clock.from.isSet() {
		if at := (step{member: "time"}).into(f.tree); at != nil {
			ns, err := strconv.ParseInt(string(at), 10, 64)
			if err != nil {
				return text, err
			}
			text = append(strconv.AppendInt(append(text, `"ts":`...), ns/1e6, 10), ',')
		}
	}
	if text, err = r.appendNumber(text, f); err != nil {
		return text, err
	}
	return r.closeObject(append(text, `"values":`...), w, f)
}

func (r *rule) closeObject(text []byte, w *Scratch, f *facts) ([]byte, error) {
	text, err := r.appendObject(text, w, f)
	return append(text, '}'), err
}

// appendNumber appends boot and seq.
func (r *rule) appendNumber(text []byte, f *facts) ([]byte, error) {
	boot, err := r.boot.of(f)
	if err != nil {
		return text, fmt.Errorf("boot: %w", err)
	}
	if boot.isThere() {
		text = append(wire.AppendQuoted(append(text, `"boot":`...), boot.text), ',')
	}
	seq, err := r.seq.of(f)
	if err != nil {
		return text, fmt.Errorf("seq: %w", err)
	}
	if !seq.isThere() {
		return text, nil
	}
	n, err := strconv.ParseUint(string(seq.text), 10, 64)
	if err != nil || n == 0 || n > wire.MaxSeq {
		return text, &wire.Error{Reason: wire.ReasonBadParams, Message: fmt.Sprintf("seq is %s; it is a whole number from 1 to %d", clip(seq.text), uint64(wire.MaxSeq))}
	}
	return append(strconv.AppendUint(append(text, `"seq":`...), n, 10), ','), nil
}

func (r *rule) appendEvent(text []byte, w *Scratch, f *facts) ([]byte, error) {
	name, err := r.words.event.of(f)
	if err == nil && (!name.isThere() || len(name.text) == 0) {
		err = &Refusal{Reason: ReasonNoField, Message: "the event has no name: nothing is there that event says"}
	}
	if err != nil {
		return text, err
	}
	text = append(wire.AppendQuoted(append(text, `"name":`...), name.text), ',')
	severity, err := r.words.severity.of(f)
	if err != nil {
		return text, fmt.Errorf("severity: %w", err)
	}
	if severity.isThere() {
		text = append(wire.AppendQuoted(append(text, `"severity":`...), severity.text), ',')
	}
	return r.closeObject(append(text, `"data":`...), w, f)
}

func (r *rule) takeState(w *Scratch, s *slot, f *facts) ([]byte, error) {
	text, err := r.appendObject(s.text[:0], w, f)
	s.text = text
	if err != nil {
		return nil, err
	}
	if string(text) == "{}" {
		return nil, &Refusal{Reason: ReasonNoField, Message: errNothing.Error()}
	}
	return text, nil
}

// takePresence reads the word that says whether a device is there.
func (r *rule) takePresence(f *facts) (bool, error) {
	v := valueOf(f.tree)
	if r.words.value.isSet() && v.kind == composite {
		var err error
		if v, err = r.words.value.of(f); err != nil {
			return false, err
		}
	}
	word := strings.ToLower(strings.TrimSpace(string(v.text)))
	if slices.Contains(r.words.online, word) {
		return true, nil
	}
	if slices.Contains(r.words.offline, word) {
		return false, nil
	}
	return false, &Refusal{Reason: ReasonBadWord, Message: fmt.Sprintf("%q is neither online (%s) nor offline (%s)", clip(v.text), strings.Join(r.words.online, ", "), strings.Join(r.words.offline, ", "))}
}
