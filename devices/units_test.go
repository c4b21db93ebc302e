package devices_test

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

func units(pairs ...string) (all []wire.Unit) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, wire.Unit{Field: []byte(pairs[i]), Symbol: []byte(pairs[i+1])})
	}
	return all
}

func wantUnits(t *testing.T, s *devices.Sessions, device string, pairs ...string) {
	t.Helper()
	want := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		want[pairs[i]] = pairs[i+1]
	}
	if got := s.Units(device); !maps.Equal(got, want) {
		t.Errorf("units of %s are %v, want %v", device, got, want)
	}
}

func TestUnitsAreKept(t *testing.T) {
	h := newHub(t)
	d := h.dialIn("d1", "senml+json")
	d.send(`{"id":1,"method":"hello","params":{"ack":true}}`)
	d.next()
	d.send(`[{"n":"T","u":"Cel","v":20},{"n":"RH","u":"%RH","v":40}]`)
	d.next()
	wantUnits(t, h.sessions, "d1", "T", "Cel", "RH", "%RH")
	before := h.sessions.Units("d1")
	d.send(`[{"n":"T","u":"K","v":293},{"n":"RH","v":41}]`)
	d.next()
	wantUnits(t, h.sessions, "d1", "T", "K", "RH", "%RH")
	if before["T"] != "Cel" {
		t.Error("what was handed out has changed")
	}
	again := h.dialIn("d1", "senml+json") // the newer connection knows as well
	wantUnits(t, h.sessions, "d1", "T", "K", "RH", "%RH")
	_ = again.ws.Close()
	d.wantClose(4001)

	// A device that posts has no session.
	h.sessions.LearnUnits("d2", units("a", "W"))
	wantUnits(t, h.sessions, "d2", "a", "W")
	if h.sessions.Presence("d2").Online {
		t.Error("a device that posts is online")
	}
	h.sessions.LearnUnits("d2", nil)
	for i := range 2000 {
		h.sessions.LearnUnits("d2", units(fmt.Sprint(i), "W"))
	}
	if n := len(h.sessions.Units("d2")); n != 1024 {
		t.Errorf("%d units are kept", n)
	}
	h.sessions.LearnUnits("d2", units("a", "kW"))
	if h.sessions.Units("d2")["a"] != "kW" {
		t.Error("a known field's unit does not change when there are many")
	}
	h.sessions.Forget("d2")
	wantUnits(t, h.sessions, "d2")
}

func TestUnitsOutliveTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		s, _ := newSessions()
		stop := keep(s, kv)
		s.LearnUnits("d1", units("T", "Cel"))
		stop()
		wantUnits(t, restored(t, kv), "d1", "T", "Cel")
	})
}
