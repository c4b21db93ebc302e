package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/websocket"

	"telemetryhub/cmd/device-sim/readings"
	"telemetryhub/wire"
)

func testOutbox(batch, window int) *outbox {
	out := newOutbox(readings.NewSynth(readings.NewWave(), 1, 1, 99), "BOOT1", &options{Batch: batch, Window: window, Verify: true})
	return &out
}

// takeText lets frames out and shows each as boot:seq+readings.
func takeText(t *testing.T, b *outbox) string {
	t.Helper()
	frames, _, _ := b.take(nil, nil, formMQTT, time.Now())
	var shown []string
	for _, frame := range frames {
		var params fakeTelemetry
		if err := json.Unmarshal(frame.payload, &params); err != nil {
			t.Fatalf("%v: %s", err, frame.payload)
		}
		count := max(1, len(params.Readings))
		if frame.boot != params.Boot || frame.seq != params.Seq+uint64(count)-1 {
			t.Errorf("frame says boot %s seq %d, its mark %s %d", params.Boot, params.Seq, frame.boot, frame.seq)
		}
		shown = append(shown, fmt.Sprintf("%s:%d+%d", params.Boot, params.Seq, count))
	}
	return strings.Join(shown, " ")
}

func wantTake(t *testing.T, b *outbox, want string) {
	t.Helper()
	if got := takeText(t, b); got != want {
		t.Errorf("frames %q, want %q", got, want)
	}
}

func wantAck(t *testing.T, b *outbox, boot string, seq, fresh uint64, honest bool) {
	t.Helper()
	gotFresh, gotHonest := b.ack(boot, seq, time.Now(), func(time.Duration, uint64) {})
	if gotFresh != fresh || gotHonest != honest {
		t.Errorf("ack %s %d: %d fresh, honest %v; want %d, %v", boot, seq, gotFresh, gotHonest, fresh, honest)
	}
}

func measureAll(b *outbox, count int) {
	for range count {
		b.measure(1_700_000_000_000, false)
	}
}

func TestOutboxKeepsTheWindow(t *testing.T) {
	b := testOutbox(1, 3)
	measureAll(b, 5)
	wantTake(t, b, "BOOT1:1+1 BOOT1:2+1 BOOT1:3+1")
	wantTake(t, b, "")
	wantAck(t, b, "BOOT1", 2, 2, true)
	wantAck(t, b, "BOOT1", 1, 0, true) // an old one
	wantTake(t, b, "BOOT1:4+1 BOOT1:5+1")
	wantAck(t, b, "BOOT1", 6, 0, false) // never sent
	wantAck(t, b, "OTHER", 6, 0, true)
	wantAck(t, b, "BOOT1", 5, 3, true)
	if b.backlog() != 0 || b.sent != 5 || len(b.waiting) != 0 {
		t.Errorf("backlog %d, sent %d, %d frames wait", b.backlog(), b.sent, len(b.waiting))
	}
}

func TestOutboxSendsAgainAfterReconnecting(t *testing.T) {
	b := testOutbox(1, 4)
	measureAll(b, 6)
	takeText(t, b)
	wantAck(t, b, "BOOT1", 1, 1, true)
	b.connected()
	first := takeText(t, b)
	if first != "BOOT1:2+1 BOOT1:3+1 BOOT1:4+1 BOOT1:5+1" {
		t.Errorf("after reconnecting %q, want from 2 on, with the same boot and seq", first)
	}
	if b.sent != 5 {
		t.Errorf("sent %d, want 5: what goes out again is not sent anew", b.sent)
	}
}

func TestOutboxFillsBatches(t *testing.T) {
	b := testOutbox(4, 2)
	measureAll(b, 6)
	wantTake(t, b, "BOOT1:1+4")
	b.connected()
	wantAck(t, b, "BOOT1", 2, 2, true) // hello may say any number
	wantTake(t, b, "BOOT1:3+4")
	measureAll(b, 1)
	wantTake(t, b, "")
	b.flush = true
	wantTake(t, b, "BOOT1:7+1")
}

