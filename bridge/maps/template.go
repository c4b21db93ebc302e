package maps

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"telemetryhub/wire"
)

// source is where a value comes from: a path into the payload, or a name and perhaps a path into what it stands for;
// and filters, which change it one after the other.
type source struct {
	name    string // "" of a path into the payload
	path    []step
	filters []filter
	plain   bool // no filters
	escaped bool // the filter id alone
}

// step is one step of a path: into an object's member or a list's element.
type step struct {
	member string
	index  int // of a list, where member is ""
}

// facts are what templates and paths are about.
type facts struct {
	vars  Vars
	tree  []byte // the payload as JSON text; nil: there is none
	names func(name string) (tree []byte, ok bool)
}

// parseSource reads $.a.b[0]|filter, or name.a.b|filter.
func parseSource(from string) (source, error) {
	parts := splitFilters(from)
	s := source{plain: len(parts) == 1, escaped: len(parts) == 2 && parts[1] == "id"}
	root, steps := cutRoot(parts[0])
	if root != "$" {
		if !isName(root) {
			return s, fmt.Errorf("%q is neither a path such as $.a.b[0] nor a name", from)
		}
		s.name = root
	}
	var err error
	if s.path, err = parseSteps(steps); err != nil {
		return s, fmt.Errorf("%q: %w", from, err)
	}
	for _, part := range parts[1:] {
		f, err := parseFilter(part)
		if err != nil {
			return s, fmt.Errorf("%q: %w", from, err)
		}
		s.filters = append(s.filters, f)
	}
	return s, nil
}

// splitFilters cuts at | outside of brackets, within which a member's name may hold one.
func splitFilters(from string) []string {
	var parts []string
	quoted := false
	begin := 0
	for i := range len(from) {
		switch from[i] {
		case '"':
			quoted = !quoted
		case '|':
			if !quoted {
				parts = append(parts, strings.TrimSpace(from[begin:i]))
				begin = i + 1
			}
		}
	}
	return append(parts, strings.TrimSpace(from[begin:]))
}

func cutRoot(from string) (root, steps string) {
	if i := strings.IndexAny(from, ".["); i >= 0 {
		return from[:i], from[i:]
	}
	return from, ""
}

// parseSteps reads .member, ["member"] and [index], as often as they follow each other.
func parseSteps(from string) ([]step, error) {
	var steps []step
	for from != "" {
		if from[0] == '.' {
			end := strings.IndexAny(from[1:], ".[")
			if end < 0 {
				end = len(from) - 1
			}
			if end == 0 {
				return nil, errors.New("a member without a name")
			}
			steps, from = append(steps, step{member: from[1 : 1+end]}), from[1+end:]
			continue
		}
		if strings.HasPrefix(from, `["`) {
			end := strings.Index(from, `"]`)
			if end < 3 {
				return nil, errors.New(`a member in brackets is written ["name"]`)
			}
			steps, from = append(steps, step{member: from[2:end]}), from[end+2:]
			continue
		}
		end := strings.IndexByte(from, ']')
		if from[0] != '[' || end < 0 {
			return nil, fmt.Errorf("%q is not .member, [\"member\"] or [index]", from)
		}
		index, err := strconv.Atoi(from[1:end])
		if err != nil || index < 0 {
			return nil, fmt.Errorf("[%s] is not an index; they count from 0", from[1:end])
		}
		steps, from = append(steps, step{index: index}), from[end+1:]
	}
	return steps, nil
}

// walk follows steps into JSON text; nil where they lead nowhere.
func walk(tree []byte, steps []step) []byte {
	for _, s := range steps {
		if tree = s.into(tree); tree == nil {
			return nil
		}
	}
	return tree
}

func (s step) into(tree []byte) []byte {
	c := wire.Walk(tree)
	switch kind := c.Kind(); {
	case kind == '{' && s.member != "":
		var found []byte
		for c.Enter(); c.More(); {
			name := c.Name()
			if inner := c.Value(); sameName(name, s.member) {
				found = inner
			}
		}
		return found
	case kind == '[' && s.member == "":
		i := 0
		for c.Enter(); c.More(); i++ {
			if inner := c.Value(); i == s.index {
				return inner
			}
		}
	}
	return nil
}

// sameName compares a quoted name of JSON with a member's.
func sameName(quoted []byte, member string) bool {
	if len(quoted) == len(member)+2 && string(quoted[1:len(quoted)-1]) == member {
		return strings.IndexByte(member, '\\') < 0
	}
	return slices.Contains(quoted, '\\') && string(wire.AppendUnquoted(nil, quoted)) == member
}

// of returns the value of a source.
func (s *source) of(f *facts) (value, error) {
	v, err := s.raw(f)
	for _, change := range s.filters {
		if err != nil {
			return v, err
		}
		v, err = change(v)
	}
	return v, err
}

func (s *source) raw(f *facts) (value, error) {
	if s.name == "" {
		return valueOf(walk(f.tree, s.path)), nil
	}
	if found, ok := f.vars.Get(s.name); ok && len(s.path) == 0 {
		return textValue(found), nil
	}
	if f.names != nil {
		if tree, ok := f.names(s.name); ok {
			return valueOf(walk(tree, s.path)), nil
		}
	}
	return value{}, nil
}

// template is a text with sources in braces.
type template struct {
	text  string
	parts []part
	json  bool // what is put in is written as JSON
}

