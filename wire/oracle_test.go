package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
	"unicode/utf8"

	"telemetryhub/wire"
)

// oracle says by encoding/json what the fields of a values object are, and whether it is sound by the rules of the
// protocol. It is written to be read, not to be fast, and shares nothing with the decoder.
func oracle(values []byte) (fields map[string]any, sound bool) {
	dec := json.NewDecoder(bytes.NewReader(values))
	dec.UseNumber()
	var root map[string]any
	if dec.Decode(&root) != nil {
		return nil, false
	}
	fields = map[string]any{}
	sound = true
	var visit func(prefix string, depth int, o map[string]any)
	visit = func(prefix string, depth int, o map[string]any) {
		for name, value := range o {
			name = prefix + name
			if value == nil {
				continue
			}
			if inner, ok := value.(map[string]any); ok {
				sound = sound && depth < wire.MaxDepth && len(name) <= wire.MaxFieldName
				if sound {
					visit(name+".", depth+1, inner)
				}
				continue
			}
			sound = sound && soundName(name)
			switch v := value.(type) {
			case json.Number:
				n, err := strconv.ParseFloat(v.String(), 64)
				sound = sound && err == nil
				value = n
			case string:
				sound = sound && len(v) <= wire.MaxString
			case []any:
				sound = false
			}
			_, twice := fields[name]
			sound = sound && !twice
			fields[name] = value
		}
	}
	visit("", 1, root)
	return fields, sound && len(fields) > 0 && len(fields) <= wire.MaxFields
}

func soundName(name string) bool {
	for _, c := range []byte(name) {
		if c < ' ' || c == 0x7f || c == '\\' {
			return false
		}
	}
	reserved := map[string]bool{"time": true, "_time": true, "_field": true, "_measurement": true, "device": true}
	return name != "" && len(name) <= wire.MaxFieldName && !reserved[name]
}

// wantFields fails unless r has the fields that encoding/json reads from values, or is flawed where they are not sound.
func wantFields(t *testing.T, r wire.Reading, values []byte) {
	t.Helper()
	want, sound := oracle(values)
	if sound != (r.Flaw == "") {
		t.Fatalf("%.500q: flaw %q, but sound is %v", values, r.Flaw, sound)
	}
	if !sound {
		return
	}
	got := map[string]any{}
	for _, f := range r.Fields {
		switch f.Kind {
		case wire.Float:
			got[string(f.Name)] = f.Number
		case wire.String:
			got[string(f.Name)] = string(f.Text)
		case wire.True, wire.False:
			got[string(f.Name)] = f.Kind == wire.True
		}
	}
	if len(got) != len(r.Fields) || !maps.Equal(got, want) {
		t.Fatalf("%.500q:\ngot  %v\nwant %v", values, got, want)
	}
}

// writer writes random JSON: with white space anywhere, names and texts escaped in every way, numbers in every form.
type writer struct {
	*rand.Rand
	bytes.Buffer
}

func (w *writer) one(of ...string) { w.WriteString(of[w.IntN(len(of))]) }

func (w *writer) space() {
	if w.IntN(4) == 0 {
		w.one(" ", "\n", "\t\r", "  ")
	}
}

func (w *writer) text(most int) {
	w.WriteByte('"')
	for range w.IntN(most + 1) {
		switch w.IntN(8) {
		case 0:
			w.one(`\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`)
		case 1:
			fmt.Fprintf(w, `\u%04x`, w.IntN(0xd800))
		case 2:
			fmt.Fprintf(w, `\ud8%02X\uDC%02x`, w.IntN(256), w.IntN(256))
		case 3:
			w.one("ä", "温", "🌡", "{", "}", "[", "]", ",", ":", "\u2028", "\x7f")
		default:
			w.WriteByte("abcdefgh .=,_-0"[w.IntN(15)])
		}
	}
	w.WriteByte('"')
}

func (w *writer) number() {
	switch w.IntN(5) {
	case 0:
		fmt.Fprintf(w, "%d", w.Int64()-1<<62)
	case 1:
		fmt.Fprintf(w, "%v", w.NormFloat64())
	case 2:
		fmt.Fprintf(w, "%.3E", w.NormFloat64()*1e300)
	case 3:
		w.one("0", "-0", "0.0", "1e-999", "1e308", "1e309", "-1E+400", "9007199254740993", "0.1", "1e0")
	default:
		fmt.Fprintf(w, "%de%d", w.IntN(1000), w.IntN(600)-300)
	}
}

// values writes an object with unlike names; depth bounds its nesting. A plain one has only simple names and no lists.
func (w *writer) values(depth int, plain bool) {
	w.WriteByte('{')
	seen := map[string]bool{}
	members := 0
	for range w.IntN(6) {
		mark := w.Len()
		w.space()
		if members > 0 {
			w.WriteByte(',')
			w.space()
		}
		from := w.Len()
		if plain {
			w.one(`"a"`, `"b"`, `"\u0063"`, `"d\u00e4"`, `"e f"`, `"温"`, `"\"q\""`)
		} else {
			w.text(4)
		}
		var name string
		if json.Unmarshal(w.Bytes()[from:], &name) != nil || seen[name] {
			w.Truncate(mark)
			continue
		}
		seen[name] = true
		members++
		w.space()
		w.WriteByte(':')
		w.space()
		w.value(depth, plain)
	}
	w.space()
	w.WriteByte('}')
}

func (w *writer) value(depth int, plain bool) {
	switch w.IntN(8) {
	case 0:
		w.one("true", "false", "null")
	case 1, 2:
		w.text(12)
	case 3:
		if depth > 0 {
			w.values(depth-1, plain)
			return
		}
		w.number()
	case 4:
		if !plain && w.IntN(4) == 0 {
			w.one("[]", "[ ]", `[1,"]",{"a":[{}]}]`)
			return
		}
		w.number()
	default:
		w.number()
	}
}

func TestFieldsAreThoseOfEncodingJSON(t *testing.T) {
	const rounds = 20_000
	w := writer{Rand: rand.New(rand.NewPCG(1, 2))}
	var d wire.Decoder
	var out wire.Telemetry
	good := 0
	for round := range rounds {
		w.Reset()
		w.values(3, round%2 == 0)
		values := bytes.Clone(w.Bytes())
		if !utf8.Valid(values) || !json.Valid(values) {
			t.Fatalf("the writer wrote %q", values)
		}
		if err := decodeParams(t, &d, &out, `{"readings":[{"values":`+string(values)+`}]}`); err != nil {
			t.Fatalf("%q: %v", values, err)
		}
		wantFields(t, out.Readings[0], values)
		if out.Readings[0].Flaw == "" {
			good++
		}
	}
	if good < rounds/4 || good > rounds*3/4 {
		t.Errorf("%d of %d were sound: the writer is not a fair one", good, rounds)
	}
}
