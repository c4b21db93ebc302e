package maps

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"telemetryhub/wire"
)

// Set is the maps and commands of one broker, compiled. It changes nothing after Compile and serves any number of
// goroutines.
type Set struct {
	rules    []*rule // maps, and answers after them
	ignored  []pattern
	commands []*command
}

// rule is a map or an answer, compiled.
type rule struct {
	name    string
	group   string
	what    What
	pattern pattern
	except  []pattern
	when    *program
	kind    kind
	expr    *program
	each    []step
	hasEach bool

	device                      template
	typ, label, model, firmware *template
	values                      // of telemetry, events and states
	clock                       clock
	words                       words
	answers                     *answers // of an answer
	report                      []named
	examples                    []Example
}

// values is Values, compiled.
type values struct {
	measurement *template
	field       *template
	fields      []named
	omit        [][]step
	absent      []string
	arrays      string
	units       []unit
	boot, seq   taken
}

// unit is the unit of the fields whose names match.
type unit struct {
	field  string // in which * stands for any text
	symbol *template
}

// words is Words, compiled.
type words struct {
	event, severity, value taken
	online, offline        []string
}

// named is a value with the name that it gets, as JSON writes it.
type named struct {
	name  string
	json  []byte
	value taken
}

const (
	arraysQuarantine = ""
	arraysIndex      = "index"
	arraysOmit       = "omit"
)

// Fault is one thing that is wrong with a group, at a path such as maps[2].topic.
type Fault struct {
	Group   int // its index
	Path    string
	Message string
}

// Faults are all that is wrong.
type Faults []Fault

// Error lists one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.Path + ": " + one.Message
	}
	return strings.Join(lines, "\n")
}

// compiler collects faults.
type compiler struct {
	group  int
	of     Group
	faults Faults
}

func (c *compiler) fault(path, format string, args ...any) {
	c.faults = append(c.faults, Fault{c.group, path, fmt.Sprintf(format, args...)})
}

// check notes err and reports whether there is none.
func (c *compiler) check(path string, err error) bool {
	if err != nil {
		c.fault(path, "%v", err)
	}
	return err == nil
}

// Compile makes a set of groups. An error is of type [Faults] and holds all that is wrong; of a set that has none, no
// message is for two maps. It does not prove the examples: see [Set.Prove].
func Compile(groups []Group) (*Set, error) {
	s := &Set{}
	var faults Faults
	type place struct {
		group int
		path  string
	}
	places := map[*rule]place{}
	var answerRules []*rule
	for i, g := range groups {
		c := &compiler{group: i, of: g}
		names := map[string]bool{}
		for j := range g.Maps {
			at := fmt.Sprintf("maps[%d]", j)
			r := c.compileMap(at, &g.Maps[j])
			if g.Maps[j].Name == "" {
				c.fault(at+".name", "is needed: it is how errors and numbers call the map")
			} else if names[g.Maps[j].Name] {
				c.fault(at+".name", "%q is the name of another map", g.Maps[j].Name)
			}
			names[g.Maps[j].Name] = true
			s.rules = append(s.rules, r)
			places[r] = place{i, at + ".topic"}
		}
		for j := range g.Commands {
			cmd, answer := c.compileCommand(fmt.Sprintf("commands[%d]", j), &g.Commands[j], names)
			s.commands = append(s.commands, cmd)
			if answer != nil {
				answerRules = append(answerRules, answer)
			}
		}
		c.checkMethods()
		for j, text := range g.Ignore {
			p, err := parsePattern(text)
			c.check(fmt.Sprintf("ignore[%d]", j), err)
			s.ignored = append(s.ignored, p)
		}
		faults = append(faults, c.faults...)
	}
	for i, r := range s.rules {
		for _, other := range s.rules[:i] {
			if topic, both := r.meets(other); both {
				faults = append(faults, Fault{places[r].group, places[r].path, fmt.Sprintf("%q and the topic %q of map %s are both for %s; a message is for one map (except: leaves topics out)", r.pattern.text, other.pattern.text, other.title(), topic)})
			}
		}
	}
	s.rules = append(s.rules, answerRules...)
	if len(faults) > 0 {
		return nil, faults
	}
	return s, nil
}

// title names a map with its group.
func (r *rule) title() string {
	if r.group == "" {
		return r.name
	}
	return r.group + "/" + r.name
}

// meets returns the pattern of topics that two maps are both for.
func (r *rule) meets(other *rule) (topic string, both bool) {
	met, ok := r.pattern.meet(other.pattern)
	if !ok || r.group == other.group && r.pattern.text == other.pattern.text && other.when != nil {
		return "", false // of maps of one topic, the first whose condition holds takes a message
	}
	for _, except := range slices.Concat(r.except, other.except) {
		if except.covers(met) {
			return "", false
		}
	}
	return met.text, true
}

