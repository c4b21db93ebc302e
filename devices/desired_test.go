package devices_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/wire"
)

func stateOf(version uint64, desired, delta string) wire.State {
	st := wire.State{Version: version, Desired: []byte(desired)}
	if delta != "" {
		st.Delta = []byte(delta)
	}
	return st
}

// stateFrame is the frame hub.state.
func stateFrame(st wire.State) string { return string(wire.AppendState(nil, st)) }

func inHub(t *testing.T, test func(t *testing.T, h *hub)) {
	synctest.Test(t, func(t *testing.T) { test(t, newHub(t)) })
}

func TestReportIsAnsweredWhenDurable(t *testing.T) {
	inHub(t, func(t *testing.T, h *hub) {
		d := h.dial("d1")
		d.send(`{"id":1,"method":"state","params":{"reported":{"a":1,"b":null}}}`, `{"method":"state","params":{"reported":{"c":{}}}}`)
		synctest.Wait()
		d.wantNone()
		wantLines(t, h.states.reports, `{"a":1,"b":null}`, `{"c":{}}`)
		h.states.settle(7, nil)
		d.want(`{"jsonrpc":"2.0","id":1,"result":{"version":7}}`)
		tooLarge := &wire.Error{Code: wire.CodeTooLarge, Reason: wire.ReasonStateTooLarge, Message: "/reported: large", Limit: 4, Value: 5}
		d.send(`{"id":2,"method":"state","params":{"reported":{"a":1}}}`, `{"method":"state","params":{"reported":{"a":1}}}`)
		synctest.Wait()
		h.states.settle(0, tooLarge)
		if data := d.wantError("2", wire.CodeTooLarge, wire.ReasonStateTooLarge); data["limit"] != 4.0 || data["value"] != 5.0 {
			t.Errorf("data %v", data)
		}
		d.wantError("null", wire.CodeTooLarge, wire.ReasonStateTooLarge)
		wantLines(t, h.sink.refusals(), "d1 state_too_large", "d1 state_too_large")
		h.states.refuse = errors.New("closed")
		d.send(`{"id":3,"method":"state","params":{"reported":{"a":1}}}`)
		d.wantError("3", wire.CodeUnavailable, wire.ReasonStopping)
		d.send(`{"Temp":1}`)
		synctest.Wait()
		d.wantNone()
	})
}