func TestOutboxNumbersAnewAfterAReboot(t *testing.T) {
	b := testOutbox(1, 10)
	measureAll(b, 3)
	takeText(t, b)
	b.reboot("BOOT2")
	b.reboot("BOOT3") // BOOT2 numbered nothing
	measureAll(b, 2)
	b.connected()
	wantTake(t, b, "BOOT1:1+1 BOOT1:2+1 BOOT1:3+1") // the old ones first, as they were numbered
	wantAck(t, b, "BOOT1", 4, 0, false)             // BOOT1 has three
	wantAck(t, b, "BOOT1", 3, 3, true)
	wantTake(t, b, "BOOT3:1+1 BOOT3:2+1")
	wantAck(t, b, "BOOT3", 2, 2, true)
	if len(b.boots) != 1 {
		t.Errorf("boots %v, want the last only", b.boots)
	}
}

func TestOutboxNeverRepeatsATime(t *testing.T) {
	b := testOutbox(1, 1)
	for _, ts := range []int64{100, 100, 99, 105, 105} {
		b.measure(ts, false)
	}
	if got, want := b.ledger.Times(), []int64{100, 101, 102, 105, 106}; !slices.Equal(got, want) {
		t.Errorf("times %v, want %v", got, want)
	}
}

func TestTimeQueueGivesBackWhatWasPushed(t *testing.T) {
	var q timeQueue
	var pushed, dropped int64
	for round := range int64(1000) {
		for range round % 7 {
			q.push(pushed)
			pushed++
		}
		drop := min(round%5, pushed-dropped)
		q.drop(uint64(drop))
		dropped += drop
		for i := dropped; i < pushed; i++ {
			if got := q.at(uint64(i - dropped)); got != i {
				t.Fatalf("at %d: %d, want %d", i-dropped, got, i)
			}
		}
	}
	if len(q.times) > 3*int(pushed-dropped)+200 {
		t.Errorf("%d times are kept for %d", len(q.times), pushed-dropped)
	}
}

func TestFrameInTheFormOfTheSocket(t *testing.T) {
	b := testOutbox(1, 10)
	b.measure(1_700_000_000_000, false)
	frames, _, fresh := b.take(nil, nil, formWSS, time.Now())
	want := `{"method":"telemetry","params":{"seq":1,"ts":1700000000000,"values":` + string(b.source.AppendValues(nil, 1)) + `}}`
	if fresh != 1 || len(frames) != 1 || string(frames[0].payload) != want {
		t.Errorf("frame %s, want %s", frames[0].payload, want)
	}
	b.reboot("BOOT2")
	b.connected()
	frames, _, fresh = b.take(nil, nil, formWSS, time.Now())
	if fresh != 0 || !bytes.Contains(frames[0].payload, []byte(`{"boot":"BOOT1","seq":1,`)) {
		t.Errorf("after the reboot %s, want its old boot named", frames[0].payload)
	}
}

func TestFramesInEachEncoding(t *testing.T) {
	for encoding, want := range map[encoding]string{
		encodingCBOR:      `{"method": "telemetry", "params": {"seq": 1, "readings": [{"ts": 1700000000000, "values": {"n": 1, "run": 99,`,
		encodingSenML:     `[{"bn":"d-1:","bt":1700000000,"n":"temperature","u":"Cel","v":`,
		encodingSenMLCBOR: `[{0: "temperature", 1: "Cel", 2: `,
	} {
		b := testOutbox(2, 10)
		b.measure(1_700_000_000_000, false)
		b.measure(1_700_000_000_250, false)
		form := formWSS
		form.encoding, form.device = encoding, "d-1"
		frames, _, _ := b.take(nil, nil, form, time.Now())
		if len(frames) != 1 || frames[0].boot != "BOOT1" || frames[0].seq != 2 {
			t.Fatalf("%s: frames %v", encoding, frames)
		}
		got := string(frames[0].payload)
		if encoding.binary() {
			var err error
			if got, err = cbor.Diagnose(canonical(t, frames[0].payload)); err != nil {
				t.Fatal(err)
			}
		}
		second := `"t":0.25,"n":"temperature","v":` // the unit was said
		if encoding == encodingSenMLCBOR {
			second = `6: 0.25`
		}
		if !strings.HasPrefix(got, want) || encoding.senML() && !strings.Contains(got, second) {
			t.Errorf("%s: frame %s, want %s… and %s", encoding, got, want, second)
		}
	}
}

