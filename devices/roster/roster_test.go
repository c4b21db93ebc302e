package roster_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"telemetryhub/devices/roster"
)

func text(lines []roster.Line) string {
	var b strings.Builder
	for _, l := range lines {
		data, err := json.Marshal(l.Entry)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%d %s\n", l.Number, data)
	}
	return b.String()
}

func TestReadCSV(t *testing.T) {
	lines, found := roster.ReadCSV([]byte("\xef\xbb\xbfid,tags,attr:room,enabled,type,attributes.a.b\r\n" +
		"d1,a; b,\"Hall, \"\"north\"\"\nor south\",TRUE,pump,x\r\n\r\nd2,,,,,\nd3,\"[\"\"a;b\"\"]\",,false,,\n"))
	want := `2 {"id":"d1","type":"pump","tags":["a","b"],"attributes":{"a.b":"x","room":"Hall, \"north\"\nor south"},"enabled":true}
5 {"id":"d2","type":null,"tags":null,"attributes":null,"enabled":null}
6 {"id":"d3","type":null,"tags":["a;b"],"attributes":null,"enabled":false}
`
	if got := text(lines); got != want || found != nil {
		t.Errorf("got %s%v, want %s", got, found, want)
	}
}

func TestReadLines(t *testing.T) {
	lines, found := roster.ReadLines([]byte("{\"id\":\"d1\",\"tags\":[],\"attributes\":{\"x\":null}}\n\n {\"id\":\"d2\",\"enabled\":false}"))
	want := `1 {"id":"d1","type":null,"tags":[],"attributes":{"x":null},"enabled":null}
3 {"id":"d2","type":null,"tags":null,"attributes":null,"enabled":false}
`
	if got := text(lines); got != want || found != nil {
		t.Errorf("got %s%v, want %s", got, found, want)
	}
}

func TestFaultsAreToldByLineAndColumn(t *testing.T) {
	read := map[string]func([]byte) ([]roster.Line, []roster.Fault){"csv": roster.ReadCSV, "jsonl": roster.ReadLines}
	for _, c := range []struct{ form, list, want string }{
		{"csv", "", `1 "" the list is empty`},
		{"csv", "type,id,colour,id\n", `1 "colour" no column|1 "id" stands there twice`},
		{"csv", "type\nx\n", `1 "id" is missing`},
		{"csv", "id,enabled,tags\na,perhaps,\nb,true\nc,,[x\n", `2 "enabled" "perhaps" is neither|3 "" 2 cells; the first line names 3|4 "tags" begins with [`},
		{"csv", "id\n\xff\n", `2 "id" not UTF-8`},
		{"csv", "id,type\na,b\nc,\"d\n", `3 "" no CSV`},
		{"csv", "id,attributes.\n", `1 "attributes." no column`},
		{"jsonl", "\n\n", `1 "" the list is empty`},
		{"jsonl", "{\"id\":\"a\"}\n{\"id\":5}\n[]\n{\"id\":\"a\",\"id\":\"b\"}\n{\"ID\":\"a\"}\n{\"id\":\"a\",\"attributes\":{\"x\":[1]}}\n{", `2 "id" a JSON number|3 "" not a JSON object|4 "id" no JSON object|5 "ID" no member|6 "attributes.x" a JSON array|7 "" no JSON`},
		{"csv", "id\n" + strings.Repeat("a\n", 10_001), `10002 "" more than 10000 devices`},
		{"jsonl", strings.Repeat("{}\n", 10_001), `10001 "" more than 10000 devices`},
	} {
		_, found := read[c.form]([]byte(c.list))
		want := strings.Split(c.want, "|")
		if len(found) != len(want) {
			t.Errorf("%s %.60q: %v", c.form, c.list, found)
			continue
		}
		for i, f := range found {
			if got := fmt.Sprintf("%d %q %s", f.Line, f.Column, f.Message); !strings.HasPrefix(got, want[i]) {
				t.Errorf("%s %.60q: %s; want %s", c.form, c.list, got, want[i])
			}
		}
	}
	if _, found := roster.ReadLines([]byte(strings.Repeat("x\n", 5000))); len(found) != 1000 {
		t.Errorf("%d faults of a list of nothing else", len(found))
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("id,tags,attr:x\nd1,a;b,\"y\"\n"))
	f.Add([]byte(`{"id":"d1","tags":["a"],"attributes":{"x":null}}`))
	f.Fuzz(func(t *testing.T, list []byte) {
		for form, read := range map[string]func([]byte) ([]roster.Line, []roster.Fault){"csv": roster.ReadCSV, "jsonl": roster.ReadLines} {
			lines, found := read(list)
			if len(lines) == 0 && len(found) == 0 && form == "jsonl" {
				t.Errorf("%s: nothing, and nothing wrong", form)
			}
			last := 0
			for _, l := range lines {
				if l.Number <= last {
					t.Errorf("%s: line %d after %d", form, l.Number, last)
				}
				last = l.Number
			}
		}
	})
}
