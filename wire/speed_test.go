package wire_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"telemetryhub/wire"
)

// The message of FACTS: four fields, a number, a time.
const fourFields = `{"jsonrpc":"2.0","method":"telemetry","params":{"boot":"k3Jx0aQ9","seq":123456,"ts":1458031648545,"values":{"Temp":20.48,"RH":42.332,"Light1":185.71,"Light2":492.2}}}`

func tenReadings() string {
	var readings []string
	for i := range 10 {
		readings = append(readings, fmt.Sprintf(`{"ts":%d,"values":{"Temp":20.%d,"RH":42.332,"Light1":185.71,"Light2":492.2}}`, 1458031648545+i, i))
	}
	return `{"method":"telemetry","params":{"boot":"k3Jx0aQ9","seq":123456,"readings":[` + strings.Join(readings, ",") + `]}}`
}

var speedFrames = []struct{ name, text string }{
	{"four fields", fourFields},
	{"ten readings", tenReadings()},
	{"bare", `{"Temp":20.48,"RH":42.332,"Light1":185.71,"Light2":492.2}`},
	{"texts and nesting", `{"method":"telemetry","params":{"seq":1,"values":{"state":{"on":true,"mode":"a\"b\n"},"T\u00e9mp":20.5,"a.b":1}}}`},
	{"escapes everywhere", `{"\u006dethod":"tele\u006detry","params":{"\u0073eq":1,"v\u0061lues":{"state":{"T\u00e9mp":20.5,"mode":"a\"b\n"}}}}`},
	{"a bad reading", `{"method":"telemetry","params":{"seq":1,"readings":[{"values":{"a":1}},{"values":{"a":[1]}},7,{"values":{}}]}}`},
}

// fourFieldsSenML is the same in SenML; a pack bears no number.
const fourFieldsSenML = `[{"bn":"10e2073a01080063:","bt":1458031648.545,"n":"Temp","u":"Cel","v":20.48},{"n":"RH","u":"%RH","v":42.332},{"n":"Light1","v":185.71},{"n":"Light2","v":492.2}]`

// speedFrame is a message in one dialect.
type speedFrame struct {
	name    string
	dialect wire.Dialect
	data    []byte
}

// allSpeedFrames are those of JSON, and the same in the other dialects.
func allSpeedFrames(t testing.TB) (all []speedFrame) {
	for _, frame := range speedFrames {
		all = append(all, speedFrame{frame.name, wire.Dialect{}, []byte(frame.text)}, speedFrame{frame.name + " cbor", asCBOR, toCBOR(t, []byte(frame.text))})
	}
	labels := []byte(fourFieldsSenML)
	for label, number := range map[string]string{"bn": "21", "bt": "22", "n": "00", "u": "01", "v": "02"} {
		labels = bytes.ReplaceAll(labels, []byte(`"`+label+`":`), []byte(`"#`+number+`":`))
	}
	pack := wire.AppendCBOR(nil, labels)
	for _, number := range []string{"00", "01", "02", "21", "22"} {
		pack = bytes.ReplaceAll(pack, append([]byte{0x63}, "#"+number...), fromHex(t, number))
	}
	return append(all, speedFrame{"senml", asSenML, []byte(fourFieldsSenML)}, speedFrame{"senml cbor", asSenMLCBOR, pack})
}

