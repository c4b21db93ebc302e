package maps

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"telemetryhub/wire"
)

// Nothing is what an example gives whose message a map passes over.
const Nothing = "nothing"

// Disproof is an example that does not hold.
type Disproof struct {
	Group   string // the preset's name, "" of the configuration's own
	Map     string // or the method of a command
	Example int    // its index
	Path    string // such as maps[2].examples[0]
	Message string // what came out
}

// Error says which example and what came out.
func (d Disproof) Error() string {
	of := d.Map
	if d.Group != "" {
		of = d.Group + "/" + d.Map
	}
	return fmt.Sprintf("example %d of %s: %s", d.Example+1, of, d.Message)
}

// Prove runs all examples of the groups that the set was made of, and returns those that do not hold.
func (s *Set) Prove(groups []Group) []Disproof {
	var all []Disproof
	var w Scratch
	for _, g := range groups {
		for i, m := range g.Maps {
			for j := range m.Examples {
				if err := s.prove(&w, g.Name, m.Name, &m.Examples[j]); err != nil {
					all = append(all, Disproof{g.Name, m.Name, j, fmt.Sprintf("maps[%d].examples[%d]", i, j), err.Error()})
				}
			}
		}
		for i, c := range g.Commands {
			for j := range c.Examples {
				if err := s.proveCommand(g.Name, &g.Commands[i], &c.Examples[j]); err != nil {
					all = append(all, Disproof{g.Name, c.Method, j, fmt.Sprintf("commands[%d].examples[%d]", i, j), err.Error()})
				}
			}
		}
	}
	return all
}

// message returns what an example publishes.
func (e *Example) message() (Message, error) {
	m := Message{Topic: e.Topic, Retained: e.Retained}
	switch p := e.Payload.(type) {
	case nil:
		var err error
		if m.Payload, err = hex.DecodeString(e.Hex); err != nil {
			return m, fmt.Errorf("hex: %w", err)
		}
	case string:
		m.Payload = []byte(p)
	default:
		text, err := json.Marshal(p)
		if err != nil {
			return m, fmt.Errorf("payload: %w", err)
		}
		m.Payload = text
	}
	return m, nil
}

func (s *Set) prove(w *Scratch, group, name string, e *Example) error {
	m, err := e.message()
	if err != nil {
		return err
	}
	outcomes, err := s.Up(w, m)
	if err != nil {
		var refused *Refusal
		if errors.As(err, &refused) && e.Refused != "" && refused.Reason == e.Refused {
			return nil
		}
		return fmt.Errorf("the message on %s is refused: %w", e.Topic, err)
	}
	got := Show(outcomes)
	if e.Refused != "" {
		return fmt.Errorf("the message on %s should be refused as %s, and gives %s", e.Topic, e.Refused, written(got))
	}
	title := name
	if group != "" {
		title = group + "/" + name
	}
	found := false
	for i := range got {
		found = found || got[i].Map == title
	}
	if e.Gives == Nothing {
		if len(got) > 0 {
			return fmt.Errorf("the message on %s should give nothing, and gives %s", e.Topic, written(got))
		}
		return nil
	}
	if !found {
		return fmt.Errorf("the message on %s does not come to this map: it gives %s", e.Topic, written(got))
	}
	return compare(e.Gives, got)
}

func written(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if string(text) == "null" {
		return Nothing
	}
	const most = 2000
	if len(text) > most {
		return string(bytes.ToValidUTF8(text[:most], nil)) + "…"
	}
	return string(text)
}

// compare holds what came out against what an example says: of each outcome the members that it names, and those of
// values and state exactly.
func compare[T any](wanted any, got []T) error {
	want := normal(wanted)
	list, isList := want.([]any)
	if !isList {
		list = []any{want}
	}
	if want == nil {
		return nil // the example says only that the map takes it
	}
	if len(list) != len(got) {
		return fmt.Errorf("it should give %d outcomes, and gives %d: %s", len(list), len(got), written(got))
	}
	for i, one := range list {
		members, is := one.(map[string]any)
		if !is {
			return fmt.Errorf("gives: %s is no outcome: it is {device, as, values and so on}, or nothing", written(one))
		}
		is2, _ := normal(got[i]).(map[string]any)
		for name, value := range members {
			if !reflect.DeepEqual(value, is2[name]) {
				return fmt.Errorf("%s should be %s, and is %s; all that came out: %s", name, written(value), written(is2[name]), written(got))
			}
		}
	}
	return nil
}

// normal turns what YAML or Go has into what JSON has.
func normal(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return treeOf(text)
}

// shownPublication is a publication as examples say it.
type shownPublication struct {
	Topic   string `json:"topic"`
	Payload any    `json:"payload"` // a tree of what is JSON, else the text
	QoS     byte   `json:"qos"`
}

func (s *Set) proveCommand(group string, c *Command, e *CommandExample) error {
	command := wire.Command{ID: "example", Method: c.Method, Attempt: 1}
	if e.Params != nil {
		text, err := json.Marshal(e.Params)
		if err != nil {
			return fmt.Errorf("params: %w", err)
		}
		command.Params = text
	}
	target := Target{Device: e.Device}
	if len(c.Types) > 0 {
		target.Type = c.Types[0]
	}
	for name, level := range e.Levels {
		target.Vars = append(target.Vars, Var{name, level})
	}
	order, err := s.Down(group, target, command)
	if err != nil {
		var known *wire.Error
		if errors.As(err, &known) && e.Refused != "" && known.Reason == e.Refused {
			return nil
		}
		return fmt.Errorf("the command is refused: %w", err)
	}
	var got []shownPublication
	for _, p := range order.Publications {
		one := shownPublication{p.Topic, string(p.Payload), p.QoS}
		if tree := treeOf(p.Payload); tree != nil {
			one.Payload = tree
		}
		got = append(got, one)
	}
	if e.Refused != "" {
		return fmt.Errorf("the command should be refused as %s, and gives %s", e.Refused, written(got))
	}
	return compare(e.Gives, got)
}
