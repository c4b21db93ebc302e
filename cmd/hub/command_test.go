package main

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// background runs the simulator beside the test until its end.
func (h *hubProcess) background(args ...string) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), program(h.t, "device-sim"), h.simArgs(args...)...)
	words := &tail{}
	cmd.Stderr = words
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if h.t.Failed() {
			h.t.Logf("the simulator's last words:\n%s", words)
		}
	})
}

// online waits until so many devices are.
func (h *hubProcess) online(n int) (ids []string) {
	h.t.Helper()
	until(h.t, "devices online", func() bool {
		var list struct{ Devices []struct{ ID string } }
		h.call(http.MethodGet, "/api/v1/devices?online=true", nil, &list)
		ids = nil
		for _, d := range list.Devices {
			ids = append(ids, d.ID)
		}
		return len(ids) == n
	})
	return ids
}

func TestACommandReachesItsDeviceAndItsAnswerTheOperator(t *testing.T) {
	for _, protocol := range []string{"wss", "mqtt"} {
		t.Run(protocol, func(t *testing.T) {
			h := startHub(t, t.TempDir())
			h.background("--devices", "1", "--rate", "1", "--duration", "10m", "--protocol", protocol)
			device := h.online(1)[0]

			out, errs, status := h.ctl("send", device, "ping", "--wait", "--json")
			var answer struct {
				State  string
				Result struct{ Pong bool }
			}
			if err := json.Unmarshal([]byte(out), &answer); err != nil || status != 0 || answer.State != "done" || !answer.Result.Pong {
				t.Errorf("ping: status %d, %q, %q, %v", status, out, errs, err)
			}
			if out, _, status = h.ctl("send", device, "set", "interval=5", "led=true", "--wait"); status != 0 || !strings.Contains(out, "interval") {
				t.Errorf("set: status %d, %q", status, out)
			}
			if out, errs, status = h.ctl("send", device, "fly", "--wait"); status != 3 || !strings.Contains(out+errs, "rejected") {
				t.Errorf("an unknown method: status %d, %q, %q, want 3 and rejected", status, out, errs)
			}
			if out, _, status = h.ctl("send", device, "reboot", "--wait"); status != 0 {
				t.Errorf("reboot: status %d, %q", status, out)
			}
			out, _, _ = h.ctl("commands", "ls", device)
			for _, word := range []string{"ping", "set", "fly", "reboot", "done", "rejected"} {
				if !strings.Contains(out, word) {
					t.Errorf("commands ls has no %q:\n%s", word, out)
				}
			}
		})
	}
}

func TestACommandForADeviceThatIsOfflineIsRefused(t *testing.T) {
	h := startHub(t, t.TempDir())
	h.newDevice("d")
	out, errs, status := h.ctl("send", "d", "ping", "--wait")
	if status != 7 || !strings.Contains(out+errs, "offline") {
		t.Errorf("status %d, %q, %q, want 7 and the word offline", status, out, errs)
	}
	if _, errs, status = h.ctl("send", "nobody", "ping"); status != 1 || !strings.Contains(errs, "nobody") {
		t.Errorf("an unknown device: status %d, %q", status, errs)
	}
}

func TestWhenADeviceDoesNotAnswerNobodySaysDone(t *testing.T) {
	h := startHub(t, t.TempDir())
	ws := h.dial("d", h.newDevice("d"))
	send(t, ws, `{"id":1,"method":"hello"}`)
	receive(t, ws)

	silent := make(chan string, 1)
	go func() {
		out, errs, status := h.ctl("send", "d", "ping", "--wait", "--timeout", "1s")
		silent <- out + errs + string(rune('0'+status))
	}()
	if f := receive(t, ws); f.Method != "ping" {
		t.Fatalf("frame %+v, want ping", f)
	}
	if said := <-silent; !strings.Contains(said, "unknown") || !strings.HasSuffix(said, "4") {
		t.Errorf("no answer in time: %q, want unknown and status 4", said)
	}

	lost := make(chan string, 1)
	go func() {
		out, errs, status := h.ctl("send", "d", "ping", "--wait")
		lost <- out + errs + string(rune('0'+status))
	}()
	receive(t, ws)
	ws.Close()
	if said := <-lost; !strings.Contains(said, "unknown") || !strings.HasSuffix(said, "4") {
		t.Errorf("connection lost: %q, want unknown and status 4", said)
	}
}