// Thousands of devices send at once: what each message allocates, the collector pays for.
func TestDecodingAllocatesNothing(t *testing.T) {
	for _, frame := range allSpeedFrames(t) {
		if strings.Contains(frame.name, "nesting") {
			continue // a name with a dot beside a nested object takes a map
		}
		var d wire.Decoder
		var out wire.Telemetry
		if got := testing.AllocsPerRun(200, func() {
			if err := decodeAs(&d, &out, frame.data, frame.dialect); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations", frame.name, got)
		}
	}
}

func TestEncodingAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 1024)
	refusal := &wire.Error{Code: wire.CodeParse, Message: "not JSON", Reason: wire.ReasonBadJSON, Limit: 1}
	if got := testing.AllocsPerRun(200, func() {
		dst = wire.AppendAck(dst[:0], "k3Jx0aQ9", 123456)
		dst = wire.AppendAckCount(dst[:0], 7)
		dst = wire.AppendResult(dst[:0], []byte("17"), []byte("{}"))
		dst = wire.AppendError(dst[:0], []byte("17"), refusal)
		json := len(dst)
		dst = wire.AppendCBOR(dst, dst[:json])
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// A frame's size, not what stands in it, may decide what it costs: a long name around many members once took a
// gigabyte for a frame of 96 KB.
func TestDecodingTakesNoMoreMemoryThanTheFrameIsLong(t *testing.T) {
	var members []string
	for i := range 3_000 {
		members = append(members, fmt.Sprintf(`"%d":null,"o%d":{}`, i, i))
	}
	for name, text := range map[string]string{
		"a long name around many": `{"` + strings.Repeat("n", 30_000) + `":{` + strings.Join(members, ",") + `}}`,
		"nested objects":          `{"a":` + strings.Repeat(`{"a":`, 5_000) + "1" + strings.Repeat("}", 5_001),
		"nested lists":            `{"a":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "}",
		"bad readings":            `{"readings":[` + strings.Repeat(`{"values":{"a":[]}},`, 3_000) + `1]}`,
		"bad elements":            `{"readings":[` + strings.Repeat(`1,`, 9_000) + `1]}`,
		"escaped names":           `{"` + strings.Repeat(`\u0061`, 10_000) + `":1}`,
		"escaped members":         `{"values":{"a":1},"` + strings.Repeat(`\u0061`, 10_000) + `":1}`,
		"a long text":             `{"a":"` + strings.Repeat(`\n`, 30_000) + `"}`,
	} {
		data := []byte(text)
		var d wire.Decoder
		var out wire.Telemetry
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := d.DecodePayload(data, &out)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The worst is a reading of two bytes: 88 of memory, and up to four times that while the slice grows.
		if took := (after.TotalAlloc - before.TotalAlloc) / uint64(len(data)); took > 200 {
			t.Errorf("%s: %d bytes of memory for each byte of the frame", name, took)
		}
		// In CBOR each is of half the size, and it is rewritten.
		data = wire.AppendCBOR(nil, data)
		var fresh wire.Decoder
		var into wire.Telemetry
		runtime.ReadMemStats(&before)
		_ = fresh.DecodePayloadAs(data, asCBOR, "", &into) // nested too deeply, some of them
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) / uint64(len(data)); took > 500 {
			t.Errorf("%s: %d bytes of memory for each byte of the frame in CBOR", name, took)
		}
	}
}

// Many small records share their base fields.
func TestPacksTakeNoMoreMemoryThanTheFrameIsLong(t *testing.T) {
	for name, pack := range map[string]string{
		"a long base name":           `[{"bn":"` + strings.Repeat("n", 30_000) + `"}` + strings.Repeat(`,{"v":1}`, 4_000) + `]`,
		"a base name":                `[{"bn":"` + strings.Repeat(`\"`, 300) + `"}` + strings.Repeat(`,{"v":1}`, 8_000) + `]`,
		"a long unit":                `[{"bu":"` + strings.Repeat("n", 30_000) + `"}` + strings.Repeat(`,{"v":1}`, 4_000) + `]`,
		"a base name of bad records": `[{"bn":"` + strings.Repeat("n", 300) + `"}` + strings.Repeat(`,{"n":1}`, 8_000) + `]`,
		"control characters":         `[{"bn":"` + strings.Repeat(`\u0001`, 300) + `"}` + strings.Repeat(`,{"v":1}`, 8_000) + `]`,
		"sums":                       `[{"bs":1,"bv":1}` + strings.Repeat(`,{"t":1}`, 8_000) + `]`,
	} {
		var d wire.Decoder
		var out wire.Telemetry
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := d.DecodePayloadAs([]byte(pack), asSenML, "d1", &out)
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) / uint64(len(pack)); err != nil || took > 1000 {
			t.Errorf("%s: %d bytes of memory for each byte of the frame, %v", name, took, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, frame := range allSpeedFrames(b) {
		b.Run(strings.ReplaceAll(frame.name, " ", "_"), func(b *testing.B) {
			var d wire.Decoder
			var out wire.Telemetry
			b.SetBytes(int64(len(frame.data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := decodeAs(&d, &out, frame.data, frame.dialect); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(out.Readings)), "ns/reading")
		})
	}
}

func BenchmarkAppendAck(b *testing.B) {
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = wire.AppendAck(dst[:0], "k3Jx0aQ9", 123456)
	}
	if !bytes.HasSuffix(dst, []byte("}}")) {
		b.Fatal(string(dst))
	}
}
