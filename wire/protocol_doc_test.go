package wire_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"telemetryhub/wire"
)

const protocolPage = "../docs/protocol.md"

// examples returns the lines of the page's fenced blocks that are marked so, by their line numbers.
func examples(t *testing.T, mark string) map[int]string {
	t.Helper()
	file, err := os.Open(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	found := map[int]string{}
	inside := false
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "```"):
			inside = line == "```"+mark
		case inside:
			found[n] = line
		}
	}
	if err := lines.Err(); err != nil || len(found) == 0 {
		t.Fatalf("no examples marked %q in %s, %v", mark, protocolPage, err)
	}
	return found
}

// wantSound fails unless all readings can be stored.
func wantSound(t *testing.T, out *wire.Telemetry) {
	t.Helper()
	for i, r := range out.Readings {
		if r.Flaw != "" {
			t.Errorf("reading %d has the flaw %s", i, r.Flaw)
		}
	}
}

// A device's author copies the page's frames: each must be what the hub takes.
func TestProtocolPageFramesOfDevices(t *testing.T) {
	seen := map[string]bool{}
	for line, text := range examples(t, "json device→hub") {
		t.Run(fmt.Sprint("line ", line), func(t *testing.T) {
			var d wire.Decoder
			var out wire.Telemetry
			f, err := d.DecodeFrame([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			what := string(f.Method)
			switch {
			case f.Kind == wire.KindTelemetry:
				what, err = "bare", d.DecodeBare(f.Params, &out)
			case f.Kind == wire.KindAnswer:
				what = "answer"
				_, err = f.Answer()
			case what == "hello":
				_, err = wire.DecodeHello(f.Params)
			case what == "telemetry":
				err = d.DecodeTelemetry(f.Params, &out)
			case what == "event":
				err = d.DecodeEvent(f.Params, &out)
			case what == "state":
				_, err = wire.DecodeState(f.Params)
			case what == "progress":
				_, err = wire.DecodeProgress(f.Params)
			case what == "credentials":
				_, err = wire.DecodeCredentials(f.Params)
			default:
				t.Errorf("the hub knows no method %q", what)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSound(t, &out)
			seen[what] = true
		})
	}
	for _, what := range []string{"hello", "telemetry", "bare", "event", "state", "progress", "answer", "credentials"} {
		if !seen[what] {
			t.Errorf("the page has no example of %s", what)
		}
	}
}

func TestProtocolPagePayloads(t *testing.T) {
	for line, text := range examples(t, "json payload") {
		var d wire.Decoder
		var out wire.Telemetry
		var err error
		switch {
		case strings.Contains(text, `"result"`):
			_, err = d.DecodeAnswer([]byte(text))
		case strings.Contains(text, `"reported"`):
			_, err = d.DecodeStatePayload([]byte(text), wire.Dialect{})
		case strings.Contains(text, `"name"`):
			err = d.DecodeEvent([]byte(text), &out)
		default:
			err = d.DecodePayload([]byte(text), &out)
		}
		if err != nil {
			t.Errorf("line %d: %v", line, err)
		}
		wantSound(t, &out)
	}
}

func TestProtocolPageDialects(t *testing.T) {
	lines := examples(t, "cbor device→hub")
	var text strings.Builder
	for _, line := range slices.Sorted(maps.Keys(lines)) {
		text.WriteString(lines[line] + "\n")
	}
	var d wire.Decoder
	var out wire.Telemetry
	const want = `boot=k3Jx0aQ9 seq=42 [ts=1458031648545 Temp=20.48]`
	if err := decodeAs(&d, &out, fromHex(t, text.String()), asCBOR); err != nil || show(&out) != want {
		t.Errorf("the example in CBOR is %s, %v", show(&out), err)
	}
	for line, text := range examples(t, "json senml") {
		if err := decodeAs(&d, &out, []byte(text), asSenML); err != nil || strings.Contains(show(&out), goldenDevice) {
			t.Errorf("line %d: %s, %v", line, show(&out), err)
		}
		wantSound(t, &out)
	}
}

// What the page shows of the hub has no member that the hub does not write.
func TestProtocolPageFramesOfTheHub(t *testing.T) {
	for line, text := range examples(t, "json hub→device") {
		var frame struct {
			Version string `json:"jsonrpc"`
			ID      any    `json:"id"`
			Method  string `json:"method"`
			Params  json.RawMessage
			Result  json.RawMessage
			Error   *struct {
				Code    int                     `json:"code"`
				Message string                  `json:"message"`
				Data    struct{ Reason string } `json:"data"`
			} `json:"error"`
			Expires int64 `json:"expires"`
			TTL     int64 `json:"ttl_ms"`
			Attempt int   `json:"attempt"`
		}
		strictly := func(text []byte, v any) {
			dec := json.NewDecoder(strings.NewReader(string(text)))
			dec.DisallowUnknownFields()
			if err := dec.Decode(v); err != nil {
				t.Errorf("line %d: %v", line, err)
			}
		}
		strictly([]byte(text), &frame)
		if frame.Version != "2.0" {
			t.Errorf("line %d: the hub writes jsonrpc", line)
		}
		switch {
		case frame.Method == "hub.ack":
			strictly(frame.Params, &struct {
				Boot       string
				Seq, Count uint64
			}{})
		case frame.Method == "hub.notice":
			strictly(frame.Params, &struct {
				Code, Message, Of string
				Seq, From, To     uint64
				Limit, Value      uint64
				RetryAfter        int64 `json:"retry_after_ms"`
			}{})
		case frame.Method == "hub.cancel":
			var asked struct{ ID string }
			strictly(frame.Params, &asked)
			if ours := string(wire.AppendCancel(nil, asked.ID)); text != ours {
				t.Errorf("line %d: the hub writes %s", line, ours)
			}
		case frame.Method == wire.MethodProbe:
			if ours := string(wire.AppendProbe(nil)); text != ours {
				t.Errorf("line %d: the hub writes %s", line, ours)
			}
		case frame.Method == "hub.state":
			strictly(frame.Params, &wire.State{})
		case frame.Method == "hub.credentials":
			id, _ := frame.ID.(string)
			if ours := string(wire.AppendRequest(nil, id, frame.Method, shownCredentials(t, frame.Params))); text != ours {
				t.Errorf("line %d: the hub writes %s", line, ours)
			}
		case strings.Contains(string(frame.Result), `"token"`):
			if ours := string(shownCredentials(t, frame.Result)); ours != string(frame.Result) {
				t.Errorf("line %d: the hub writes %s", line, ours)
			}
		case frame.Method != "" && frame.Attempt == 0:
			t.Errorf("line %d: a command bears attempt", line)
		case len(frame.Result) > 2:
			strictly(frame.Result, &wire.Welcome{})
		}
	}
}

// shownCredentials writes what the page shows as the hub would.
func shownCredentials(t *testing.T, text []byte) []byte {
	t.Helper()
	var shown struct {
		Token   string
		Expires int64
		TTL     int64 `json:"ttl_ms"`
	}
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Error(err)
	}
	return wire.AppendCredentials(nil, wire.Credentials{
		Token: shown.Token, Expires: time.UnixMilli(shown.Expires), TTL: time.Duration(shown.TTL) * time.Millisecond,
	})
}

// The page's tables name every code and reason, and every limit with its value.
func TestProtocolPageNamesEverything(t *testing.T) {
	text, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for name, literal := range constants(t, "codes.go") {
		switch {
		case strings.HasPrefix(name, "Reason"):
			literal = "`" + strings.Trim(literal, `"`) + "`"
		case strings.HasPrefix(name, "Code"):
			literal = "| -" + literal + " |"
		case strings.HasPrefix(name, "Close"):
		default:
			continue
		}
		if !strings.Contains(page, literal) {
			t.Errorf("%s: the page does not say %s", name, literal)
		}
	}
	for _, limit := range []int{
		wire.DefaultMaxFrame, wire.HardMaxFrame, wire.MaxDeviceID, wire.MaxSeq, wire.MaxBoot, wire.MaxMethod, wire.MaxFrameID, wire.MaxMeasurement,
		wire.MaxFieldName, wire.MaxString, wire.MaxFields, wire.MaxReadings, wire.MaxDepth, wire.MaxUnit, wire.MaxNesting,
	} {
		if !strings.Contains(page, fmt.Sprint(" ", limit)) {
			t.Errorf("the page does not say %d", limit)
		}
	}
}

// constants returns the exported constants of a file that have a literal, without a minus.
func constants(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		value := spec.Values[0]
		if minus, ok := value.(*ast.UnaryExpr); ok {
			value = minus.X
		}
		if literal, ok := value.(*ast.BasicLit); ok {
			found[spec.Names[0].Name] = literal.Value
		}
		return true
	})
	if len(found) < 20 {
		t.Fatalf("%d constants in %s", len(found), path)
	}
	return found
}
