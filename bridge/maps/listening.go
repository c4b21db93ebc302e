package maps

import (
	"fmt"
	"strings"
)

// Listens returns the group whose commands to a device come on topics that a filter of MQTT matches; ok is false where
// there is none. Without known levels, the device's id has to tell them.
// known is what its messages have said of them, nil where there was none.
func (s *Set) Listens(device string, known Vars, filter string) (group string, ok bool) {
	f, err := parsePattern(filter)
	if err != nil || strings.Contains(filter, "{") {
		return "", false
	}
	for _, cmd := range s.commands {
		vars := known
		if vars == nil {
			vars = cmd.levelsOf(device)
		}
		if vars == nil {
			continue
		}
		for i := range cmd.publish {
			topic, err := cmd.publish[i].topicOf(vars)
			if err != nil {
				continue
			}
			if _, meets := f.meet(topic); meets {
				return cmd.group, true
			}
		}
	}
	return "", false
}

// topicOf returns the topics of a command to one device, whatever its params are.
func (p *publish) topicOf(vars Vars) (pattern, error) {
	var text strings.Builder
	for i, part := range p.topic.parts {
		if part.source == nil {
			text.WriteString(part.text)
			continue
		}
		if v, known := vars.Get(part.source.name); known && part.source.plain && len(part.source.path) == 0 {
			text.WriteString(v)
			continue
		}
		if !isReserved(part.source.name) {
			return pattern{}, errAbsent{part.source.name} // any device's
		}
		fmt.Fprintf(&text, "{p%d}", i)
	}
	return parsePattern(text.String())
}

// LevelsOf returns what a device's id tells of the levels of its topics, for commands of a group before its first
// message.
func (s *Set) LevelsOf(group, device string) Vars {
	for _, cmd := range s.commands {
		if cmd.group != group {
			continue
		}
		if vars := cmd.levelsOf(device); vars != nil {
			return vars
		}
	}
	return nil
}