func optional(from string) (taken, error) {
	if from == "" {
		return taken{}, nil
	}
	return parseValue(from)
}

func optionalTemplate(from string) (*template, error) {
	if from == "" {
		return nil, nil //nolint:nilnil // no template
	}
	t, err := parseTemplate(from)
	return &t, err
}

// compileMap notes what is wrong with a map and returns what is right of it.
func (c *compiler) compileMap(at string, m *Map) *rule {
	r := &rule{name: m.Name, group: c.of.Name, examples: m.Examples}
	var err error
	r.pattern, err = parsePattern(m.Topic)
	known := c.check(at+".topic", err)
	for i, text := range m.Except {
		p, err := parsePattern(text)
		c.check(fmt.Sprintf("%s.except[%d]", at, i), err)
		r.except = append(r.except, p)
		if known && err == nil && p.covers(r.pattern) {
			c.fault(at+".topic", "%q matches nothing: except has all of it, by %q", m.Topic, text)
		}
	}
	switch r.what = What(m.As); r.what {
	case "":
		r.what = Telemetry
	case Telemetry, Event, State, Presence, Announce:
	default:
		c.fault(at+".as", "%q is not one of telemetry, event, state, presence, announce", m.As)
	}
	c.compileReading(at, r, m)
	c.compileIdentity(at, r, m.Identity, known)
	c.compileValues(at, r, m)
	c.compileWords(at, r, m.Words)
	var key string
	r.clock, key, err = compileClock(m.Clock)
	c.check(at+"."+key, err)
	r.report = c.compileNamed(at+".report", m.Report)
	c.checkUse(at, r, m)
	return r
}

// compileReading deals with how a payload is read.
func (c *compiler) compileReading(at string, r *rule, m *Map) {
	otherwise := kindJSON
	if r.what == Presence {
		otherwise = kindAuto
	}
	var err error
	r.kind, err = parseKind(m.Payload, otherwise)
	c.check(at+".payload", err)
	r.when, err = compileProgram(m.When, upward{}, true)
	c.check(at+".when", err)
	r.expr, err = compileProgram(m.Expr, upward{}, false)
	c.check(at+".expr", err)
	r.each, r.hasEach = c.compilePath(at+".each", m.Each), m.Each != ""
	if r.kind == kindLine && r.expr == nil {
		r.hasEach = true
		if m.Each != "" {
			c.fault(at+".each", "payload line is a list already: of its lines")
		}
	}
}

func (c *compiler) compilePath(at, text string) []step {
	if text == "" {
		return nil
	}
	root, steps := cutRoot(text)
	if root != "$" {
		c.fault(at, "%q is not a path such as $.a.b[0]", text)
		return nil
	}
	path, err := parseSteps(steps)
	c.check(at, err)
	return path
}

func (c *compiler) compileIdentity(at string, r *rule, id Identity, known bool) {
	if id.Device == "" {
		id.Device = "{device}"
	}
	var err error
	if r.device, err = parseTemplate(id.Device); c.check(at+".device", err) && known {
		c.checkNames(at+".device", r.device.names(), r.pattern)
	}
	for key, of := range map[string]struct {
		text string
		to   **template
	}{"type": {id.Type, &r.typ}, "label": {id.Label, &r.label}, "model": {id.Model, &r.model}, "firmware": {id.Firmware, &r.firmware}} {
		if *of.to, err = optionalTemplate(of.text); c.check(at+"."+key, err) && *of.to != nil && known {
			c.checkNames(at+"."+key, (*of.to).names(), r.pattern)
		}
	}
}

// checkNames notes names that the pattern does not have.
func (c *compiler) checkNames(at string, names []string, p pattern) {
	for _, name := range names {
		if !slices.Contains(p.names(), name) && name != "topic" {
			c.fault(at, "{%s} is no level of the topic %q", name, p.text)
		}
	}
}

