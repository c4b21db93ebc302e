package main

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
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
	t.Parallel()
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

// TestACommandWaitsForItsDevice sends to a device that is away, kills the hub, and lets the device connect.
func TestACommandWaitsForItsDevice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHub(t, dir)
	token := h.newDevice("d")
	for i := range 3 {
		out, errs, status := h.ctl("send", "d", "set", "n="+strconv.Itoa(i))
		if status != 0 || !strings.Contains(errs, "is queued: the device is not connected") {
			t.Fatalf("status %d, %q, %q, want 0 and queued", status, out, errs)
		}
	}
	if _, errs, status := h.ctl("send", "d", "ping", "--wait", "--timeout", "100ms", "--expires", "1h"); status != 6 {
		t.Errorf("waiting for one that waits: status %d, %q, want 6", status, errs)
	}
	if _, errs, status := h.ctl("send", "nobody", "ping"); status != 1 || !strings.Contains(errs, "nobody") {
		t.Errorf("an unknown device: status %d, %q", status, errs)
	}
	h.kill()

	h = startHub(t, dir)
	out, _, _ := h.ctl("commands", "ls", "--device", "d", "--state", "queued", "--actor", "admin", "--from", "-1h", "--json")
	var list []struct{ ID, Method string }
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 4 || list[0].Method != "ping" {
		t.Fatalf("after a kill -9 the ledger lists %s, %v", out, err)
	}
	if out, errs, status := h.ctl("commands", "cancel", list[0].ID); status != 0 || !strings.Contains(out, "cancelled before it was sent") {
		t.Errorf("cancel: status %d, %q, %q", status, out, errs)
	}
	ws := h.dial("d", token)
	send(t, ws, `{"id":1,"method":"hello"}`)
	if f := receive(t, ws); !strings.Contains(string(f.Result), `"pending":3`) {
		t.Errorf("hello is answered %s, want that 3 commands wait", f.Result)
	}
	for i := range 3 {
		f := receive(t, ws)
		if f.Method != "set" || f.Params.N != i {
			t.Errorf("command %d is %+v", i, f)
		}
		send(t, ws, `{"id":`+string(f.ID)+`,"result":`+strconv.Itoa(i)+`}`)
	}
	until(t, "all done", func() bool {
		out, _, _ := h.ctl("commands", "ls", "d", "--state", "queued,sent")
		return !strings.Contains(out, "set")
	})
	if out, errs, status := h.ctl("commands", "retry", list[1].ID); status != 0 {
		t.Errorf("retry: status %d, %q, %q", status, out, errs)
	}
	if f := receive(t, ws); f.Method != "set" || string(f.ID) == `"`+list[1].ID+`"` {
		t.Errorf("sent again as %+v", f)
	}
}

// TestCancelAsksTheDevice cancels what is at the device already.
func TestCancelAsksTheDevice(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	ws := h.dial("d", h.newDevice("d"))
	send(t, ws, `{"id":1,"method":"hello"}`)
	receive(t, ws)
	var sent struct{ ID, State string }
	if status := h.call(http.MethodPost, "/api/v1/devices/d/commands", map[string]any{"method": "bake"}, &sent); status != 201 || sent.State != "sent" {
		t.Fatalf("status %d, %+v", status, sent)
	}
	receive(t, ws)
	if status := h.call(http.MethodDelete, "/api/v1/commands/"+sent.ID, nil, &sent); status != 202 || sent.State != "sent" {
		t.Errorf("cancel: status %d, %+v, want 202 and sent", status, sent)
	}
	if f := receive(t, ws); f.Method != "hub.cancel" || f.Params.ID != sent.ID {
		t.Errorf("the device got %+v", f)
	}
	send(t, ws, `{"id":"`+sent.ID+`","error":{"code":-32051,"message":"stopped"}}`)
	until(t, "cancelled", func() bool {
		h.call(http.MethodGet, "/api/v1/commands/"+sent.ID, nil, &sent)
		return sent.State == "cancelled"
	})
	if status := h.call(http.MethodDelete, "/api/v1/commands/"+sent.ID, nil, nil); status != 409 {
		t.Errorf("cancel of what has ended: status %d, want 409", status)
	}
}

func TestWhenADeviceDoesNotAnswerNobodySaysDone(t *testing.T) {
	t.Parallel()
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

// TestNoMangledAnswerIsTakenForAnOutcome has a device answer with more than a frame may hold, for another command, and
// with a frame that is cut in its middle.
func TestNoMangledAnswerIsTakenForAnOutcome(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("d")
	ws := h.dial("d", token)
	send(t, ws, `{"id":1,"method":"hello"}`)
	receive(t, ws)
	ask := func(timeout string) string {
		t.Helper()
		var sent struct{ ID, State string }
		if status := h.call(http.MethodPost, "/api/v1/devices/d/commands", map[string]any{"method": "dump", "timeout": timeout}, &sent); status != 201 || sent.State != "sent" {
			t.Fatalf("status %d, %+v", status, sent)
		}
		if f := receive(t, ws); string(f.ID) != `"`+sent.ID+`"` {
			t.Fatalf("the device got %+v, want command %s", f, sent.ID)
		}
		return sent.ID
	}
	wantUnknown := func(id, cause string) {
		t.Helper()
		var c struct {
			State   string
			Result  json.RawMessage
			History []struct{ Cause string }
		}
		until(t, "the outcome", func() bool {
			h.call(http.MethodGet, "/api/v1/commands/"+id, nil, &c)
			return c.State != "sent"
		})
		if c.State != "unknown" || c.Result != nil || !strings.Contains(c.History[len(c.History)-1].Cause, cause) {
			t.Errorf("%+v, want unknown: %s", c, cause)
		}
	}

	id := ask("1s")
	send(t, ws, `{"id":"`+id+`","result":"`+strings.Repeat("x", 10<<20)+`"}`)
	if f := receive(t, ws); f.Method != "hub.notice" {
		t.Errorf("an answer of 10 MB: %+v, want a notice", f)
	}
	wantUnknown(id, "no answer within 1s")

	id = ask("1s")
	send(t, ws, `{"id":"01J9ZK3V5T8Q2W4E6R8T0Y2U4I","result":1}`)
	wantUnknown(id, "no answer within 1s")

	id = ask("1m")
	w, err := ws.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(`{"id":"` + id + `","result":{"a":` + strings.Repeat("1", 8<<10))); err != nil { // more than gorilla keeps back
		t.Fatal(err)
	}
	if err := ws.NetConn().Close(); err != nil {
		t.Fatal(err)
	}
	wantUnknown(id, "connection lost")
}
