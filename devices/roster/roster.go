// Package roster reads lists of devices for an import: CSV and JSON lines. It tells every fault by its line and column;
// what the devices mean for the registry it does not know.
package roster

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"telemetryhub/devices"
)

// Line is one device of a list and where it stands.
type Line struct {
	Number int // from 1
	Entry  devices.Entry
}

// Fault is what is wrong at one place of a list.
type Fault struct {
	Line    int    // from 1
	Column  string // the column's or member's name; empty: the whole line
	Message string
}

// Lists longer than that are not read on.
const (
	most      = devices.LargestImport
	mostFault = 1000
)

// faults gathers a bounded number of them.
type faults []Fault

func (f *faults) add(line int, column, format string, args ...any) {
	*f = append(*f, Fault{Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) full() bool { return len(*f) >= mostFault }

// ReadCSV reads CSV (RFC 4180) in UTF-8 whose first line names the columns: id, type, tags, enabled, attributes.NAME or
// attr:NAME, in any order. An empty cell says nothing. Tags are separated by semicolons, or are a JSON array of texts.
func ReadCSV(data []byte) ([]Line, []Fault) {
	var found faults
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // spreadsheets begin with it
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1 // told below, by name
	r.ReuseRecord = true
	heading, err := r.Read()
	if errors.Is(err, io.EOF) {
		found.add(1, "", "the list is empty; its first line names the columns: id,type,tags,attributes.NAME,enabled")
		return nil, found
	}
	if err != nil {
		found.add(csvFault(err))
		return nil, found
	}
	columns := readHeading(heading, &found)
	if len(found) > 0 {
		return nil, found
	}
	var lines []Line
	for !found.full() {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			found.add(csvFault(err))
			break // a quote that is open swallows what follows
		}
		number, _ := r.FieldPos(0)
		if len(lines) == most {
			found.add(number, "", "more than %d devices; divide the list", most)
			break
		}
		if len(cells) != len(columns) {
			found.add(number, "", "%d cells; the first line names %d columns", len(cells), len(columns))
			continue
		}
		line := Line{Number: number}
		for i, cell := range cells {
			setCell(&line.Entry, columns[i], cell, number, &found)
		}
		lines = append(lines, line)
	}
	return lines, found
}

func csvFault(err error) (line int, column, format string, arg any) {
	if parse, ok := errors.AsType[*csv.ParseError](err); ok {
		return parse.Line, "", "no CSV: %v", fmt.Sprintf("%v (byte %d of the line)", parse.Err, parse.Column)
	}
	return 1, "", "no CSV: %v", err
}

// readHeading returns the columns' names, attributes as attributes.NAME.
func readHeading(heading []string, found *faults) []string {
	columns, seen := make([]string, len(heading)), map[string]bool{}
	for i, name := range heading {
		name = strings.TrimSpace(name)
		if rest, ok := strings.CutPrefix(name, "attr:"); ok {
			name = attribute + rest
		}
		switch {
		case seen[name]:
			found.add(1, name, "stands there twice")
		case name == "id", name == "type", name == "tags", name == "enabled", strings.HasPrefix(name, attribute) && name != attribute:
		default:
			found.add(1, clip(name), "no column of this name is known; there are id, type, tags, enabled, attributes.NAME (or attr:NAME)")
		}
		seen[name], columns[i] = true, name
	}
	if !seen["id"] {
		found.add(1, "id", "is missing")
	}
	return columns
}

const attribute = "attributes."

func setCell(e *devices.Entry, column, cell string, line int, found *faults) {
	text := strings.Clone(cell)
	switch {
	case !utf8.ValidString(text):
		found.add(line, column, "not UTF-8")
	case column == "id":
		e.ID = text
	case text == "":
	case column == "type":
		e.Type = &text
	case column == "tags":
		tags, err := splitTags(text)
		if err != nil {
			found.add(line, column, "%v", err)
			return
		}
		e.Tags = &tags
	case column == "enabled":
		enabled, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			found.add(line, column, "%q is neither true nor false", clip(text))
			return
		}
		e.Enabled = &enabled
	default:
		if e.Attributes == nil {
			e.Attributes = map[string]*string{}
		}
		e.Attributes[strings.TrimPrefix(column, attribute)] = &text
	}
}

// splitTags reads a cell of tags.
func splitTags(cell string) ([]string, error) {
	if strings.HasPrefix(cell, "[") {
		var tags []string
		if err := jsonv2.Unmarshal([]byte(cell), &tags); err != nil {
			return nil, errors.New("begins with [ and is no JSON array of texts")
		}
		return tags, nil
	}
	tags := strings.Split(cell, ";")
	for i := range tags {
		tags[i] = strings.TrimSpace(tags[i])
	}
	return tags, nil
}

// ReadLines reads JSON lines: an object a line with the members id, type, tags, attributes, enabled. Empty lines are
// passed over.
func ReadLines(data []byte) ([]Line, []Fault) {
	var (
		lines []Line
		found faults
	)
	number := 0
	for text := range bytes.Lines(data) {
		number++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		if found.full() {
			break
		}
		if len(lines) == most {
			found.add(number, "", "more than %d devices; divide the list", most)
			break
		}
		line := Line{Number: number}
		if err := jsonv2.Unmarshal(text, &line.Entry, jsonv2.RejectUnknownMembers(true)); err != nil {
			column, message := jsonFault(err)
			found.add(number, column, "%s", message)
			continue
		}
		lines = append(lines, line)
	}
	if number == 0 || len(lines) == 0 && len(found) == 0 {
		found.add(1, "", "the list is empty")
	}
	return lines, found
}

// jsonFault says which member is wrong, and how.
func jsonFault(err error) (column, message string) {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return member(syntax.JSONPointer), fmt.Sprintf("no JSON object on one line: %v (byte %d)", syntax.Err, syntax.ByteOffset+1)
	}
	semantic, ok := errors.AsType[*jsonv2.SemanticError](err)
	switch {
	case !ok:
		return "", "no JSON object on one line"
	case errors.Is(semantic.Err, jsonv2.ErrUnknownName):
		return member(semantic.JSONPointer), "no member of this name is known; there are id, type, tags, attributes, enabled"
	case semantic.JSONPointer == "":
		return "", "not a JSON object"
	}
	return member(semantic.JSONPointer), fmt.Sprintf("a JSON %s does not belong there", kindName(semantic.JSONKind))
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '{':
		return "object"
	case '[':
		return "array"
	}
	return "null"
}

// member writes a place as the columns of CSV are written: attributes.room.
func member(p jsontext.Pointer) string {
	var names []string
	for name := range p.Tokens() {
		names = append(names, name)
	}
	return clip(strings.Join(names, "."))
}

// clip shortens what is quoted back.
func clip(s string) string {
	const most = 64 // bytes
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
