package wire_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"telemetryhub/wire"
)

const goldenDialects = "testdata/dialects"

// dialectOf returns the dialect that a golden file is in, by its name: NAME.json, .cbor, .senml.json, .senml.cbor.
func dialectOf(path string) (wire.Dialect, bool) {
	name := filepath.Base(path)
	return wire.Dialect{CBOR: strings.HasSuffix(name, ".cbor"), SenML: strings.Contains(name, ".senml.")}, !strings.HasSuffix(name, ".want")
}

// readGolden returns the content of a golden file; CBOR stands there as hex, with comments after #.
func readGolden(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(path, ".cbor") {
		return text
	}
	return fromHex(t, string(text))
}

func fromHex(t testing.TB, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(code), ""))
	}
	data, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return data
}

// goldenDevice is the device that has sent them: the one of RFC 8428's examples.
const goldenDevice = "10e2073a01080063"

func showUnits(t *wire.Telemetry) string {
	var b strings.Builder
	for _, u := range t.Units {
		fmt.Fprintf(&b, " %s:%s", u.Field, u.Symbol)
	}
	return b.String()
}

// Each message stands there in several dialects, and means what NAME.want says, whatever it is written in. Of SenML a
// line "units" says what it says beyond that.
func TestDialectsMeanTheSame(t *testing.T) {
	wants, err := filepath.Glob(filepath.Join(goldenDialects, "*.want"))
	if err != nil || len(wants) < 8 {
		t.Fatalf("%d golden files, %v", len(wants), err)
	}
	seen := map[wire.Dialect]int{}
	var d wire.Decoder // one for all: nothing of one may reach the next
	var out wire.Telemetry
	for _, path := range wants {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, units, _ := strings.Cut(strings.TrimSpace(string(text)), "\nunits")
		want = strings.ReplaceAll(want, "\n", "")
		files, err := filepath.Glob(strings.TrimSuffix(path, "want") + "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			dialect, ok := dialectOf(file)
			if !ok {
				continue
			}
			t.Run(filepath.Base(file), func(t *testing.T) {
				seen[dialect]++
				if err := d.DecodePayloadAs(readGolden(t, file), dialect, goldenDevice, &out); err != nil {
					t.Fatal(err)
				}
				if got := show(&out); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if got := showUnits(&out); dialect.SenML && got != units {
					t.Errorf("units are %q, want %q", got, units)
				}
			})
		}
	}
	for _, name := range wire.Subprotocols() {
		if dialect, ok := wire.DialectOfSubprotocol(name); !ok || seen[dialect] < 4 {
			t.Errorf("%d golden files are in %s", seen[dialect], name)
		}
	}
}

func TestDialectNames(t *testing.T) {
	for i, name := range wire.MediaTypes() {
		of, ok := wire.DialectOfMediaType(strings.ToUpper(name) + "; charset=utf-8")
		subprotocol, known := wire.DialectOfSubprotocol(wire.Subprotocols()[i])
		if !ok || !known || of != subprotocol {
			t.Errorf("%s is %+v, %v; %s is %+v, %v", name, of, ok, wire.Subprotocols()[i], subprotocol, known)
		}
	}
	for _, name := range []string{"", "mqtt", "hub.v2+json", "HUB.V1+JSON", "json"} {
		if _, ok := wire.DialectOfSubprotocol(name); ok {
			t.Errorf("%q is a dialect", name)
		}
	}
	if _, ok := wire.DialectOfMediaType("application/xml"); ok {
		t.Error("application/xml is a dialect")
	}
}

// What MQTT 3.1.1 brings bears no name.
func TestPayloadsTellTheirDialect(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(goldenDialects, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		dialect, ok := dialectOf(file)
		if !ok {
			continue
		}
		payload := readGolden(t, file)
		if got := wire.DialectOfPayload(payload); got.CBOR != dialect.CBOR || !got.SenML {
			t.Errorf("%s is taken for %+v", file, got)
		}
	}
	if wire.DialectOfPayload(nil).CBOR {
		t.Error("nothing is taken for CBOR")
	}
}

// A decoder without its own device's name, and one that was used before, are as good as new.
func TestDecodersKeepNothing(t *testing.T) {
	var d wire.Decoder
	var out wire.Telemetry
	with := []byte(`[{"bn":"x:","bt":1458031648,"bu":"Cel","bv":5,"bs":7,"bver":9,"n":"a","v":1}]`)
	without := []byte(`[{"n":"a","v":1}]`)
	senML := wire.Dialect{SenML: true}
	for range 2 {
		if err := d.DecodePayloadAs(with, senML, "", &out); err != nil || show(&out) != "[ts=1458031648000 x:a=6 x:a_sum=7]" || showUnits(&out) != " x:a:Cel" {
			t.Errorf("%s %s, %v", show(&out), showUnits(&out), err)
		}
		if err := d.DecodePayloadAs(without, senML, "", &out); err != nil || show(&out) != "[a=1]" || len(out.Units) > 0 {
			t.Errorf("%s %s, %v", show(&out), showUnits(&out), err)
		}
	}
	if !bytes.Equal(without, []byte(`[{"n":"a","v":1}]`)) {
		t.Error("the frame was changed")
	}
}
