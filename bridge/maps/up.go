package maps

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/vm"

	"telemetryhub/wire"
)

// Scratch is what taking one message needs; it is kept and used again, by one goroutine at a time. The zero value is
// ready.
type Scratch struct {
	decoder  wire.Decoder
	machine  vm.VM
	quoted   []byte
	made     []byte // the result of an expression
	vars     Vars
	outcomes []Outcome
	slots    []*slot
	used     int
	name     []byte
}

// slot is what one outcome is written into.
type slot struct {
	telemetry wire.Telemetry
	text      []byte
	device    []byte
}

// What a scratch keeps for the next message: so many bytes of each text, and so many slots.
const (
	keptText  = 256 << 10
	keptSlots = 64
)

func (s *Scratch) reset() {
	clear(s.outcomes)
	s.outcomes, s.vars, s.used = s.outcomes[:0], nil, 0
	if len(s.slots) > keptSlots {
		clear(s.slots[keptSlots:])
		s.slots = s.slots[:keptSlots]
	}
	if cap(s.quoted) > keptText {
		s.quoted = nil
	}
	if cap(s.made) > keptText {
		s.made = nil
	}
	for _, one := range s.slots {
		if cap(one.text) > keptText {
			*one = slot{}
		}
	}
}

func (s *Scratch) slot() *slot {
	if s.used == len(s.slots) {
		s.slots = append(s.slots, new(slot))
	}
	s.used++
	return s.slots[s.used-1]
}

// maxOutcomes bounds what one message may become.
const maxOutcomes = wire.MaxReadings

// Up says what a message is. No outcome and no error: a map is for the topic and passes this message over. An error is of
// type [*Refusal], and then nothing of the message is taken. The outcomes live until the scratch's next use.
func (s *Set) Up(w *Scratch, m Message) ([]Outcome, error) {
	w.reset()
	if err := checkTopic(m.Topic); err != nil {
		return nil, &Refusal{Reason: ReasonBadTopic, Message: err.Error()}
	}
	matched, taken := false, false
	var refused error
	for _, r := range s.rules {
		vars, ok := r.match(m.Topic)
		if !ok {
			continue
		}
		if matched = true; taken && r.what != Answered {
			continue // a map before it, of the same topic, has taken it
		}
		its, err := r.take(w, m, vars)
		taken = taken || its && r.what != Answered
		switch {
		case err == nil, r.what == Answered && !isRefusal(err):
		case r.what == Answered: // it may be for a map as well, which then says what is wrong
			if refused == nil {
				refused = err
			}
		default:
			return nil, refusalOf(r, err)
		}
	}
	switch {
	case !matched && s.ignores(m.Topic):
	case !matched:
		return nil, &Refusal{Reason: ReasonUnmapped, Message: s.nearest(m.Topic)}
	case len(w.outcomes) == 0 && refused != nil:
		return nil, refused
	}
	return w.outcomes, nil
}

// Ignores reports whether a topic comes along and means nothing: no map is for it, and a group says so.
func (s *Set) Ignores(topic string) bool {
	return s.ignores(topic) && !slices.ContainsFunc(s.rules, func(r *rule) bool { _, is := r.match(topic); return is })
}

func (s *Set) ignores(topic string) bool {
	return slices.ContainsFunc(s.ignored, func(p pattern) bool { _, is := p.match(topic, nil); return is })
}

func isRefusal(err error) bool {
	_, is := errors.AsType[*Refusal](err)
	return is
}

// refusalOf turns any error of taking a message into a refusal.
func refusalOf(r *rule, err error) *Refusal {
	if refused, ok := errors.AsType[*Refusal](err); ok {
		refused.Map = r.title()
		return refused
	}
	out := &Refusal{Map: r.title(), Reason: wire.ReasonBadFrame, Message: err.Error()}
	if known, ok := errors.AsType[*wire.Error](err); ok {
		out.Reason, out.Message = known.Reason, known.Message
	}
	return out
}

// match returns what the pattern's names stand for.
func (r *rule) match(topic string) (Vars, bool) {
	vars, ok := r.pattern.match(topic, nil)
	if !ok {
		return nil, false
	}
	for _, except := range r.except {
		if _, is := except.match(topic, nil); is {
			return nil, false
		}
	}
	return vars, true
}

// nearest says which map came nearest to a topic, and why it is not for it: levels that are written out count before
// those that are any.
func (s *Set) nearest(topic string) string {
	best, most, why := "", -1, ""
	for _, r := range s.rules {
		levels, miss := r.pattern.miss(topic)
		if miss == "" {
			levels, miss = len(r.pattern.levels)+1, "except leaves it out"
		}
		near := levels
		for _, l := range r.pattern.levels[:min(levels, len(r.pattern.levels))] {
			if l.kind == levelText {
				near += maxTopic
			}
		}
		if near > most {
			best, most, why = fmt.Sprintf("map %s, %q", r.title(), r.pattern.text), near, miss
		}
	}
	if best == "" {
		return "no map is for the topic: there are none"
	}
	return "no map is for the topic; the nearest is " + best + ": " + why
}

