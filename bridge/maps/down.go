package maps

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/vm"

	"telemetryhub/wire"
)

// Target is the device that a command is for, as its maps know it.
type Target struct {
	Device string
	Type   string // in the registry
	Vars   Vars   // what its last message said; nil where there was none
}

// Publication is one message down. It is never retained.
type Publication struct {
	Topic   string
	Payload []byte
	QoS     byte
}

// Order is what a command becomes.
type Order struct {
	Publications []Publication
	Expect       *Expectation // nil: its outcome cannot be known
}

// Expectation is how the outcome of a command is known.
type Expectation struct {
	Command string // its id
	Method  string
	group   string
	target  Target
	params  json.RawMessage
	answer  *answers
	done    *done
}

// CodeUnmapped is the code of the error by which a command is refused that has no map: method not found (JSON-RPC 2.0
// section 5.1), so that its outcome is rejected.
const CodeUnmapped = wire.CodeMethodNotFound

// Down makes the messages of a command to a device of a group. The error is of type [*wire.Error] and means that the
// command can never be sent as it is.
func (s *Set) Down(group string, target Target, c wire.Command) (*Order, error) {
	cmd, e := s.command(group, target, c.Method)
	if e != nil {
		return nil, e
	}
	vars := target.Vars
	if vars == nil {
		vars = cmd.levelsOf(target.Device)
	}
	target.Vars = vars
	f := &facts{vars: vars, names: namesOf(target.Device, c)}
	env := &downward{ID: target.Device, Command: c.ID, Method: c.Method, Params: treeOf(c.Params), Vars: byName(vars), Meter: newMeter()}
	var machine vm.VM
	if is, err := cmd.when.holds(&machine, env); err != nil {
		return nil, refused(c.Method, err)
	} else if !is {
		return nil, refused(c.Method, fmt.Errorf("its params do not hold what the map wants of them: %s", cmd.when.text))
	}
	order := &Order{}
	for i := range cmd.publish {
		out, err := cmd.publish[i].make(&machine, env, f)
		if err != nil {
			return nil, refused(c.Method, err)
		}
		switch {
		case cmd.qos >= 0:
			out.QoS = byte(cmd.qos)
		case c.AtLeastOnce:
			out.QoS = 1
		}
		order.Publications = append(order.Publications, out)
	}
	if cmd.answer != nil || cmd.done != nil {
		order.Expect = &Expectation{Command: c.ID, Method: c.Method, group: group, target: target, params: c.Params, answer: cmd.answer, done: cmd.done}
	}
	return order, nil
}

func refused(method string, err error) *wire.Error {
	return &wire.Error{Code: wire.CodeInvalidParams, Reason: wire.ReasonBadParams, Message: fmt.Sprintf("method %s: %v", method, err)}
}

// AnyMethod stands for each method that no other command of the group has.
const AnyMethod = "*"

// command finds the map of a method.
func (s *Set) command(group string, target Target, method string) (*command, *wire.Error) {
	var others []string
	var rest *command
	for _, cmd := range s.commands {
		if cmd.group != group || len(cmd.types) > 0 && !slices.Contains(cmd.types, target.Type) {
			continue
		}
		if cmd.method == method {
			return cmd, nil
		}
		if cmd.method == AnyMethod {
			rest = cmd
		}
		others = append(others, cmd.method)
	}
	if rest != nil {
		return rest, nil
	}
	has := "there are none for it"
	if len(others) > 0 {
		has = "it has " + strings.Join(others, ", ")
	}
	return nil, &wire.Error{
		Code: CodeUnmapped, Reason: "unknown_method",
		Message: fmt.Sprintf("no map says how %q goes to this device; %s", method, has),
	}
}

// levelsOf tells from the device's id what the topic levels are, where the maps of the group make ids of one level.
func (cmd *command) levelsOf(device string) Vars {
	for _, t := range cmd.devices {
		if vars, ok := t.invert(device); ok {
			return vars
		}
	}
	return nil
}

// namesOf returns what the names of a command's templates stand for.
func namesOf(device string, c wire.Command) func(string) ([]byte, bool) {
	return func(name string) ([]byte, bool) {
		switch name {
		case "id":
			return wire.AppendQuoted(nil, []byte(device)), true
		case "command":
			return wire.AppendQuoted(nil, []byte(c.ID)), true
		case "method":
			return wire.AppendQuoted(nil, []byte(c.Method)), true
		case "params":
			if len(c.Params) == 0 {
				return nil, false
			}
			return c.Params, true
		}
		return nil, false
	}
}

func (p *publish) make(machine *vm.VM, env *downward, f *facts) (Publication, error) {
	topic, err := p.topic.append(nil, f)
	if err != nil {
		return Publication{}, fmt.Errorf("topic %q: %w", p.topic.text, err)
	}
	if err := checkTopic(string(topic)); err != nil {
		return Publication{}, err
	}
	if strings.Count(string(topic), "/") > strings.Count(p.topic.text, "/") && !p.slashes() {
		return Publication{}, fmt.Errorf("topic %q: what is put in has a slash", p.topic.text)
	}
	out := Publication{Topic: string(topic)}
	if p.expr == nil {
		if out.Payload, err = p.payload.append(nil, f); err != nil {
			return out, fmt.Errorf("payload %q: %w", p.payload.text, err)
		}
		return out, nil
	}
	made, err := p.expr.run(machine, env)
	if err != nil {
		return out, err
	}
	if s, is := made.(string); is {
		out.Payload = []byte(s)
		return out, nil
	}
	out.Payload, err = result(nil, made)
	return out, err
}