// canonical brings the names of maps into an order: those of a Go map have none.
func canonical(t *testing.T, data []byte) []byte {
	t.Helper()
	var value any
	if err := cbor.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	mode, err := cbor.CanonicalEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	if data, err = mode.Marshal(value); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFramesOfTheHubInCBOR(t *testing.T) {
	const frame = `{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"B","seq":7}}`
	data, err := encodingCBOR.encode([]byte(frame))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := encodingCBOR.decode(data); err != nil || string(got) != frame {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := encodingCBOR.decode([]byte(frame)); err == nil {
		t.Error("JSON passes for CBOR")
	}
	for _, e := range encodings() {
		if got := encoding(e).subprotocol(); !slices.Contains(wire.Subprotocols(), got) {
			t.Errorf("%s is the subprotocol %s", e, got)
		}
	}
}

func TestParseAckAgreesWithJSON(t *testing.T) {
	for frame, want := range map[string]bool{
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"B","seq":9007199254740991}}`:     true,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"","seq":0}}`:                     true,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"seq":3}}`:                               false,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"a\"b","seq":3}}`:                 false,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"B","seq":3} }`:                   false,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"B","seq":}}`:                     false,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"B","seq":3,"more":1}}`:           false,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"B","seq":99999999999999999999}}`: false,
		`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"B`:                               false,
		``: false,
	} {
		boot, seq, ok := parseAck([]byte(frame))
		if ok != want {
			t.Errorf("%s: taken %v, want %v", frame, ok, want)
		}
		var in struct {
			Params struct {
				Boot string
				Seq  uint64
			}
		}
		if ok && (json.Unmarshal([]byte(frame), &in) != nil || in.Params.Boot != string(boot) || in.Params.Seq != seq) {
			t.Errorf("%s: boot %s seq %d", frame, boot, seq)
		}
	}
}

func TestRetryAfterIsHeard(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want time.Duration
	}{
		"restart":    {&websocket.CloseError{Code: 1012, Text: `{"retry_after_ms":1500}`}, 1500 * time.Millisecond},
		"overloaded": {fmt.Errorf("read: %w", &websocket.CloseError{Code: 1013, Text: `{"retry_after_ms":20}`}), 20 * time.Millisecond},
		"other code": {&websocket.CloseError{Code: 1008, Text: `{"retry_after_ms":20}`}, 0},
		"no reason":  {&websocket.CloseError{Code: 1012}, 0},
		"refused":    {&refusedError{status: 503, after: 7 * time.Second}, 7 * time.Second},
	} {
		if got := retryAfter(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestPauseGrowsToItsCap(t *testing.T) {
	for failures := range 100 {
		bound := backoffCap
		if failures < 5 {
			bound = backoffBase << failures
		}
		for range 20 {
			if got := pause(failures, 0); got < 0 || got >= bound {
				t.Fatalf("after %d failures %v, want less than %v", failures, got, bound)
			}
			if got := pause(failures, time.Minute); got < time.Minute || got >= time.Minute+backoffBase {
				t.Fatalf("after %d failures %v, want the minute that the hub asked for", failures, got)
			}
		}
	}
}

func BenchmarkTake(b *testing.B) {
	out := newOutbox(readings.NewSynth(readings.NewWave(), 1, 1, 99), "BOOT1", &options{Batch: 1, Window: 16})
	var frames []outgoing
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		out.measure(0, false)
		frames, buf, _ = out.take(frames[:0], buf[:0], formWSS, time.Time{})
		out.ackTo(out.measured, time.Time{}, func(time.Duration, uint64) {})
	}
}