// take appends what a message is by this rule; not its is one that when leaves to another.
func (r *rule) take(w *Scratch, m Message, vars Vars) (its bool, err error) {
	if r.kind != kindJSON && slices.Contains(r.absent, string(bytes.TrimSpace(m.Payload))) {
		return true, nil
	}
	usesExpr := r.when != nil || r.expr != nil || r.answers != nil && r.answers.progress != nil
	tree, err := w.tree(m.Payload, r.kind, usesExpr || r.what == State || r.report != nil)
	if err != nil {
		return true, refusalOf(r, err)
	}
	if usesExpr {
		env := upward{
			Topic: m.Topic, Levels: strings.Split(m.Topic, "/"), Vars: byName(vars), Payload: string(m.Payload), JSON: treeOf(tree),
			Retained: m.Retained, Meter: newMeter(),
		}
		is, err := r.when.holds(&w.machine, &env)
		if err != nil {
			return true, &Refusal{Map: r.title(), Reason: ReasonExpression, Message: "when: " + err.Error()}
		}
		if !is {
			return false, nil
		}
		if r.expr != nil {
			out, err := r.expr.run(&w.machine, &env)
			if err != nil {
				return true, &Refusal{Map: r.title(), Reason: ReasonExpression, Message: "expr: " + err.Error()}
			}
			if out == nil {
				return true, nil
			}
			if w.made, err = result(w.made[:0], out); err != nil {
				return true, &Refusal{Map: r.title(), Reason: ReasonExpression, Message: "expr: " + err.Error()}
			}
			if tree, err = w.decoder.Text(w.made, false, true); err != nil { // nested too deep
				return true, &Refusal{Map: r.title(), Reason: ReasonExpression, Message: "expr: its result: " + err.Error()}
			}
		}
	}
	return true, r.takeTree(w, m, vars, tree)
}

func byName(vars Vars) map[string]string {
	out := make(map[string]string, len(vars))
	for _, v := range vars {
		out[v.Name] = v.Value
	}
	return out
}

// takeTree takes a payload, or each element of its list.
func (r *rule) takeTree(w *Scratch, m Message, vars Vars, tree []byte) error {
	f := facts{vars: append(vars, Var{"topic", m.Topic}), tree: tree}
	isList := r.expr != nil && r.kind != kindSenML && tree[0] == '['
	if !r.hasEach && !isList {
		return r.takeOne(w, &f)
	}
	list := walk(tree, r.each)
	if list == nil || list[0] != '[' {
		return &Refusal{Map: r.title(), Reason: ReasonNoField, Message: "each: there is no list at that path"}
	}
	c := wire.Walk(list)
	i := 0
	for c.Enter(); c.More(); i++ {
		if len(w.outcomes) >= maxOutcomes {
			return &Refusal{Map: r.title(), Reason: wire.ReasonBadFrame, Message: fmt.Sprintf("the payload is a list of more than %d", maxOutcomes)}
		}
		f.tree = c.Value()
		if err := r.takeOne(w, &f); err != nil {
			refused := refusalOf(r, err)
			refused.Message = fmt.Sprintf("element %d: %s", i, refused.Message)
			return refused
		}
	}
	return nil
}

func (r *rule) takeOne(w *Scratch, f *facts) error {
	s := w.slot()
	o := Outcome{Map: r.name, Group: r.group, What: r.what, Vars: f.vars[:len(f.vars)-1]}
	var err error
	if s.device, err = r.device.append(s.device[:0], f); err == nil {
		err = wire.CheckDeviceID(string(s.device))
	}
	if err != nil {
		return &Refusal{Reason: ReasonBadDevice, Message: fmt.Sprintf("device %q: %v", r.device.text, err)}
	}
	o.Device = string(s.device)
	o.Type, o.Label, o.Model, o.Firmware = known(r.typ, f), known(r.label, f), known(r.model, f), known(r.firmware, f)
	switch r.what {
	case Telemetry, Event:
		err = r.takeReading(w, s, f, &o)
	case State:
		o.State, err = r.takeState(w, s, f)
	case Announce:
		o.State, err = r.takeReport(s, f)
	case Presence:
		o.Online, err = r.takePresence(f)
	case Answered:
		o.Reply, err = r.answers.take(w, f)
		if err == nil && o.Reply == nil {
			return nil
		}
	}
	if err != nil {
		return refusalOf(r, err)
	}
	if r.what == Telemetry && len(r.absent) > 0 && len(o.Telemetry.Readings) == 1 && o.Telemetry.Readings[0].Flaw == wire.ReasonNoValues {
		return nil // it said that it has nothing to say
	}
	w.outcomes = append(w.outcomes, o)
	if len(r.report) == 0 || r.what == Announce {
		return nil
	}
	state, err := r.takeReport(w.slot(), f)
	if err == nil && state != nil {
		w.outcomes = append(w.outcomes, Outcome{Map: o.Map, Group: o.Group, What: State, Device: o.Device, Vars: o.Vars, State: state})
	}
	return err
}

// known returns what is known of a device, clipped to what the registry takes.
func known(t *template, f *facts) string {
	if t == nil {
		return ""
	}
	made, err := t.append(nil, f)
	if err != nil {
		return ""
	}
	const longest = 128
	return strings.ToValidUTF8(string(made[:min(len(made), longest)]), "")
}
