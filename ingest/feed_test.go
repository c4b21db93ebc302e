package ingest

import (
	"fmt"
	"maps"
	"testing"

	"telemetryhub/wire"
)

// TestASlowLookerIsToldHowMuchItMissed never reads from a small subscription while another takes all.
func TestASlowLookerIsToldHowMuchItMissed(t *testing.T) {
	h := openHub(t, t.TempDir(), testConfig(), &memoryStore{})
	slow, quick, other := h.Feed.Subscribe(3), h.Feed.Subscribe(100), h.Feed.Subscribe(100, "c", "d")
	defer slow.Close()
	defer quick.Close()
	for i := range 10 {
		h.send("a", fmt.Sprintf(`{"measurement":"m","readings":[{"ts":%d,"values":{"n":%d,"s":"x","t":true,"f":false}},{"values":[]}]}`, received, i))
	}
	h.send("c", `{"n":1}`)
	h.send("d", `{"readings":[7]}`) // nothing to see
	for i := range 10 {
		e := <-quick.C()
		want := map[string]any{"n": float64(i), "s": "x", "t": true, "f": false}
		if e.Device != "a" || e.Measurement != "m" || len(e.Readings) != 1 || e.Readings[0].Time != received || !maps.Equal(e.Readings[0].Values, want) {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	if e := <-other.C(); e.Device != "c" || e.Measurement != wire.DefaultMeasurement || len(other.C()) != 0 {
		t.Fatalf("event %+v", e)
	}
	<-quick.C()
	if n := len(slow.C()); n != 3 {
		t.Fatalf("%d events wait", n)
	}
	if n := slow.Missed(); n != 8 || slow.Missed() != 0 || quick.Missed() != 0 || other.Missed() != 0 {
		t.Fatalf("missed %d", n)
	}
	other.Close()
	other.Close()
	h.send("c", `{"n":2}`)
	if e := <-quick.C(); e.Readings[0].Values["n"] != 2.0 || len(other.C()) != 0 {
		t.Fatalf("event %+v", e)
	}
}

func noted(l *Latest, device, payload string) {
	var d wire.Decoder
	var t wire.Telemetry
	if err := d.DecodePayload([]byte(payload), &t); err == nil {
		for i := range t.Readings {
			l.note(device, t.Measurement, &t.Readings[i])
		}
	}
}

func TestTheLatestIsTheLastMeasuredOfEachField(t *testing.T) {
	l := &Latest{}
	if v, complete := l.Get("a"); v != nil || complete {
		t.Fatalf("of nobody: %v %v", v, complete)
	}
	noted(l, "a", `{"ts":100,"values":{"x":1,"s":"one"}}`)
	noted(l, "a", `{"ts":300,"values":{"x":3,"b":true}}`)
	noted(l, "a", `{"ts":200,"values":{"x":2,"s":"two"}}`)                     // late
	noted(l, "a", `{"ts":900,"measurement":"other","values":{"x":9}}`)         // not shown
	noted(l, "a", `{"ts":150,"measurement":"telemetry","values":{"s":"one"}}`) // later still
	noted(l, "a", `{"ts":300,"values":{"b":false}}`)                           // of two at one time the later wins, as in the store
	l.Seed("a", map[string]Value{"x": {2.5, 250}, "s": {"new", 250}, "b": {true, 300}, "only stored": {int64(1 << 62), 10}})
	got, complete := l.Get("a")
	want := map[string]Value{"x": {3.0, 300}, "s": {"new", 250}, "b": {false, 300}, "only stored": {int64(1 << 62), 10}}
	if !complete || !maps.Equal(got, want) {
		t.Fatalf("latest %v %v; want %v", got, complete, want)
	}
	noted(l, "a", `{"ts":260,"values":{"s":"newer","only stored":"text"}}`)
	noted(l, "a", `{"ts":-5,"values":{"first":1}}`)
	got, _ = l.Get("a")
	want = map[string]Value{"x": {3.0, 300}, "s": {"newer", 260}, "b": {false, 300}, "only stored": {"text", 260}, "first": {1.0, -5}}
	if !maps.Equal(got, want) {
		t.Fatalf("latest %v; want %v", got, want)
	}
}

func TestTheLatestFollowsWhatIsStored(t *testing.T) {
	h := openHub(t, t.TempDir(), testConfig(), &memoryStore{})
	h.send("a", numbered("b", 2))
	h.send("a", numbered("b", 1))
	h.send("a", `{"ts":1,"values":{"n":99}}`)
	h.settled("a", 3)
	if v, complete := h.Latest.Get("a"); complete || v["n"].Value != 2.0 {
		t.Fatalf("latest %v", v)
	}
}
