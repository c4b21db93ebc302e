package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A device that answers pings and nothing else is found, and shown until it says something.
func TestProbeFindsADeadProgram(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, []byte("devices:\n  keepalive: 2s\n  probe_after: 2s\n  probe_timeout: 1s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, t.TempDir(), "--config", config)
	ws := h.dial("pump", h.newDevice("pump"))
	send(t, ws, `{"id":1,"method":"hello"}`)
	receive(t, ws)
	frames := make(chan string, 10)
	go func() {
		defer close(frames)
		for {
			_, frame, err := ws.ReadMessage() // which answers pings
			if err != nil {
				return
			}
			frames <- string(frame)
		}
	}()
	if f := <-frames; !strings.Contains(f, "hub.probe") {
		t.Fatalf("came %s", f)
	}
	shown := func(state string) {
		t.Helper()
		until(t, "the device is shown as "+state, func() bool {
			out, _, _ := h.ctl("devices", "ls")
			return strings.Contains(out, " "+state+" ")
		})
	}
	shown("unresponsive")
	if out, errs, status := h.ctl("devices", "probe", "pump"); status != 4 || !strings.Contains(out, "pump is unresponsive") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	if out, _, _ := h.ctl("why", "pump"); !strings.Contains(out, "did not answer hub.probe") {
		t.Errorf("why:\n%s", out)
	}
	if m := h.metrics(); !strings.Contains(m, "hub_devices_unresponsive 1") {
		t.Error("no metric says so")
	}
	go func() {
		for range frames { // from now on it answers
			_ = ws.WriteMessage(1, []byte(`{"id":"hub.probe","error":{"code":-32601,"message":"what?"}}`))
		}
	}()
	if out, errs, status := h.ctl("devices", "probe", "pump"); status != 0 || !strings.Contains(out, "pump answered after") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	shown("online")
}