// A device that reports without end is read no further than so many reports, and nobody ends its connection for it.
func TestReportsUnderWayAreBounded(t *testing.T) {
	inHub(t, func(t *testing.T, h *hub) {
		d := h.dial("d1")
		go func() {
			for n := range 40 {
				d.send(fmt.Sprintf(`{"id":%d,"method":"state","params":{"reported":{"n":%d}}}`, n, n))
			}
		}()
		time.Sleep(10 * time.Minute)
		for _, want := range []int{16, 16, 8} {
			synctest.Wait()
			if got := h.states.settle(1, nil); got != want {
				t.Fatalf("%d reports were under way, want %d", got, want)
			}
		}
		for n := range 40 {
			d.want(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"version":1}}`, n))
		}
	})
}

func TestHelloTellsTheDesiredState(t *testing.T) {
	inHub(t, func(t *testing.T, h *hub) {
		none := h.dial("d1").hello(`{}`)
		if none["version"] != 0.0 || !reflect.DeepEqual(none["desired"], map[string]any{}) || none["delta"] != nil {
			t.Errorf("without a state hello says %v", none)
		}
		h.states.set(stateOf(5, `{"a":1,"b":2}`, `{"b":2}`))
		d := h.dial("d2")
		w := d.hello(`{}`)
		if w["version"] != 5.0 || !reflect.DeepEqual(w["desired"], map[string]any{"a": 1.0, "b": 2.0}) || !reflect.DeepEqual(w["delta"], map[string]any{"b": 2.0}) {
			t.Errorf("hello says %v", w)
		}
		// What hello told is not told again, nor what is older; a newer one is.
		h.sessions.Desire("d2", stateOf(5, `{}`, ""))
		h.sessions.Desire("d2", stateOf(4, `{}`, ""))
		h.sessions.Desire("nobody", stateOf(9, `{}`, ""))
		newer := h.states.set(stateOf(6, `{"a":3}`, `{"a":3}`))
		h.sessions.Desire("d2", newer)
		d.want(stateFrame(newer))
		synctest.Wait()
		d.wantNone()
	})
}

// A device that never says hello is told when it is ready, if there is something to do.
func TestDeviceWithoutHelloIsTold(t *testing.T) {
	inHub(t, func(t *testing.T, h *hub) {
		done := h.states.set(stateOf(3, `{"a":1}`, ""))
		content := h.dial("d1")
		content.send(`{"Temp":1}`)
		synctest.Wait()
		content.wantNone()
		differs := h.states.set(stateOf(4, `{"a":2}`, `{"a":2}`))
		d := h.dial("d2")
		d.send(`{"Temp":1}`)
		d.want(stateFrame(differs))
		silent, at := h.dial("d3"), time.Now()
		silent.want(stateFrame(differs))
		if waited := time.Since(at); waited < 2*time.Second || waited > 4*time.Second {
			t.Errorf("a device that says nothing was told after %v, want 2 s", waited)
		}
		h.sessions.Desire("d2", done) // older
		synctest.Wait()
		d.wantNone()
	})
}

// A change that comes before the device is ready waits, and only the newest is told.
func TestStateWaitsUntilTheDeviceIsReady(t *testing.T) {
	inHub(t, func(t *testing.T, h *hub) {
		d := h.dial("d1")
		synctest.Wait()
		h.sessions.Desire("d1", stateOf(2, `{"a":1}`, `{"a":1}`))
		last := h.states.set(stateOf(3, `{"a":2}`, `{"a":2}`))
		h.sessions.Desire("d1", last)
		synctest.Wait()
		d.wantNone()
		d.send(`{"Temp":1}`)
		d.want(stateFrame(last))
	})
}

// A device that does not read is told of the newest state alone, once it does.
func TestSlowDeviceIsToldOfTheNewestState(t *testing.T) {
	inHub(t, func(t *testing.T, h *hub) {
		d := h.link("d1")
		d.send(`{"Temp":1}`)
		synctest.Wait()
		var last wire.State
		for version := range uint64(1000) {
			last = stateOf(version+1, fmt.Sprintf(`{"n":%d}`, version), "")
			h.sessions.Desire("d1", last)
			if version == 0 {
				synctest.Wait() // the writer is stuck with it
			}
		}
		go d.read()
		d.want(stateFrame(stateOf(1, `{"n":0}`, "")), stateFrame(last))
		synctest.Wait()
		d.wantNone()
	})
}

// A device that takes small frames is told the delta, or at least that there is something.
func TestStateOverTheDevicesMaxFrame(t *testing.T) {
	inHub(t, func(t *testing.T, h *hub) {
		d := h.dial("d1")
		d.hello(`{"max_frame":300}`)
		long := `"` + strings.Repeat("x", 300) + `"`
		h.sessions.Desire("d1", stateOf(1, `{"a":1,"b":`+long+`}`, `{"a":1}`))
		d.want(`{"jsonrpc":"2.0","method":"hub.state","params":{"version":1,"delta":{"a":1}}}`)
		h.sessions.Desire("d1", stateOf(2, `{"a":1,"b":`+long+`}`, `{"b":`+long+`}`))
		if n := d.wantNotice(wire.ReasonStateTooLarge); n["limit"] != 300.0 || n["value"].(float64) < 600 {
			t.Errorf("notice %v", n)
		}
		h.states.set(stateOf(3, `{"a":1,"b":`+long+`}`, `{"a":1}`))
		e := h.dial("d2")
		e.send(`{"id":"h","method":"hello","params":{"max_frame":300}}`)
		e.wantNotice(wire.ReasonStateTooLarge)
		if answer := e.next(); !strings.HasSuffix(answer, `"version":3,"delta":{"a":1}}}`) || strings.Contains(answer, "desired") {
			t.Errorf("hello's answer %s", answer)
		}
	})
}
