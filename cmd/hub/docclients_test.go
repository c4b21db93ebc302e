package main

import (
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// documented is one of the complete devices of docs/clients.
type documented struct {
	name    string
	command func(t *testing.T) []string
}

func documentedDevices() []documented {
	return []documented{
		{"python", func(t *testing.T) []string {
			return pythonClient(t, "websockets", "../../docs/clients/python/device.py")
		}},
		{"node", func(t *testing.T) []string { return nodeDevice(t, "node/device.mjs") }},
		{"go", goDevice},
		{"esp32", esp32Device},
		{"micropython", func(t *testing.T) []string { return nodeClient(t, "micropython.mjs") }},
		{"micropython-in-python", func(t *testing.T) []string {
			return pythonClient(t, "asyncio", "testdata/clients/micropython.py")
		}},
	}
}

// nodeDevice copies a program beside the modules that it imports.
func nodeDevice(t *testing.T, path string) []string {
	t.Helper()
	command := nodeClient(t, "")
	source, err := os.ReadFile("../../docs/clients/" + path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	modules, err := filepath.Abs("testdata/clients/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(program, source, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{command[0], program}
}

func goDevice(t *testing.T) []string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "device")
	if out, err := exec.Command("go", "build", "-o", program, "telemetryhub/docs/clients/go").CombinedOutput(); err != nil {
		t.Fatalf("build docs/clients/go: %v\n%s", err, out)
	}
	return []string{program}
}

// esp32Device is the logic of docs/clients/esp32, built for this machine; its board is testdata/clients/esp32.mjs.
func esp32Device(t *testing.T) []string {
	t.Helper()
	const how = "apt-get install g++ libcjson-dev"
	compiler := need(t, "g++", how)
	if _, err := os.Stat("/usr/include/cjson/cJSON.h"); err != nil {
		missing(t, "cJSON is missing: "+how)
	}
	program := filepath.Join(t.TempDir(), "device")
	out, err := exec.Command(compiler, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-I/usr/include/cjson",
		"-I../../docs/clients/esp32", "-o", program, "testdata/clients/esp32_host.cpp", "-lcjson").CombinedOutput()
	if err != nil {
		t.Fatalf("build docs/clients/esp32: %v\n%s", err, out)
	}
	return append([]string{"env", "HOST_PROGRAM=" + program}, nodeClient(t, "esp32.mjs")...)
}

// Each complete device of docs/clients keeps its readings over a hub that is killed twice: all are acked in the end, and
// stored once. It answers commands and probes, and takes a new token.
func TestTheDevicesOfTheDocs(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	wss := strings.Replace(h.url, "https", "wss", 1)
	commands := map[string][]string{}
	for _, d := range documentedDevices() {
		commands[d.name] = d.command(t)
	}
	var running []*clientProgram
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		tokenFile := filepath.Join(t.TempDir(), "token")
		running = append(running, h.startClient(name, commands[name], map[string]string{
			"HUB": wss, "CA": h.ca(), "TOKEN_FILE": tokenFile, "EVERY": "0.05", "HUB_PY": "../../docs/clients/micropython/hub.py",
		}, tokenFile))
	}
	for round := range 3 {
		if round > 0 {
			h.kill()
			h.again()
		}
		for _, c := range running {
			before := h.latest(c.device)
			until(t, c.device+" to send more", func() bool { return h.latest(c.device) > before+10 })
			h.wantPong(c)
			h.wantRotated(c) // the next connection is made with the new token
		}
	}
	for _, c := range running {
		c.stop(t)
		wantAllNumbers(t, c, h.stored(c.device))
	}
	if a := h.audit(); a.Total.Refused["bad_json"]+a.Total.Refused["bad_params"]+a.Total.Refused["bad_frame"] != 0 || a.Total.Quarantined != 0 {
		t.Errorf("account %+v, want nothing refused or quarantined", a.Total)
	}
}

// wantPong sends commands to a documented device: a known one, an unknown one, and the hub's probe.
func (h *hubProcess) wantPong(c *clientProgram) {
	h.t.Helper()
	if out, errs, status := h.ctl("send", c.device, "ping", "--wait"); status != 0 || !strings.Contains(out, `"pong":true`) {
		h.t.Errorf("ping to %s: status %d, %q, %q\n%s", c.device, status, out, errs, c.words)
	}
	if out, _, status := h.ctl("send", c.device, "fly", "--wait"); status == 0 || !strings.Contains(out, "-32601") {
		h.t.Errorf("fly to %s: status %d, %q, want it rejected", c.device, status, out)
	}
	var probed struct{ Outcome string }
	if status := h.call(http.MethodPost, "/api/v1/devices/"+c.device+"/probe", map[string]any{}, &probed); status != http.StatusOK || probed.Outcome != "answered" {
		h.t.Errorf("probe of %s: status %d, %+v", c.device, status, probed)
	}
}

// wantRotated offers a new token to a documented device, which stores it.
func (h *hubProcess) wantRotated(c *clientProgram) {
	h.t.Helper()
	var rotated struct{ Outcome string }
	if status := h.call(http.MethodPost, "/api/v1/devices/"+c.device+"/credentials/rotate", map[string]any{}, &rotated); status != http.StatusOK || rotated.Outcome != "confirmed" {
		h.t.Errorf("a new token for %s: status %d, %+v\n%s", c.device, status, rotated, c.words)
	}
}

// wantAllNumbers checks that a device's readings are those from 1 on, each once.
func wantAllNumbers(t *testing.T, c *clientProgram, stored []storedReading) {
	t.Helper()
	seen := map[float64]int{}
	for _, r := range stored {
		n, _ := r.Values["n"].(float64)
		seen[n]++
	}
	for n := 1.0; n <= float64(len(stored)); n++ {
		if seen[n] != 1 {
			t.Errorf("%s: of %d readings number %v is stored %d times\n%s", c.device, len(stored), n, seen[n], c.words)
			return
		}
	}
}

// latest returns the number of the newest reading that is stored of a device, 0 if there is none.
func (h *hubProcess) latest(device string) float64 {
	h.t.Helper()
	var latest struct {
		Values map[string]struct{ Value any }
	}
	h.call(http.MethodGet, "/api/v1/devices/"+device+"/latest", nil, &latest)
	n, _ := latest.Values["n"].Value.(float64)
	return n
}
