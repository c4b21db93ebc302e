package devices_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/wire"
)

func ping(id string) wire.Command { return wire.Command{ID: id, Method: "ping", Attempt: 1} }

func pingFrame(id string) string { return string(wire.AppendCommand(nil, ping(id))) }

// A device that sends but does not read: what is kept for it is bounded, then its socket is not read either, and
// after the write's time it is cut. Its neighbour notices nothing.
func TestADeviceThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		start := time.Now()
		d, neighbour := h.link("d1"), h.dial("d2")
		ended := make(chan struct{})
		var sent atomic.Int64
		go func() {
			defer close(ended)
			for d.ws.WriteMessage(1, []byte(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)) == nil {
				sent.Add(1)
			}
		}()
		for range 9 {
			time.Sleep(time.Second)
			neighbour.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
			at := time.Now()
			neighbour.want(result("1"))
			if took := time.Since(at); took != 0 {
				t.Errorf("its neighbour waited %v", took)
			}
		}
		// The bound is 64 KB of answers, and as much again that is being written.
		if most := int64(64<<10/len(result("1")) + 10); sent.Load() < most/2 || sent.Load() > 2*most {
			t.Errorf("%d frames were taken from it, want %d to %d", sent.Load(), most, 2*most)
		}
		<-ended
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("cut after %v, want 10 s", took)
		}
		synctest.Wait()
		if p := h.sessions.Presence("d1"); p.Online || p.Cause != "did not read what it was sent for 10s" {
			t.Errorf("presence %+v", p)
		}
		neighbour.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
		neighbour.want(result("1"))
	})
}

// A device that reads slowly is not cut: the write's time is that of each frame.
func TestASlowReaderIsNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.link("d1")
		const frames = 12
		for range frames {
			d.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
		}
		for i := range frames {
			time.Sleep(9 * time.Second)
			if _, data, err := d.ws.ReadMessage(); err != nil || string(data) != result("1") {
				t.Fatalf("answer %d: %q, %v", i, data, err)
			}
		}
	})
}

// Commands that a device does not read are refused at once.
func TestCommandsDoNotWaitForSpace(t *testing.T) {
	large := ping("A")
	large.Params = json.RawMessage(`"` + strings.Repeat("x", 200<<10) + `"`)
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.link("d1")
		d.send(`{"T":1}`)
		synctest.Wait()
		s := h.session("d1")
		taken := 0
		for h.sessions.Send("d1", s, large) == nil {
			if taken++; taken == 20 {
				t.Fatal("no bound")
			}
		}
		if taken < 5 || taken > 10 { // as much again may be with the writer already
			t.Errorf("%d commands of 200 KB were taken, want 5 for 1 MB", taken)
		}
		if err := h.sessions.Send("d1", s, ping("B")); err != nil {
			t.Errorf("a small one for which there is room: %v", err)
		}
	})
}

// A device that is asked to give up a command is asked on the session that it has, and on no other.
func TestCancelGoesToTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		synctest.Wait()
		s := h.session("d1")
		if err := h.sessions.Cancel("d1", s, "A"); err == nil {
			t.Error("a device that is not ready was asked")
		}
		d.send(`{"T":1}`)
		synctest.Wait()
		if err := h.sessions.Cancel("d1", s, "A"); err != nil {
			t.Fatal(err)
		}
		d.want(`{"jsonrpc":"2.0","method":"hub.cancel","params":{"id":"A"}}`)
		if err := h.sessions.Cancel("d1", s-1, "A"); err == nil {
			t.Error("an older session was asked")
		}
		if err := h.sessions.Cancel("d2", s, "A"); err == nil {
			t.Error("a device without a session was asked")
		}
	})
}

// stop stops the hub within the time.
func (h *hub) stop(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return h.connector.Stop(ctx)
}

func TestStopSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		start := time.Now()
		all := []*device{h.dial("d1"), h.dial("d2"), h.dialMute("d3")}
		for _, d := range all {
			d.hello(`{}`)
		}
		if err := h.stop(5 * time.Second); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 2*time.Second { // for the one that does not answer the close frame
			t.Errorf("stopping took %v, want 2 s", took)
		}
		slots := map[float64]bool{}
		for _, d := range all {
			notice := d.wantNotice("hub_stopping")
			var reason map[string]float64
			text := d.wantClose(1012)
			if err := json.Unmarshal([]byte(text), &reason); err != nil || len(text) > 123 {
				t.Fatalf("reason %q: %v", text, err)
			}
			at := reason["retry_after_ms"]
			if at < 1000 || at > 5000 || notice["retry_after_ms"] != at {
				t.Errorf("told %v and %v", notice, reason)
			}
			slots[at] = true
			if p := h.sessions.Presence(d.id); p.Online || p.Cause != "the hub stopped" {
				t.Errorf("presence %+v", p)
			}
		}
		if len(slots) != len(all) {
			t.Errorf("slots %v: devices come back together", slots)
		}
		if err := h.stop(time.Second); err != nil {
			t.Errorf("stopping again: %v", err)
		}
	})
}

// What is in the outbox goes out before the goodbye.
func TestStopFlushesAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		h.sink.inside = false
		for i := range 100 {
			d.send(fmt.Sprintf(`{"id":%d,"method":"telemetry","params":{"values":{"T":1}}}`, i))
		}
		synctest.Wait()
		h.sink.commit()
		if err := h.stop(time.Second); err != nil {
			t.Error(err)
		}
		for i := range 100 {
			d.want(result(fmt.Sprint(i)))
		}
		d.wantNotice("hub_stopping")
		d.wantClose(1012)
	})
}

func TestStopCutsWhoDoesNotSayGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.link("d1") // reads not even our goodbye
		synctest.Wait()
		start := time.Now()
		if err := h.stop(time.Second); err == nil {
			t.Error("Stop says nothing of the device that it cut")
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("stopping took %v, want 1 s", took)
		}
		if p := h.sessions.Presence("d1"); p.Online || p.Cause != "the hub stopped" {
			t.Errorf("presence %+v", p)
		}
	})
}

// A journal that takes nothing does not keep the hub from stopping: it is stopped after the devices.
func TestStopWhileAppendWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.block()
		d := h.dial("d1")
		d.send(`{"T":1}`)
		<-h.sink.entered
		start := time.Now()
		if err := h.stop(time.Second); err == nil {
			t.Error("Stop says nothing of the connection that is left")
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("stopping took %v", took)
		}
		h.sink.free()
		synctest.Wait()
		if p := h.sessions.Presence("d1"); p.Online {
			t.Errorf("presence %+v", p)
		}
	})
}