// part is a text, or a source where that is not nil.
type part struct {
	text   string
	source *source
	label  string // the source as it was written
	quoted bool   // it stands within quotes of JSON
}

// parseTemplate reads a text with {name}, {name.path} or {$.path} in it, each perhaps with filters. A brace that no
// name and no $ follows is itself.
func parseTemplate(from string) (template, error) {
	t := template{text: from}
	literal := strings.Builder{}
	for i := 0; i < len(from); i++ {
		if from[i] != '{' || i+1 == len(from) || !beginsSource(from[i+1]) {
			literal.WriteByte(from[i])
			continue
		}
		end := endOfSource(from[i:])
		if end < 0 {
			return t, fmt.Errorf("%q: a brace is not closed", from)
		}
		inner := from[i+1 : i+end]
		s, err := parseSource(inner)
		if err != nil {
			return t, err
		}
		t.parts = append(t.parts, part{text: literal.String()}, part{source: &s, label: inner})
		literal.Reset()
		i += end
	}
	t.parts = append(t.parts, part{text: literal.String()})
	return t, nil
}

func beginsSource(c byte) bool { return c == '$' || c == '_' || c >= 'a' && c <= 'z' }

func endOfSource(from string) int {
	quoted := false
	for i := range len(from) {
		switch from[i] {
		case '"':
			quoted = !quoted
		case '}':
			if !quoted {
				return i
			}
		}
	}
	return -1
}

// parsePayload reads the template of a payload. One that begins as JSON is JSON: what is put in is escaped within
// quotes, and a value of its own elsewhere.
func parsePayload(from string) (template, error) {
	t, err := parseTemplate(from)
	trimmed := strings.TrimLeft(from, " \t\r\n")
	if err != nil || !strings.HasPrefix(trimmed, "{") && !strings.HasPrefix(trimmed, "[") || len(t.parts) > 1 && strings.TrimSpace(t.parts[0].text) == "" {
		return t, err
	}
	t.json = true
	quoted := false
	for i := range t.parts {
		p := &t.parts[i]
		p.quoted = quoted
		for j := 0; j < len(p.text); j++ {
			switch {
			case p.text[j] == '\\' && quoted:
				j++
			case p.text[j] == '"':
				quoted = !quoted
			}
		}
	}
	return t, nil
}

// errAbsent says that what a template needs is not there.
type errAbsent struct{ what string }

func (e errAbsent) Error() string { return "{" + e.what + "} is not there" }

// append appends the template's text about f.
func (t *template) append(dst []byte, f *facts) ([]byte, error) {
	for i := range t.parts {
		p := &t.parts[i]
		if p.source == nil {
			dst = append(dst, p.text...)
			continue
		}
		v, err := p.source.of(f)
		switch {
		case err != nil:
			return dst, fmt.Errorf("{%s}: %w", p.label, err)
		case v.kind == absent || v.kind == null && !t.json:
			return dst, errAbsent{p.label}
		case t.json && p.quoted:
			quoted := wire.AppendQuoted(nil, v.text)
			dst = append(dst, quoted[1:len(quoted)-1]...)
		case t.json:
			dst = v.appendJSON(dst)
		default:
			dst = append(dst, v.text...)
		}
	}
	return dst, nil
}

// names returns the names that the template uses.
func (t *template) names() []string {
	var names []string
	for _, p := range t.parts {
		if p.source != nil && p.source.name != "" {
			names = append(names, p.source.name)
		}
	}
	return names
}

// readsPayload reports whether the template uses the payload.
func (t *template) readsPayload() bool {
	for _, p := range t.parts {
		if p.source != nil && p.source.name == "" {
			return true
		}
	}
	return false
}

// invert returns what the template's one name stands for where the template's text is id; ok is false where that cannot
// be told.
func (t *template) invert(id string) (vars Vars, ok bool) {
	var of *part
	prefix, suffix := "", ""
	for i := range t.parts {
		p := &t.parts[i]
		switch {
		case p.source == nil && of == nil:
			prefix += p.text
		case p.source == nil:
			suffix += p.text
		case of != nil:
			return nil, false
		default:
			of = p
		}
	}
	if of == nil || of.source.name == "" || len(of.source.path) > 0 || !of.source.plain && !of.source.escaped {
		return nil, false
	}
	inner, found := strings.CutPrefix(id, prefix)
	inner, ends := strings.CutSuffix(inner, suffix)
	if ok = found && ends; ok && of.source.escaped {
		inner, ok = unescapeID(inner)
	}
	return Vars{{of.source.name, inner}}, ok && inner != ""
}

// parseValue reads what stands for one value: a path, or a template where it has a brace.
func parseValue(from string) (taken, error) {
	if strings.HasPrefix(from, "$") {
		s, err := parseSource(from)
		return taken{source: &s}, err
	}
	t, err := parseTemplate(from)
	return taken{template: &t}, err
}

// taken is a value by path or by template; the zero value is none.
type taken struct {
	source   *source
	template *template
}

func (t taken) isSet() bool { return t.source != nil || t.template != nil }

// of returns the value, absent where a path or what a template needs is.
func (t taken) of(f *facts) (value, error) {
	switch {
	case t.source != nil:
		return t.source.of(f)
	case t.template == nil:
		return value{}, nil
	}
	made, err := t.template.append(nil, f)
	if _, missing := errors.AsType[errAbsent](err); missing {
		return value{}, nil
	}
	return value{text, made}, err
}
