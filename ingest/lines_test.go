package ingest

import (
	"math"
	"testing"

	"telemetryhub/wire"
)

func TestLinesHoldNastyNamesAndTexts(t *testing.T) {
	float := func(name string, n float64) wire.Field {
		return wire.Field{Name: []byte(name), Kind: wire.Float, Number: n}
	}
	text := func(name, value string) wire.Field {
		return wire.Field{Name: []byte(name), Kind: wire.String, Text: []byte(value)}
	}
	for _, c := range []struct {
		name, measurement string
		fields            []wire.Field
		want              string
	}{
		{"default measurement", "", []wire.Field{float("Temp", 20)}, `telemetry,device=a.b:c-1_2 Temp=20 -5`},
		{"all kinds", "m", []wire.Field{float("f", -0.1), text("s", "x"), {Name: []byte("t"), Kind: wire.True}, {Name: []byte("u"), Kind: wire.False}}, `m,device=a.b:c-1_2 f=-0.1,s="x",t=true,u=false -5`},
		{"separators in names", "a b,c=d", []wire.Field{float("x y,z=w", 1)}, `a\ b\,c=d,device=a.b:c-1_2 x\ y\,z\=w=1 -5`},
		{"a measurement like tags", "m,device=other f=1", []wire.Field{float("g", 2)}, `m\,device=other\ f=1,device=a.b:c-1_2 g=2 -5`},
		{"a name like a comment", "m", []wire.Field{float("#x", 1)}, `m,device=a.b:c-1_2 #x=1 -5`},
		{"quotes in names", "m", []wire.Field{float(`a"b`, 1), float(`c"d`, 2)}, `m,device=a.b:c-1_2 a"b=1,c"d=2 -5`},
		{"unicode", "größe", []wire.Field{text("Straße", "grün ☃ \u2028")}, "größe,device=a.b:c-1_2 Straße=\"grün ☃ \u2028\" -5"},
		{"texts that end a string", "m", []wire.Field{text("s", `"`), text("b", `\`), text("q", `\"`), text("e", "")}, `m,device=a.b:c-1_2 s="\"",b="\\",q="\\\"",e="" -5`},
		{"line breaks in a text", "m", []wire.Field{text("s", "a\nm,device=x f=1\r\n\t")}, "m,device=a.b:c-1_2 s=\"a\nm,device=x f=1\r\n\t\" -5"},
		{"numbers at the ends", "m", []wire.Field{float("a", math.MaxFloat64), float("b", math.SmallestNonzeroFloat64), float("c", math.Copysign(0, -1)), float("d", 1<<53+1)}, `m,device=a.b:c-1_2 a=1.7976931348623157e+308,b=5e-324,c=-0,d=9.007199254740992e+15 -5`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := appendLine([]byte("before\n"), []byte("a.b:c-1_2"), []byte(c.measurement), &wire.Reading{Fields: c.fields}, nil, -5)
			if want := "before\n" + c.want + "\n"; string(got) != want {
				t.Fatalf("got  %q\nwant %q", got, want)
			}
		})
	}
}
