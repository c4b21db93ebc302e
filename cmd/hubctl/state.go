package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"telemetryhub/api/client"
)

type stateShow struct {
	Device string `arg:"" help:"Id of the device."`
}

// Run shows what is desired of a device and what it reported.
func (c *stateShow) Run(a *app) error {
	s, err := a.hub.State(a.ctx, c.Device)
	if err != nil {
		return err
	}
	return a.showState(s)
}

// stateRow is one member of a state: values as JSON, "" where there is none.
type stateRow struct{ desired, desiredAge, reported, reportedAge string }

func (a *app) showState(s client.State) error {
	if a.json {
		return a.printJSON(s)
	}
	head := newTable(a.stdout, "device", s.Device)
	online := "offline"
	if s.Online {
		online = "online"
	}
	rows := [][2]string{{"state", online}, {"version", number(s.Version)}, {"desired", moment(s.DesiredAt)}, {"desired by", s.DesiredBy}, {"reported", moment(s.ReportedAt)}}
	for _, line := range rows {
		if line[1] != "" {
			if err := head.row(line[0], line[1]); err != nil {
				return err
			}
		}
	}
	if err := head.flush(); err != nil {
		return err
	}
	members := map[string]*stateRow{}
	at := func(name string) *stateRow {
		if members[name] == nil {
			members[name] = &stateRow{}
		}
		return members[name]
	}
	eachMember(s.Desired, func(name, text string) { at(name).desired = text })
	eachMember(s.Reported, func(name, text string) { at(name).reported = text })
	eachMember(s.Metadata.Desired, func(name, text string) { at(name).desiredAge = a.ageOf(text) })
	eachMember(s.Metadata.Reported, func(name, text string) { at(name).reportedAge = a.ageOf(text) })
	differs := map[string]bool{}
	eachMember(s.Delta, func(name, _ string) { differs[name] = true })
	if len(members) == 0 {
		return nil
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	table := newTable(a.stdout, "MEMBER", "DESIRED", "AGE", "REPORTED", "AGE", "DELTA")
	for _, name := range slices.Sorted(maps.Keys(members)) {
		m, delta := members[name], ""
		if differs[name] {
			delta = "differs"
		}
		if err := table.row(name, shorten(m.desired), m.desiredAge, shorten(m.reported), m.reportedAge, delta); err != nil {
			return err
		}
	}
	return table.flush()
}

// ageOf writes how long ago a time of the metadata was.
func (a *app) ageOf(ms string) string {
	at, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return "" // an empty object stands for its time
	}
	return age(a.now().Sub(time.UnixMilli(at)))
}

// eachMember gives each value of a document, lists whole, with its name: a.b within an object.
func eachMember(document json.RawMessage, yield func(name, text string)) {
	var walk func(prefix string, text json.RawMessage)
	walk = func(prefix string, text json.RawMessage) {
		var members map[string]json.RawMessage
		if text = bytes.TrimSpace(text); len(text) == 0 {
			return
		}
		if text[0] != '{' || json.Unmarshal(text, &members) != nil || len(members) == 0 {
			if prefix != "" {
				yield(prefix, string(text))
			}
			return
		}
		for name, member := range members {
			walk(strings.TrimPrefix(prefix+"."+name, "."), member)
		}
	}
	walk("", document)
}

type stateSet struct {
	Device  string   `arg:"" help:"Id of the device."`
	Values  []string `arg:"" optional:"" name:"key=value" help:"What is desired. a.b=… is within an object; null removes. A value that is JSON is taken as such, anything else is text."`
	Params  string   `placeholder:"JSON|@FILE" help:"A merge patch (RFC 7396) as a JSON object, or null to remove all; key=value are added."`
	IfMatch *uint64  `placeholder:"VERSION" help:"Only if the state has this version."`
}

// Help is what kong shows below the flags.
func (stateSet) Help() string {
	return "The device is told at once, or when it connects; what it then reports is shown by: hubctl state DEVICE\n\n" +
		"Example: hubctl state set pump-7 interval=20 net.dns=null --if-match 12"
}

// Run changes what is desired.
func (c *stateSet) Run(a *app) error {
	patch, err := parsePatch(c.Params, c.Values)
	if err != nil {
		return err
	}
	s, err := a.hub.Desire(a.ctx, c.Device, patch, c.IfMatch)
	if err != nil {
		return err
	}
	return a.showState(s)
}

// parsePatch joins --params and the key=value words into a merge patch.
func parsePatch(params string, words []string) (json.RawMessage, error) {
	if strings.TrimSpace(params) == "null" && len(words) == 0 {
		return json.RawMessage("null"), nil
	}
	whole, err := parseParams(params, nil, nil)
	if err != nil {
		return nil, err
	}
	var patch any = map[string]any{}
	if whole != nil {
		dec := json.NewDecoder(bytes.NewReader(whole))
		dec.UseNumber() // as they were written
		if err := dec.Decode(&patch); err != nil || whole[0] != '{' {
			return nil, usageError("--params is not a JSON object: %s", clean(shorten(params)))
		}
	}
	if whole == nil && len(words) == 0 {
		return nil, usageError("nothing to change: give key=value or --params")
	}
	root, _ := patch.(map[string]any)
	given := map[string]bool{}
	for _, word := range words {
		path, text, ok := strings.Cut(word, "=")
		if !ok || path == "" {
			return nil, usageError("%q is not key=value (or use --params JSON)", clean(word))
		}
		if given[path] {
			return nil, usageError("%s is given twice", clean(path))
		}
		given[path] = true
		if !place(root, strings.Split(path, "."), typed(text)) {
			return nil, usageError("%s is given as a value and as an object, or has an empty name", clean(path))
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(root); err != nil {
		return nil, usageError("the values cannot be written as JSON: %v", err)
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}

// place sets a value within objects, which it makes; false where something else stands in the way.
func place(object map[string]any, path []string, value json.RawMessage) bool {
	name := path[0]
	if name == "" {
		return false
	}
	there, exists := object[name]
	if len(path) == 1 {
		if _, isObject := there.(map[string]any); isObject {
			return false
		}
		object[name] = value
		return true
	}
	if !exists {
		there = map[string]any{}
		object[name] = there
	}
	inner, isObject := there.(map[string]any)
	return isObject && place(inner, path[1:], value)
}

type stateHistory struct {
	Device string `arg:"" help:"Id of the device."`
}

// Run lists the changes of a state.
func (c *stateHistory) Run(a *app) error {
	changes, err := a.hub.StateHistory(a.ctx, c.Device)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(changes)
	}
	rows := newTable(a.stdout, "VERSION", "TIME", "AGE", "SIDE", "BY", "CHANGE")
	for _, change := range changes {
		text := string(change.Patch)
		if change.Patch == nil {
			text = strconv.Itoa(change.Bytes) + " bytes, not kept"
		}
		if err := rows.row(number(change.Version), moment(change.Time), age(a.now().Sub(change.Time)), change.Side, change.Actor, shorten(text)); err != nil {
			return err
		}
	}
	return rows.flush()
}

func stateLineText(s client.LiveState) string {
	text := fmt.Sprintf("%s  %-16s  state %d", moment(s.Time), s.Device, s.Version) + ": " + strings.Join(s.Changed, " and ") + " changed"
	if delta := string(s.Delta); delta != "{}" && delta != "" {
		text += ", delta " + shorten(delta)
	}
	return clean(text)
}
