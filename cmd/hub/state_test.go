package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// state reads a device's state by hubctl.
func (h *hubProcess) state(device string) (s struct {
	Version                  uint64
	Desired, Reported, Delta json.RawMessage
},
) {
	h.t.Helper()
	out, errs, status := h.ctl("state", device, "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil || status != 0 {
		h.t.Fatalf("state %s: status %d, %q, %q, %v", device, status, out, errs, err)
	}
	return s
}

// compact takes the white space out that hubctl puts in.
func compact(text json.RawMessage) string {
	var tree any
	_ = json.Unmarshal(text, &tree) // then it is null, as the comparison will tell
	short, _ := json.Marshal(tree)
	return string(short)
}

// A state is desired while the device is away, survives kill -9, reaches the device when it connects, and what the device
// reports and was acknowledged survives too.
func TestAStateReachesADeviceThatWasAway(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("pump:7")
	if out, errs, status := h.ctl("state", "set", "pump:7", "interval=20", "net.dns=1.1.1.1"); status != 0 || !strings.Contains(out, "differs") {
		t.Fatalf("set: status %d, %q, %q", status, out, errs)
	}
	if _, errs, status := h.ctl("state", "set", "pump:7", "interval=30", "--if-match", "7"); status != 8 || !strings.Contains(errs, "version 1") {
		t.Errorf("another version: status %d, %q, want 8", status, errs)
	}
	h.kill()
	h.again()

	ws := h.dial("pump:7", token)
	send(t, ws, `{"id":1,"method":"hello"}`)
	if f := receive(t, ws); !strings.Contains(string(f.Result), `"desired":{"interval":20,"net":{"dns":"1.1.1.1"}},"version":1,"delta":{"interval":20,"net":{"dns":"1.1.1.1"}}`) {
		t.Errorf("hello is answered %s", f.Result)
	}
	const reports = 50
	for n := range reports {
		send(t, ws, fmt.Sprintf(`{"id":%d,"method":"state","params":{"reported":{"interval":20,"net":{"dns":"1.1.1.1"},"n":%d}}}`, n, n))
	}
	for range reports {
		if f := receive(t, ws); f.Error != nil || !strings.Contains(string(f.Result), `"version":`) {
			t.Fatalf("a report is answered %+v", f)
		}
	}
	h.kill()
	h.again()
	s := h.state("pump:7")
	if compact(s.Delta) != "{}" || compact(s.Reported) != `{"interval":20,"n":`+strconv.Itoa(reports-1)+`,"net":{"dns":"1.1.1.1"}}` {
		t.Errorf("after a kill -9 reported %s, delta %s", compact(s.Reported), compact(s.Delta))
	}
	out, _, _ := h.ctl("state", "history", "pump:7")
	if !strings.Contains(out, "admin") || !strings.Contains(out, "device") {
		t.Errorf("history:\n%s", out)
	}
	if status := h.call(http.MethodDelete, "/api/v1/devices/pump:7", nil, nil); status != http.StatusOK {
		t.Fatalf("delete: status %d", status)
	}
	h.newDevice("pump:7")
	if s := h.state("pump:7"); s.Version != 0 {
		t.Errorf("a device made with the id of a deleted one has its state, version %d", s.Version)
	}
}

// A simulated device obeys what is desired, over each transport, so that the delta becomes empty.
func TestASimulatedDeviceObeys(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"wss", "mqtt"} {
		t.Run(protocol, func(t *testing.T) {
			h := startHub(t, t.TempDir())
			h.background("--devices", "1", "--rate", "5", "--duration", "10m", "--protocol", protocol)
			device := h.online(1)[0]
			until(t, "its first report", func() bool { return strings.Contains(string(h.state(device).Reported), "firmware") })
			if _, errs, status := h.ctl("state", "set", device, "interval=2", "mode=eco"); status != 0 {
				t.Fatalf("set: status %d, %q", status, errs)
			}
			until(t, "obedience", func() bool { s := h.state(device); return s.Version >= 3 && compact(s.Delta) == "{}" })
			if s := h.state(device); !strings.Contains(compact(s.Reported), `"interval":2`) || !strings.Contains(compact(s.Reported), `"mode":"eco"`) {
				t.Errorf("reported %s", s.Reported)
			}
		})
	}
}
