package main

import (
	"strings"
	"testing"
)

// What goes wrong by WebSocket and in the writer is told by hubctl why.
func TestWhyTellsWhatBefellADevice(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("pump:7")
	if out, errs, status := h.ctl("why", "pump:7"); status != 0 || !strings.Contains(out, "Never connected") {
		t.Fatalf("status %d, %q, %q", status, out, errs)
	}
	ws := h.dial("pump:7", token)
	send(t, ws, `{"id":1,"method":"nonsense"}`)
	receive(t, ws)
	send(t, ws, `{"id":2,"method":"telemetry","params":{"boot":"b","seq":1,"ts":1,"values":{"t":1}}}`) // 1970
	until(t, "why tells it", func() bool {
		out, _, _ := h.ctl("why", "pump:7")
		return strings.Contains(out, "Online by wss") && strings.Contains(out, "unknown_method") && strings.Contains(out, "quarantine")
	})
}
