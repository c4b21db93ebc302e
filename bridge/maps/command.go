package maps

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// command is Command, compiled.
type command struct {
	group    string
	method   string
	types    []string
	when     *program
	publish  []publish
	qos      int // -1: as the command's delivery says
	devices  []*template
	answer   *answers
	done     *done
	params   json.RawMessage // JSON Schema; nil: any
	examples []CommandExample
}

// publish is Publish, compiled.
type publish struct {
	topic   template
	payload template
	expr    *program
}

// answers is Answer, compiled.
type answers struct {
	method      string
	match       *program
	correlation taken
	result      taken
	fault       taken
	progress    *program
}

// done is Done, compiled.
type done struct {
	fields []named
	when   *program
	within time.Duration
}

// LongestWithin bounds Done.Within.
const LongestWithin = time.Hour

// compileCommand notes what is wrong with a command and returns what is right of it, and the rule of its answers.
func (c *compiler) compileCommand(at string, from *Command, mapNames map[string]bool) (*command, *rule) {
	cmd := &command{group: c.of.Name, method: from.Method, types: from.Types, qos: -1, examples: from.Examples}
	switch {
	case from.Method == "":
		c.fault(at+".method", "is needed")
	case len(from.Method) > 128 || strings.HasPrefix(from.Method, "hub."):
		c.fault(at+".method", "%q is not a method: at most 128 bytes, and hub. is the hub's own", from.Method)
	}
	var err error
	if from.Params != nil {
		cmd.params, err = json.Marshal(from.Params)
		c.check(at+".params", err)
	}
	cmd.when, err = compileProgram(from.When, downward{}, true)
	c.check(at+".when", err)
	switch from.QoS {
	case "":
	case "0", "1", "2":
		cmd.qos = int(from.QoS[0] - '0')
	default:
		c.fault(at+".qos", "%q is not 0, 1 or 2", from.QoS)
	}
	all := from.Publish
	switch {
	case from.Topic != "" && len(all) > 0:
		c.fault(at+".topic", "topic and publish are two ways to say one thing; take one")
	case from.Topic != "":
		cmd.publish = append(cmd.publish, c.compilePublish(at, Publish{from.Topic, from.Payload, from.Expr}))
	case len(all) == 0:
		c.fault(at+".topic", "is needed")
	}
	for i, one := range all {
		cmd.publish = append(cmd.publish, c.compilePublish(fmt.Sprintf("%s.publish[%d]", at, i), one))
	}
	for i := range c.of.Maps {
		device := c.of.Maps[i].Device
		if device == "" {
			device = "{device}"
		}
		if t, err := parseTemplate(device); err == nil && !t.readsPayload() {
			cmd.devices = append(cmd.devices, &t)
		}
	}
	var answer *rule
	if from.Answer != nil {
		cmd.answer, answer = c.compileAnswer(at+".answer", cmd.method, from.Answer, mapNames)
	}
	if from.DoneWhen != nil {
		cmd.done = c.compileDone(at+".done_when", from.DoneWhen)
	}
	if from.Answer != nil && from.DoneWhen != nil {
		c.fault(at+".done_when", "answer and done_when are two ways to know an outcome; take one")
	}
	return cmd, answer
}

func (c *compiler) compilePublish(at string, from Publish) publish {
	var p publish
	var err error
	if p.topic, err = parseTemplate(from.Topic); c.check(at+".topic", err) {
		c.checkLevels(at+".topic", &p.topic)
	}
	p.payload, err = parsePayload(from.Payload)
	c.check(at+".payload", err)
	if p.payload.readsPayload() || p.topic.readsPayload() {
		c.fault(at+".payload", "a command has no $; its params are {params.NAME}")
	}
	c.checkLevels(at+".payload", &p.payload)
	p.expr, err = compileProgram(from.Expr, downward{}, false)
	c.check(at+".expr", err)
	if from.Expr != "" && from.Payload != "" {
		c.fault(at+".expr", "payload and expr are two ways to say one thing; take one")
	}
	for _, wild := range p.topic.parts {
		if wild.source == nil && strings.ContainsAny(wild.text, "+#\x00") {
			c.fault(at+".topic", "%q has a wildcard; a message has one topic", from.Topic)
		}
	}
	return p
}

