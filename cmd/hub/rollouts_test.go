package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// rollout is one as hubctl prints it.
type rollout struct {
	ID       string
	State    string
	Cause    string
	Devices  int
	Counts   map[string]int
	Failures int
	Wave     struct{ Number, Of int }
}

func (h *hubProcess) rollout(args ...string) (r rollout, status int) {
	h.t.Helper()
	out, errs, status := h.ctl(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		h.t.Fatalf("%v: %q, %q, %v", args, out, errs, err)
	}
	return r, status
}

func TestACommandReachesManyDevicesInWaves(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	h.background("--devices", "30", "--rate", "1", "--duration", "10m")
	ids := h.online(30)

	out, errs, status := h.ctl("send", "--to", "type=simulated", "ping", "--dry-run")
	if status != 0 || strings.Count(out, "online") != 30 || !strings.Contains(errs, "30 devices, 30 online, 0 offline; waves: 1; nothing was sent") {
		t.Errorf("dry run: status %d, %q, %q", status, out, errs)
	}
	r, status := h.rollout("send", "--to", "tag=device-sim", "ping", "--wave", "1,10", "--pause", "100ms", "--wait")
	if status != 0 || r.State != "done" || r.Counts["done"] != 30 || r.Wave.Of != 4 {
		t.Errorf("ping: status %d, %+v", status, r)
	}
	out, _, _ = h.ctl("commands", "ls", ids[0], "--json")
	if n := strings.Count(out, `"method": "ping"`); n != 1 {
		t.Errorf("%s has %d commands:\n%s", ids[0], n, out)
	}

	r, status = h.rollout("send", "--to", "all", "fly", "--wave", "1", "--max-failures", "3", "--wait")
	if status != 3 || r.State != "stopped" || r.Counts["rejected"] != 3 || r.Counts["pending"] != 27 || r.Cause != "3 of 3 devices failed; the limit is 3" {
		t.Errorf("fly: status %d, %+v", status, r)
	}
	out, _, _ = h.ctl("rollouts", "failed", r.ID)
	if strings.Count(out, "rejected") != 3 || !strings.Contains(out, "-32601") {
		t.Errorf("failed:\n%s", out)
	}
	if r, _ = h.rollout("rollouts", "resume", r.ID, "--max-failures", "2"); r.State != "running" {
		t.Errorf("resumed: %+v", r)
	}
	until(t, "it to be stopped again", func() bool {
		r, _ = h.rollout("rollouts", "show", r.ID)
		return r.State == "stopped"
	})
	if r.Failures != 5 {
		t.Errorf("stopped again: %+v", r)
	}
	if r, _ = h.rollout("rollouts", "cancel", r.ID); r.State != "cancelled" || r.Counts["cancelled"] != 25 || !strings.Contains(r.Cause, "before 25 of 30") {
		t.Errorf("cancelled: %+v", r)
	}
	if _, errs, status = h.ctl("rollouts", "pause", r.ID); status != 1 || !strings.Contains(errs, "cancelled") {
		t.Errorf("pause of a cancelled one: status %d, %q", status, errs)
	}
	if _, errs, status = h.ctl("send", "--to", "id="+ids[0]+",nobody", "ping"); status != 1 || !strings.Contains(errs, "nobody") {
		t.Errorf("an unknown id: status %d, %q", status, errs)
	}
	if out, _, _ = h.ctl("rollouts", "ls"); strings.Count(out, "\n") != 3 {
		t.Errorf("ls:\n%s", out)
	}
	if out, _, _ = h.ctl("metrics"); !strings.Contains(out, "hub_rollouts_open 0") {
		t.Error("metrics do not count the rollouts")
	}
}

