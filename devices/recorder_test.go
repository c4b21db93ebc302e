package devices_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// eventOf returns the device's newest event of a kind.
func (h *hub) eventOf(id, kind string) devices.Event {
	h.t.Helper()
	for _, e := range h.sessions.Events(id) {
		if e.Kind == kind {
			return e
		}
	}
	h.t.Fatalf("no %s of %s in %+v", kind, id, h.sessions.Events(id))
	return devices.Event{}
}

func TestRefusedConnectionsAreToldOfTheDeviceThatTheyName(t *testing.T) {
	h := newHub(t)
	if _, err := h.registry.Update(t.Context(), "d2", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, token string }{
		{"/connect/d1", "dev_wrong"}, {"/connect/d1", "dev_wrong"}, {"/connect", h.tokens["d2"]}, {"/connect/nobody", "dev_wrong"},
	} {
		conn := h.listener.dial()
		if _, _, err := upgrade(conn, c.path, bearer(c.token)); err == nil {
			t.Fatalf("%s was let in", c.path)
		}
		conn.Close()
	}
	if e := h.eventOf("d1", devices.EventRefused); e.Reason != "bad_credentials" || e.Status != http.StatusUnauthorized || e.Count != 2 || e.First.After(e.Last) {
		t.Errorf("d1: %+v", e)
	}
	if e := h.eventOf("d2", devices.EventRefused); e.Reason != "device_disabled" || e.Status != http.StatusForbidden || e.Count != 1 {
		t.Errorf("d2: %+v", e)
	}
	if got := h.sessions.Events("nobody"); len(got) > 0 {
		t.Errorf("a device that does not exist: %+v", got)
	}
}

func TestAConnectionsLifeIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.dial("d1")
		synctest.Wait()
		h.dial("d1")
		synctest.Wait()
		if e := h.eventOf("d1", devices.EventConnect); e.Count != 2 || e.Reason != devices.TransportWSS {
			t.Errorf("connect: %+v", e)
		}
		if e := h.eventOf("d1", devices.EventClose); e.Status != wire.CloseReplaced {
			t.Errorf("close: %+v", e)
		}
		h.sessions.Kick("d1", wire.CloseRevoked, "new token")
		if e := h.eventOf("d1", devices.EventClose); e.Message != "new token" {
			t.Errorf("close: %+v", e)
		}
		h.sessions.Forget("d1")
		if got := h.sessions.Events("d1"); len(got) > 0 {
			t.Errorf("a forgotten device: %+v", got)
		}
	})
}

func TestTheRecorderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		began := time.Now()
		for i := range 100 {
			for range 3 {
				h.sessions.Note("d1", devices.Event{Kind: devices.EventUnusable, Reason: fmt.Sprint("reason ", i)})
				time.Sleep(time.Second) // virtual
			}
		}
		events := h.sessions.Events("d1")
		if len(events) != 64 || events[0].Reason != "reason 99" || events[63].Reason != "reason 36" {
			t.Fatalf("%d events, %+v to %+v", len(events), events[0], events[len(events)-1])
		}
		if e := events[0]; e.Count != 3 || !e.First.Equal(began.Add(297*time.Second)) || !e.Last.Equal(began.Add(299*time.Second)) {
			t.Errorf("alike ones: %+v", e)
		}
		if got := h.sessions.Events("d2"); len(got) > 0 {
			t.Errorf("d2: %+v", got)
		}
	})
}

func TestASlowCommitIsRecorded(t *testing.T) {
	for _, took := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond} {
		e, slow := devices.SlowCommit(took)
		if slow != (took > time.Second) || slow && (e.Limit != 1000 || e.Value != 1500) {
			t.Errorf("%s: %v, %+v", took, slow, e)
		}
	}
}
