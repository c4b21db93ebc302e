package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The programs in testdata/clients are clients of others: each sends a reading with each of its connections, waits for
// its acknowledgement, answers the command ping, and connects anew when the hub has gone.

// debianPython is the one that Debian's python3-websockets and python3-paho-mqtt are for.
const debianPython = "/usr/bin/python3"

// missing leaves a test out because of a part that is not here; with CI=true it fails it.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// nodeClient is a program for Node, whose modules are installed.
func nodeClient(t *testing.T, name string) []string {
	t.Helper()
	node := need(t, "node", "install Node 20.19 or later")
	builds.Lock() // they are installed once
	defer builds.Unlock()
	if out, err := exec.Command("../../scripts/client-modules.sh").CombinedOutput(); err != nil {
		missing(t, "the Node clients are missing: scripts/client-modules.sh: "+string(out))
	}
	return []string{node, filepath.Join("testdata", "clients", name)}
}

// pythonClient is a program for Debian's Python, which has the module.
func pythonClient(t *testing.T, module, path string) []string {
	t.Helper()
	if out, err := exec.Command(debianPython, "-c", "import "+module).CombinedOutput(); err != nil {
		missing(t, "Python's "+module+" is missing: apt-get install python3-websockets python3-paho-mqtt ("+string(out)+")")
	}
	return []string{debianPython, path}
}

// python runs a program that needs one of Debian's modules.
func python(t *testing.T, module, program string, args ...string) {
	t.Helper()
	command := append(pythonClient(t, module, "-c"), append([]string{program}, args...)...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// clientProgram is a device that runs as a process of its own.
type clientProgram struct {
	device string
	cmd    *exec.Cmd
	words  *tail

	mu    sync.Mutex
	lines []string
	ended bool
}

// startClient starts a new device's program; env is added to what every program gets. The token is in the environment, or
// in a file, if one is named.
func (h *hubProcess) startClient(device string, command []string, env map[string]string, tokenFile ...string) *clientProgram {
	h.t.Helper()
	token := h.newDevice(device)
	for _, file := range tokenFile {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	c := &clientProgram{device: device, words: &tail{}}
	c.cmd = exec.CommandContext(h.t.Context(), command[0], command[1:]...)
	c.cmd.Env = append(os.Environ(), "HUB_URL="+h.url, "HUB_CA="+h.ca(), "DEVICE="+device, "TOKEN="+token, "PYTHONWARNINGS=ignore")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		c.cmd.Env = append(c.cmd.Env, name+"="+env[name])
	}
	c.cmd.Stderr = c.words
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go c.read(stdout)
	return c
}

func (c *clientProgram) read(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		c.mu.Lock()
		c.lines = append(c.lines, lines.Text())
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// want waits until the program has said line.
func (c *clientProgram) want(t *testing.T, line string) {
	t.Helper()
	until(t, c.device+" to say "+line+"; "+c.words.String(), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ended && !slices.Contains(c.lines, line) {
			t.Fatalf("%s ended without saying %q: %q\n%s", c.device, line, c.lines, c.words)
		}
		return slices.Contains(c.lines, line)
	})
}

// stop ends a program that runs for ever.
func (c *clientProgram) stop(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Errorf("%s has ended: %v\n%s", c.device, err, c.words)
	}
	_ = c.cmd.Wait() // killed
}

// wantEnd waits until the program has ended by itself, well.
func (c *clientProgram) wantEnd(t *testing.T) {
	t.Helper()
	until(t, c.device+" to end", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.ended
	})
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%s ended with %v\n%s", c.device, err, c.words)
	}
}

// Clients that know nothing of the hub but its protocol send, are acknowledged, take commands, and come back after the
// hub was killed. Each speaks from a program of its own to the same hub.
func TestClientsOfOthers(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	browser := nodeClient(t, "browser.mjs")
	need(t, "chromium", "apt-get install chromium")
	if _, err := os.Stat("../../web/node_modules/playwright-core"); errors.Is(err, os.ErrNotExist) {
		missing(t, "playwright is missing: make web")
	}
	tls := strings.Replace(h.mqtt, "mqtts", "mqtt", 1)
	var clients []*clientProgram
	names := map[string]string{} // by device
	for _, c := range []struct {
		device  string
		command []string
		from    string
		env     map[string]string
	}{
		{"ws", nodeClient(t, "ws.mjs"), "ws", nil},
		{"mqttjs-4", nodeClient(t, "mqttjs.mjs"), "MQTT.js", map[string]string{"MQTT_VERSION": "4"}},
		{"mqttjs-5", nodeClient(t, "mqttjs.mjs"), "MQTT.js", map[string]string{"MQTT_VERSION": "5"}},
		{"websockets", pythonClient(t, "websockets", "testdata/clients/websockets_client.py"), "websockets", nil},
		{"paho-tls", pythonClient(t, "paho.mqtt.client", "testdata/clients/paho_client.py"), "paho", map[string]string{"MQTT_VERSION": "4", "BROKER_URL": tls}},
		{"paho-wss", pythonClient(t, "paho.mqtt.client", "testdata/clients/paho_client.py"), "paho", map[string]string{"MQTT_VERSION": "5", "BROKER_URL": h.url}},
		{"browser", browser, "a browser", nil},
	} {
		names[c.device] = c.from
		env := map[string]string{"CONNECTIONS": "2"}
		maps.Copy(env, c.env)
		clients = append(clients, h.startClient(c.device, c.command, env))
	}
	transports := map[string]string{"mqttjs-4": "mqtt+wss", "mqttjs-5": "mqtt+wss", "paho-tls": "mqtt", "paho-wss": "mqtt+wss"}
	for round, n := range []string{"1", "2"} {
		for _, c := range clients {
			c.want(t, "acked "+n)
			h.wantPing(c.device, names[c.device], round+1)
			if round == 0 {
				var shown struct{ Transport string }
				h.call("GET", "/api/v1/devices/"+c.device, nil, &shown)
				if want := transports[c.device]; shown.Transport != want && (want != "" || shown.Transport != "wss") {
					t.Errorf("%s came by %q, want %q", c.device, shown.Transport, want)
				}
			}
		}
		if round == 0 {
			h.kill()
			h.again()
		}
	}
	for _, c := range clients {
		c.wantEnd(t)
		got := h.stored(c.device)
		if len(got) != 2 || got[0].Values["n"] != 1.0 || got[1].Values["n"] != 2.0 {
			t.Errorf("%s: stored %v, want the numbers 1 and 2", c.device, got)
		}
	}
}

// wantPing sends the command ping and expects the answer of that client, over its connection of that number.
func (h *hubProcess) wantPing(device, from string, connection int) {
	h.t.Helper()
	out, errs, status := h.ctl("send", device, "ping", "--wait", "--json")
	var sent struct {
		State  string
		Result struct {
			From       string
			Connection int
		}
	}
	if err := json.Unmarshal([]byte(out), &sent); err != nil || status != 0 || sent.State != "done" || sent.Result.From != from || sent.Result.Connection != connection {
		h.t.Errorf("ping to %s: status %d, %v, %q, %q; want an answer over connection %d", device, status, err, out, errs, connection)
	}
}
