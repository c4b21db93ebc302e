package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const limitedHub = `
devices:
  limits: {messages: 50, burst: 1s}
types:
  - name: small
    limits: {messages: 0, max_frame: 2KiB}
    fields: {Temp: {unit: Cel}}
`

// TestLimitsSlowASenderDownAndLoseNothing sends at ten times the limit by both protocols: all is acked and stored once,
// at the limit's pace; a device without the limit does not notice; notice, why, metrics and the device itself say so.
func TestLimitsSlowASenderDownAndLoseNothing(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, []byte(limitedHub), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, t.TempDir(), "--config", config)
	token := h.newDevice("free")
	if status := h.call(http.MethodPatch, "/api/v1/devices/free", map[string]any{"limits": map[string]any{"messages": 0}}, nil); status != http.StatusOK {
		t.Fatalf("take a limit away: %d", status)
	}
	for _, protocol := range []string{"wss", "mqtt"} {
		free, start, before := h.dial("free", token), time.Now(), false
		result := h.simulate(func(ended <-chan struct{}) {
			for i := range 200 {
				send(t, free, fmt.Sprintf(`{"id":%d,"method":"telemetry","params":{"values":{"i":%d}}}`, i, i))
			}
			for range 200 {
				if f := receive(t, free); f.Error != nil || f.Method != "" {
					t.Errorf("the device without a limit got %+v", f)
				}
			}
			select {
			case <-ended:
			default:
				before = true
			}
		}, "--devices", "1", "--rate", "500", "--duration", "1s", "--window", "16", "--protocol", protocol, "--verify")
		took := time.Since(start).Seconds()
		if least := float64(result.Acked-50) / 50; result.Lost != 0 || result.Duplicated != 0 || result.Reconnects != 0 || result.Acked != result.Sent || result.Acked < 300 || took < least {
			t.Errorf("%s: in %.1f s, where it takes %.1f at least: %+v", protocol, took, least, result)
		}
		if !before {
			t.Errorf("%s: the device without a limit took %.1f s for two hundred readings", protocol, took)
		}
	}
	metrics := h.metrics()
	for _, want := range []string{`hub_limit_hits_total{limit="messages",type=""}`, `hub_limit_held_seconds_total{limit="messages",type=""}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	h.wantSlowed("free")
}

// wantSlowed looks at all devices but one: why and the device itself tell that they were slowed.
func (h *hubProcess) wantSlowed(but string) {
	h.t.Helper()
	var list struct{ Devices []struct{ ID string } }
	h.call(http.MethodGet, "/api/v1/devices", nil, &list)
	for _, d := range list.Devices {
		out, _, _ := h.ctl("why", d.ID)
		var one struct{ Slowed *struct{ HeldMs int } }
		shown, _, _ := h.ctl("--json", "devices", "show", d.ID)
		if err := json.Unmarshal([]byte(strings.ReplaceAll(shown, "held_ms", "heldms")), &one); err != nil {
			h.t.Fatal(err)
		}
		slowed := d.ID != but
		if told := strings.Contains(out, "rate_limited") && strings.Contains(out, "> 50"); told != slowed || (one.Slowed != nil) != slowed {
			h.t.Errorf("%s: slowed %+v, why says\n%s", d.ID, one.Slowed, out)
		}
	}
	if len(list.Devices) < 2 {
		h.t.Errorf("there are only %v", list.Devices)
	}
}

// TestLimitsOfATypeAreToldAndHold looks at the largest frame of a type, at the notice of a rate, and at new limits on a
// connection that is open.
func TestLimitsOfATypeAreToldAndHold(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, []byte(limitedHub), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, t.TempDir(), "--config", config)
	token := h.newDevice("tiny")
	if out, errs, status := h.ctl("devices", "set", "tiny", "--type", "small"); status != 0 || !strings.Contains(out, "max_frame=2KiB (type), messages=none (type)") {
		t.Fatalf("exit %d: %s%s", status, out, errs)
	}
	ws := h.dial("tiny", token)
	send(t, ws, `{"id":1,"method":"hello"}`)
	if f := receive(t, ws); !strings.Contains(string(f.Result), `"max_frame":2048`) {
		t.Errorf("hello says %s", f.Result)
	}
	send(t, ws, `{"id":2,"method":"telemetry","params":{"values":{"s":"`+strings.Repeat("x", 3000)+`"}}}`)
	if f := receive(t, ws); f.Method != "hub.notice" {
		t.Errorf("a large frame got %+v", f)
	}
	if out, errs, status := h.ctl("devices", "set", "tiny", "--limit", "messages=5", "--limit", "burst=1s"); status != 0 || !strings.Contains(out, "burst=1s (device)") {
		t.Fatalf("exit %d: %s%s", status, out, errs)
	}
	for i := range 10 {
		send(t, ws, fmt.Sprintf(`{"id":%d,"method":"telemetry","params":{"values":{"Temp":%d}}}`, i, i))
	}
	answers, notices := 0, 0
	for answers < 10 {
		if f := receive(t, ws); f.Method == "hub.notice" {
			notices++
		} else {
			answers++
		}
	}
	if notices != 1 {
		t.Errorf("told of the rate %d times", notices)
	}
	if out, _, _ := h.ctl("devices", "show", "tiny"); !strings.Contains(out, "Temp=Cel") || !strings.Contains(out, "slowed") {
		t.Errorf("shown is\n%s", out)
	}
	if m := h.metrics(); !strings.Contains(m, `hub_limit_hits_total{limit="max_frame",type="small"} 1`) {
		t.Error("the metrics do not count the large frame")
	}
	if out, errs, status := h.ctl("devices", "set", "tiny", "--limit", "bytes=1KiB", "--limit", "max_frame=1MiB"); status == 0 || !strings.Contains(errs, "hold its sender up") {
		t.Errorf("exit %d: %s%s", status, out, errs)
	}
}