// slashes reports whether what the topic's template puts in are levels alone, of which {name...} may hold slashes.
func (p *publish) slashes() bool {
	return !slices.ContainsFunc(p.topic.names(), func(name string) bool { return isReserved(name) })
}

// Within returns how long it takes at most, 0 where the command's own timeout says.
func (e *Expectation) Within() time.Duration {
	if e.done == nil {
		return 0
	}
	return e.done.within
}

// Answers reports whether a reply is to this command. One whose correlation is another's, or is missing where the command
// gave one, is to none of ours.
func (e *Expectation) Answers(o *Outcome) bool {
	if e.answer == nil || o.Reply == nil || o.Group != e.group || o.Reply.Method != e.answer.method {
		return false
	}
	if e.Correlates() {
		return o.Reply.Correlation == e.Command
	}
	if e.answer.match == nil {
		return true
	}
	env := &downward{
		ID: e.target.Device, Command: e.Command, Method: e.Method, Params: treeOf(e.params), Vars: byName(o.Vars), Result: treeOf(o.Reply.Result), Meter: newMeter(),
	}
	is, err := e.answer.match.holds(new(vm.VM), env)
	return err == nil && is
}

// Met reports whether an outcome of the device is what says that the command is done. The error says why the condition
// cannot be told.
func (e *Expectation) Met(o *Outcome) (bool, error) {
	if e.done == nil {
		return false, nil
	}
	values := valuesOf(o)
	if values == nil {
		return false, nil
	}
	c := wire.Command{ID: e.Command, Method: e.Method, Params: e.params}
	f := &facts{vars: e.target.Vars, names: namesOf(e.target.Device, c)}
	for i := range e.done.fields {
		want, err := e.done.fields[i].value.of(f)
		if err != nil {
			return false, err
		}
		is, ok := values[e.done.fields[i].name]
		if !ok || !same(is, string(want.text)) {
			return false, nil
		}
	}
	env := &downward{
		ID: e.target.Device, Command: e.Command, Method: e.Method, Params: treeOf(e.params), Vars: byName(e.target.Vars), Values: values, Meter: newMeter(),
	}
	return e.done.when.holds(new(vm.VM), env)
}

// same compares a value with a text: numbers as numbers, the rest by what they are written as, in whatever case.
func same(is any, want string) bool {
	switch is := is.(type) {
	case float64:
		v, err := parseNumber([]byte(want))
		return err == nil && treeOf(v.text) == any(is)
	case bool:
		v, err := toBool(textValue(want))
		return err == nil && (string(v.text) == "true") == is
	case string:
		return strings.EqualFold(is, want)
	}
	return false
}

// valuesOf returns what a device has said, with members of members as a.b; nil where it has said nothing of itself.
func valuesOf(o *Outcome) map[string]any {
	values := map[string]any{}
	switch o.What {
	case Telemetry, Event:
		for _, r := range o.Telemetry.Readings {
			for _, f := range r.Fields {
				values[string(f.Name)] = fieldValue(f)
			}
		}
	case State:
		tree, _ := treeOf(o.State).(map[string]any)
		flatten(values, "", tree)
	case Presence:
		values["online"] = o.Online
	default:
		return nil
	}
	return values
}

func flatten(into map[string]any, prefix string, tree map[string]any) {
	for name, v := range tree {
		if inner, is := v.(map[string]any); is {
			flatten(into, prefix+name+".", inner)
			continue
		}
		into[prefix+name] = v
	}
}

func fieldValue(f wire.Field) any {
	switch f.Kind {
	case wire.Float:
		return f.Number
	case wire.String:
		return string(f.Text)
	}
	return f.Kind == wire.True
}

// take reads an answer; nil where the message is none.
func (a *answers) take(w *Scratch, f *facts) (*Reply, error) {
	r := &Reply{Method: a.method}
	correlation, err := a.correlation.of(f)
	if err != nil {
		return nil, err
	}
	if a.correlation.isSet() && !correlation.isThere() {
		return nil, nil //nolint:nilnil // it answers nobody's command
	}
	r.Correlation = string(correlation.text)
	if a.progress != nil {
		topic, _ := f.vars.Get("topic")
		env := upward{Topic: topic, Levels: strings.Split(topic, "/"), Vars: byName(f.vars), JSON: treeOf(f.tree), Payload: string(f.tree), Meter: newMeter()}
		if r.Progress, err = a.progress.holds(&w.machine, &env); err != nil {
			return nil, &Refusal{Reason: ReasonExpression, Message: "progress: " + err.Error()}
		}
	}
	fault, err := a.fault.of(f)
	if err != nil {
		return nil, err
	}
	if isFault(fault) {
		r.Fault = faultOf(fault)
		return r, nil
	}
	v := valueOf(f.tree)
	if a.result.isSet() {
		if v, err = a.result.of(f); err != nil {
			return nil, err
		}
	}
	r.Result = v.appendJSON(nil)
	return r, nil
}

// isFault reports whether the member that tells of a failure says that there is one.
func isFault(v value) bool {
	switch v.kind {
	case absent, null:
		return false
	case truth:
		return string(v.text) == "true"
	case text:
		return len(v.text) > 0
	case number:
		return string(v.text) != "0"
	}
	return true
}

// faultOf writes JSON-RPC's error member: with the code -32000, so that the command has failed and was not refused.
func faultOf(v value) []byte {
	message := v.text
	if v.kind == composite {
		if inner := valueOf(walk(v.text, []step{{member: "message"}})); inner.kind == text {
			message = inner.text
		}
	}
	out := wire.AppendQuoted([]byte(`{"code":-32000,"message":`), message)
	out = append(out, `,"data":`...)
	return append(v.appendJSON(out), '}')
}