// checkLevels notes names that no map of the group has as a level of its topic.
func (c *compiler) checkLevels(at string, t *template) {
	for _, name := range t.names() {
		if isReserved(name) {
			continue
		}
		known := slices.ContainsFunc(c.of.Maps, func(m Map) bool {
			p, err := parsePattern(m.Topic)
			return err != nil || slices.Contains(p.names(), name)
		})
		if !known {
			c.fault(at, "{%s} is no level of the topic of any map beside it, and none of id, command, method, params", name)
		}
	}
}

func (c *compiler) compileAnswer(at, method string, from *Answer, mapNames map[string]bool) (*answers, *rule) {
	a := &answers{method: method}
	r := &rule{name: "answer of " + method, group: c.of.Name, what: Answered, answers: a}
	for n := 2; mapNames[r.name]; n++ {
		r.name = fmt.Sprintf("answer of %s (%d)", method, n)
	}
	var err error
	r.pattern, err = parsePattern(from.Topic)
	known := c.check(at+".topic", err)
	r.kind, err = parseKind(from.Payload, kindAuto)
	if c.check(at+".payload", err); r.kind == kindSenML || r.kind == kindLine {
		c.fault(at+".payload", "an answer is json, auto, number, text or cbor")
	}
	r.when, err = compileProgram(from.When, upward{}, true)
	c.check(at+".when", err)
	c.compileIdentity(at, r, Identity{Device: from.Device}, known)
	a.match, err = compileProgram(from.Match, downward{}, true)
	c.check(at+".match", err)
	a.correlation, err = optional(from.Correlation)
	c.check(at+".correlation", err)
	a.result, err = optional(from.Result)
	c.check(at+".result", err)
	a.fault, err = optional(from.Error)
	c.check(at+".error", err)
	a.progress, err = compileProgram(from.Progress, upward{}, true)
	c.check(at+".progress", err)
	return a, r
}

func (c *compiler) compileDone(at string, from *Done) *done {
	d := &done{within: from.Within, fields: c.compileNamed(at+".fields", from.Fields)}
	for _, f := range d.fields {
		if f.value.source != nil {
			c.fault(at+".fields."+f.name, "a command has no $; its params are {params.NAME}")
		}
	}
	var err error
	d.when, err = compileProgram(from.When, downward{}, true)
	c.check(at+".when", err)
	if len(d.fields) == 0 && d.when == nil {
		c.fault(at+".fields", "fields or when is needed: what the device says when it is done")
	}
	if d.within <= 0 || d.within > LongestWithin {
		c.fault(at+".within", "%s is not from 1ms to %s", d.within, LongestWithin)
	}
	return d
}

// checkMethods notes commands that cannot be told apart.
func (c *compiler) checkMethods() {
	for i, one := range c.of.Commands {
		for j, other := range c.of.Commands[:i] {
			both := len(one.Types) == 0 || len(other.Types) == 0 || slices.ContainsFunc(one.Types, func(t string) bool { return slices.Contains(other.Types, t) })
			if one.Method == other.Method && one.Method != "" && both {
				c.fault(fmt.Sprintf("commands[%d].method", i), "%q is the method of commands[%d] for the same devices; types tells them apart", one.Method, j)
			}
		}
	}
}

// Methods returns the names of the commands that devices of a group and a type have, AnyMethod among them; nil where the
// group has none at all.
func (s *Set) Methods(group, deviceType string) []string {
	names := map[string]bool{}
	has := false
	for _, cmd := range s.commands {
		if cmd.group != group {
			continue
		}
		has = true
		if len(cmd.types) == 0 || slices.Contains(cmd.types, deviceType) {
			names[cmd.method] = true
		}
	}
	if !has {
		return nil
	}
	return slices.Sorted(maps.Keys(names))
}