func (c *compiler) compileValues(at string, r *rule, m *Map) {
	var err error
	v := &r.values
	v.measurement, err = optionalTemplate(m.Measurement)
	c.check(at+".measurement", err)
	v.field, err = optionalTemplate(m.Field)
	c.check(at+".field", err)
	for key, t := range map[string]*template{"measurement": v.measurement, "field": v.field} {
		if t != nil && len(r.pattern.levels) > 0 {
			c.checkNames(at+"."+key, t.names(), r.pattern)
		}
	}
	v.fields = c.compileNamed(at+".fields", m.Fields)
	for i, text := range m.Omit {
		v.omit = append(v.omit, c.compilePath(fmt.Sprintf("%s.omit[%d]", at, i), text))
	}
	v.absent = m.Absent
	// What is time or number is no value, where all is taken.
	for _, text := range []string{m.Time, m.Boot, m.Seq} {
		if root, steps := cutRoot(splitFilters(text)[0]); root == "$" && steps != "" {
			if path, err := parseSteps(steps); err == nil {
				v.omit = append(v.omit, path)
			}
		}
	}
	switch v.arrays = m.Arrays; v.arrays {
	case "quarantine":
		v.arrays = arraysQuarantine
	case arraysQuarantine, arraysIndex, arraysOmit:
	default:
		c.fault(at+".arrays", "%q is not one of quarantine, index, omit", m.Arrays)
	}
	for _, field := range slices.Sorted(maps.Keys(m.Units)) {
		symbol, err := parseTemplate(m.Units[field])
		if c.check(at+".units."+field, err) && len(symbol.names()) == 0 && !symbol.readsPayload() && !isUnit(symbol.text) {
			c.fault(at+".units."+field, "%q is not a unit: 1 to %d bytes without control characters", symbol.text, wire.MaxUnit)
		}
		c.checkNames(at+".units."+field, symbol.names(), r.pattern)
		v.units = append(v.units, unit{field, &symbol})
	}
	v.boot, err = optional(m.Boot)
	c.check(at+".boot", err)
	v.seq, err = optional(m.Seq)
	c.check(at+".seq", err)
}

func isUnit(symbol string) bool {
	return symbol != "" && len(symbol) <= wire.MaxUnit && !strings.ContainsFunc(symbol, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (c *compiler) compileNamed(at string, from map[string]string) []named {
	var all []named
	for _, name := range slices.Sorted(maps.Keys(from)) {
		v, err := parseValue(from[name])
		if c.check(at+"."+name, err); name == "" {
			c.fault(at, "a field has a name")
		}
		all = append(all, named{name, wire.AppendQuoted(nil, []byte(name)), v})
	}
	return all
}

func (c *compiler) compileWords(at string, r *rule, w Words) {
	var err error
	r.words.event, err = optional(w.Event)
	c.check(at+".event", err)
	r.words.severity, err = optional(w.Severity)
	c.check(at+".severity", err)
	r.words.value, err = optional(w.Value)
	c.check(at+".value", err)
	r.words.online, r.words.offline = lowered(w.Online), lowered(w.Offline)
	if len(w.Online) == 0 {
		r.words.online = []string{"online", "true", "1", "connected"}
	}
	if len(w.Offline) == 0 {
		r.words.offline = []string{"offline", "false", "0", "disconnected", "lost"}
	}
	for _, word := range r.words.online {
		if slices.Contains(r.words.offline, word) {
			c.fault(at+".online", "%q is a word of offline as well", word)
		}
	}
}

func lowered(words []string) []string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = strings.ToLower(word)
	}
	return out
}

// checkUse notes keys that the kind of map has no use for, and those that it lacks.
func (c *compiler) checkUse(at string, r *rule, m *Map) {
	useless := func(key string, given bool, of ...What) {
		if given && !slices.Contains(of, r.what) {
			c.fault(at+"."+key, "is of no use with as: %s", r.what)
		}
	}
	useless("measurement", m.Measurement != "", Telemetry)
	useless("fields", m.Fields != nil, Telemetry, Event, State)
	useless("field", m.Field != "", Telemetry, Event, State)
	useless("omit", m.Omit != nil, Telemetry, Event, State)
	useless("arrays", m.Arrays != "", Telemetry, Event, State)
	useless("units", m.Units != nil, Telemetry)
	useless("time", m.Time != "", Telemetry, Event)
	useless("boot", m.Boot != "", Telemetry)
	useless("seq", m.Seq != "", Telemetry)
	useless("absent", m.Absent != nil, Telemetry, Event, State)
	useless("report", m.Report != nil, Telemetry, Event, Presence, Announce)
	useless("event", m.Event != "", Event)
	useless("severity", m.Severity != "", Event)
	useless("value", m.Value != "", Presence)
	useless("online", m.Online != nil, Presence)
	useless("offline", m.Offline != nil, Presence)
	if r.what == Event && m.Event == "" {
		c.fault(at+".event", "is needed with as: event: the event's name, such as $.action or {device} or a word")
	}
	if r.kind != kindSenML {
		return
	}
	if r.expr == nil && (m.Fields != nil || m.Field != "" || m.Omit != nil || m.Time != "" || m.Boot != "" || m.Seq != "" || m.Measurement != "" || m.Each != "" || m.Report != nil || r.what != Telemetry) {
		c.fault(at+".payload", "senml says itself what is what: without an expression it is telemetry without measurement, fields, omit, time, boot, seq, each and report")
	}
}

// errNothing says that a message has nothing of what a map takes.
var errNothing = errors.New("nothing of what the map takes is in the payload")
