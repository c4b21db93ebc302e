package state

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Inside the package: whole values, as RFC 7396 merges them, cannot be reached from outside, where a document is an object.

func tree(t testing.TB, text string) any {
	t.Helper()
	object, err := parseObject([]byte(`{"v":` + text + `}`))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return object["v"]
}

// TestMergeRFC7396 are the cases of the RFC's appendix A.
func TestMergeRFC7396(t *testing.T) {
	for _, test := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		if got := merge(tree(t, test[0]), tree(t, test[1])); !same(got, tree(t, test[2])) {
			t.Errorf("%s with %s is %s, want %s", test[0], test[1], appendTree(nil, got), test[2])
		}
	}
}

func TestDelta(t *testing.T) {
	for _, test := range [][3]string{
		{`{}`, `{"a":1}`, `{}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":1,"b":2}`, `{"a":1.0,"b":3}`, `{"b":2}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":1,"d":9}}`, `{"a":{"c":2}}`},
		{`{"a":{"b":1}}`, `{"a":7}`, `{"a":{"b":1}}`},
		{`{"a":7}`, `{"a":{"b":1}}`, `{"a":7}`},
		{`{"a":{}}`, `{}`, `{"a":{}}`},
		{`{"a":{}}`, `{"a":{"b":1}}`, `{}`},
		{`{"a":[1,2]}`, `{"a":[1,2]}`, `{}`},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[1,2]}`},
		{`{"a":"1"}`, `{"a":1}`, `{"a":"1"}`},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, `{"a":9007199254740993}`},
		{`{"a":1e2,"b":"\u0061"}`, `{"a":100,"b":"a"}`, `{}`},
		{`{"a":false}`, `{"a":null,"b":1}`, `{"a":false}`},
	} {
		desired, _ := tree(t, test[0]).(map[string]any)
		reported, _ := tree(t, test[1]).(map[string]any)
		if got := delta(desired, reported); string(encode(got)) != test[2] {
			t.Errorf("desired %s, reported %s: delta %s, want %s", test[0], test[1], encode(got), test[2])
		}
	}
}

// random makes a value as a document may hold it.
func random(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n < 3 && depth > 0:
		object := map[string]any{}
		for range r.IntN(5) {
			object[string(rune('a'+r.IntN(5)))] = random(r, depth-1)
		}
		return object
	case n == 3:
		return []any{number("1"), nil, map[string]any{"x": nil}}
	case n == 4:
		return []string{"", "x", "ä\n"}[r.IntN(3)]
	case n == 5:
		return r.IntN(2) == 0
	}
	return number([]string{"1", "1.0", "-2.5e3", "9007199254740993"}[r.IntN(4)])
}

// TestDiffsAndDeltas: a diff makes the one document into the other, a device that obeys the delta has none.
func TestDiffsAndDeltas(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	object := func() map[string]any {
		for {
			if o, ok := random(r, 4).(map[string]any); ok {
				return o
			}
		}
	}
	for range 20_000 {
		a, b := object(), object()
		if got := mergeObject(a, diff(a, b)); !same(got, b) {
			t.Fatalf("%s with the diff %s is %s, want %s", encode(a), encode(diff(a, b)), encode(got), encode(b))
		}
		if left := delta(a, mergeObject(b, delta(a, b))); len(left) > 0 {
			t.Fatalf("desired %s, reported %s: after obeying %s there is left %s", encode(a), encode(b), encode(delta(a, b)), encode(left))
		}
		if again, err := parseObject(encode(a)); err != nil || !same(again, a) {
			t.Fatalf("%s is not read back: %v", encode(a), err)
		}
	}
}

func TestTimes(t *testing.T) {
	r := record{Device: "d"}
	set := func(at int64, text string) {
		t.Helper()
		doc, times, err := r.Desired.trees()
		if err != nil {
			t.Fatal(err)
		}
		patch, _ := tree(t, text).(map[string]any)
		r.change(Desired, doc, mergeObject(doc, patch), times, time.UnixMilli(at), "otto")
	}
	set(1, `{"a":1,"b":{"c":2,"d":[1,2]}}`)
	set(2, `{"b":{"c":3}}`)
	set(3, `{"a":1.0,"b":{"d":null},"e":{}}`)
	if got, want := string(r.Desired.Times), `{"a":1,"b":{"c":2},"e":{}}`; got != want {
		t.Errorf("times %s, want %s", got, want)
	}
	set(4, `{"a":{"x":1},"b":7}`)
	if got, want := string(r.Desired.Times), `{"a":{"x":4},"b":4,"e":{}}`; got != want {
		t.Errorf("times %s, want %s", got, want)
	}
}

func TestHistoryIsBoundedOfEachHalf(t *testing.T) {
	r := record{Device: "d"}
	r.note(Change{Version: 1, Side: Desired, Patch: []byte(`{"a":1}`)})
	for v := range uint64(100) {
		r.note(Change{Version: v + 2, Side: Reported, Patch: []byte(`{"n":"` + strings.Repeat("x", maxKeptPatch) + `"}`)})
	}
	if len(r.History) != MaxChanges+1 || r.History[0].Version != 1 || r.History[1].Version != 102-MaxChanges {
		t.Errorf("%d changes, from %d, %d", len(r.History), r.History[0].Version, r.History[1].Version)
	}
	if last := r.History[MaxChanges]; last.Patch != nil || last.Bytes != maxKeptPatch+8 {
		t.Errorf("a large patch is kept as %+v", last)
	}
}

func TestBadObjects(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for text, want := range map[string]string{
		`[]`: "not an object", `1`: "not an object", `null`: "not an object", ``: "not JSON", `{`: "not JSON", `{"a":}`: "not JSON", `{"a":1}x`: "something follows",
		`{"a":1,"a":2}`: "/a: not JSON: duplicate", `{"":1}`: "name is empty", `{"b":{"$version":1}}`: "/b/$version: names that begin with $",
		`{"a":{"x\u0001":1}}`: "control character", `{"` + strings.Repeat("n", 129) + `":1}`: "129 bytes is longer than 128",
		`{"a":1e999}`: "/a: a number that no", `{"a/b":[{"$":1}]}`: "/a~1b/0/$: ", "{\"a\":\"\xff\"}": "not JSON",
		deep(17): fmt.Sprintf("deeper than %d", MaxDepth), `{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`: "deeper",
	} {
		if _, err := parseObject([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{`{}`, ` {"a":{"b":[null,{"c":null}]}} `, deep(16), `{"` + strings.Repeat("n", 128) + `":""}`} {
		if _, err := parseObject([]byte(text)); err != nil {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func TestDesiredOf(t *testing.T) {
	for text, want := range map[string]string{`{}`: `{}`, `{"desired":{"a":1}}`: `{"a":1}`, `{"desired":null}`: `null`} {
		if got, err := DesiredOf([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{`[1]`: "not an object", `{"reported":{}}`: "/reported: only desired", ``: "not JSON", `{"desired":{}}1`: "something follows", `{"desired":{},"desired":{}}`: "duplicate"} {
		if _, err := DesiredOf([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse: what is taken is written and read back the same, whatever comes.
func FuzzParse(f *testing.F) {
	for _, text := range []string{`{"a":{"b":[1,null,"x"]},"c":1e5}`, `{"a":1,"a":2}`, `{`, `{"\ud800":1}`, `{"a":-0}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		object, err := parseObject(text)
		if err != nil {
			return
		}
		again, err := parseObject(encode(object))
		if err != nil || !same(object, again) {
			t.Fatalf("%q is written as %s: %v", text, encode(object), err)
		}
		_, _ = DesiredOf(text)
	})
}