func TestWhatATypeRefusesStopsARolloutBeforeItBegins(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(config, []byte("types:\n  - name: pump\n    methods:\n      set:\n        params: {type: object, required: [speed]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, t.TempDir(), "--config", config)
	for _, d := range []struct{ id, kind string }{{"p", "pump"}, {"l", "lamp"}} {
		if status := h.call(http.MethodPost, "/api/v1/devices", map[string]any{"id": d.id, "type": d.kind}, nil); status != http.StatusCreated {
			t.Fatal(status)
		}
	}
	_, errs, status := h.ctl("send", "--to", "all", "set", "level=4")
	if status != 1 || !strings.Contains(errs, "hubctl: p: ") || !strings.Contains(errs, "1 of 2 devices cannot be sent this") {
		t.Errorf("status %d, %q", status, errs)
	}
	if out, _, _ := h.ctl("commands", "ls", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("commands: %s", out)
	}
}

// counter is a device that counts what it is sent, and connects again when the hub is back.
type counter struct {
	id, token string
	mu        sync.Mutex
	ran       int
}

// live connects again and again until the test ends.
func (c *counter) live(h *hubProcess, url string) {
	d := websocket.Dialer{TLSClientConfig: h.tls(), Subprotocols: []string{"hub.v1+json"}}
	for h.t.Context().Err() == nil {
		ws, _, err := d.DialContext(h.t.Context(), "wss"+strings.TrimPrefix(url, "https")+"/connect", http.Header{"Authorization": {"Bearer " + c.token}})
		if err != nil {
			pause := time.NewTimer(50 * time.Millisecond) // the hub is away
			select {
			case <-pause.C:
			case <-h.t.Context().Done():
			}
			continue
		}
		c.serve(h, ws)
	}
}

func (c *counter) serve(h *hubProcess, ws *websocket.Conn) {
	closed := make(chan struct{})
	defer close(closed)
	go func() {
		select {
		case <-h.t.Context().Done():
		case <-closed:
		}
		ws.Close()
	}()
	if ws.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"method":"hello"}`)) != nil {
		return
	}
	for {
		var f frameFromHub
		if ws.ReadJSON(&f) != nil {
			return
		}
		if f.Method != "count" {
			continue
		}
		c.mu.Lock()
		c.ran++
		c.mu.Unlock()
		if ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":%s,"result":true}`, f.ID)) != nil {
			return
		}
	}
}

// TestARolloutGoesOnAfterEachKill kills the hub three times while a rollout is under way, and compares its words with what
// the devices counted.
func TestARolloutGoesOnAfterEachKill(t *testing.T) {
	t.Parallel()
	const devices = 60
	h := startHub(t, t.TempDir())
	counters := map[string]*counter{}
	var group sync.WaitGroup
	t.Cleanup(group.Wait) // the test's context has ended by then
	for i := range devices {
		c := &counter{id: fmt.Sprintf("d%02d", i)}
		c.token = h.newDevice(c.id)
		counters[c.id] = c
		url := h.url
		group.Go(func() { c.live(h, url) })
	}
	h.online(devices)
	r, _ := h.rollout("send", "--to", "all", "count", "--wave", "4", "--pause", "500ms", "--timeout", "5s")
	for range 3 {
		before := r.Counts["done"]
		until(t, "some more waves", func() bool {
			r, _ = h.rollout("rollouts", "show", r.ID)
			return r.Counts["done"] >= before+8
		})
		h.kill()
		h.again()
	}
	until(t, "the rollout's end", func() bool {
		r, _ = h.rollout("rollouts", "show", r.ID)
		return r.State == "done"
	})
	if r.Counts["done"]+r.Counts["unknown"] != devices || r.Counts["unknown"] > 3*4 {
		t.Errorf("outcomes: %+v", r.Counts)
	}
	out, _, _ := h.ctl("rollouts", "devices", r.ID, "--json")
	var outcomes []struct{ Device, Outcome, Cause string }
	if err := json.Unmarshal([]byte(out), &outcomes); err != nil || len(outcomes) != devices {
		t.Fatalf("%q, %v", out, err)
	}
	for _, d := range outcomes {
		c := counters[d.Device]
		c.mu.Lock()
		if c.ran > 1 || d.Outcome == "done" && c.ran != 1 {
			t.Errorf("%s is %s (%s), and ran %d times", d.Device, d.Outcome, d.Cause, c.ran)
		}
		c.mu.Unlock()
	}
}
