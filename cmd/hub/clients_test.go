package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Third-party clients: programs that know nothing of ours.

// debianPython is the one that Debian's python3-websockets and python3-paho-mqtt are for.
const debianPython = "/usr/bin/python3"

// python runs a program that needs one of Debian's modules.
func python(t *testing.T, module, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(debianPython, "-c", "import "+module).CombinedOutput(); err != nil {
		how := "apt-get install python3-websockets python3-paho-mqtt"
		if os.Getenv("CI") == "true" {
			t.Fatalf("Python's %s is missing: %s (%s)", module, how, out)
		}
		t.Skipf("Python's %s is missing: %s", module, how)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, debianPython, append([]string{"-c", program}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPythonsWebsocketsConnectsSendsAndAnswers(t *testing.T) {
	h := startHub(t, t.TempDir())
	token := h.newDevice("py")
	answered := make(chan string, 1)
	go func() {
		h.online(1)
		out, errs, _ := h.ctl("send", "py", "ping", "--wait", "--json")
		answered <- out + errs
	}()
	python(t, "websockets", `
import asyncio, json, ssl, sys
import websockets
url, ca, token = sys.argv[1:]
async def main():
    tls = ssl.create_default_context(cafile=ca)
    async with websockets.connect(url, ssl=tls, subprotocols=["hub.v1+json"], extra_headers={"Authorization": "Bearer " + token}) as ws:
        assert ws.subprotocol == "hub.v1+json", ws.subprotocol
        await ws.send(json.dumps({"id": 1, "method": "telemetry", "params": {"ts": 1700000000000, "values": {"temp": 21.5}}}))
        done = 0
        while done < 2:
            frame = json.loads(await ws.recv())
            if frame.get("id") == 1:
                assert frame["result"] == {}, frame
                done += 1
            elif frame.get("method") == "ping":
                await ws.send(json.dumps({"id": frame["id"], "result": "from Python"}))
                done += 1
        await (await ws.ping())
asyncio.run(main())
`, "wss"+strings.TrimPrefix(h.url, "https")+"/connect/py", h.ca(), token)
	if said := <-answered; !strings.Contains(said, "from Python") || !strings.Contains(said, "done") {
		t.Errorf("the operator was told %s", said)
	}
	if got := h.stored("py"); len(got) != 1 || got[0].Values["temp"] != 21.5 {
		t.Errorf("stored %v", got)
	}
}

func TestPythonsPahoSpeaksToTheEmbeddedBroker(t *testing.T) {
	h := startHub(t, t.TempDir())
	token := h.newDevice("py")
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(h.mqtt, "mqtts://"))
	python(t, "paho.mqtt.client", `
import json, sys
import paho.mqtt.client as mqtt
host, port, ca, token = sys.argv[1:]
for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    try:
        c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, client_id="c", protocol=version)
    except AttributeError:
        c = mqtt.Client(client_id="c", protocol=version)
    c.tls_set(ca)
    c.username_pw_set("py", token)
    c.connect(host, int(port))
    c.loop_start()
    m = c.publish("devices/py/telemetry", json.dumps({"ts": 1700000000000 + version, "values": {"version": version}}), qos=1)
    m.wait_for_publish()
    c.disconnect()
    c.loop_stop()
`, host, port, h.ca(), token)
	if got := h.stored("py"); len(got) != 2 {
		t.Errorf("stored %v, want one reading of each version", got)
	}
}

// mosquitto starts a broker of its own for the test and returns its address.
func mosquitto(t *testing.T) string {
	t.Helper()
	path := need(t, "mosquitto", "apt-get install mosquitto")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\n", port), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	until(t, "mosquitto to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

func TestDevicesBehindARealMosquittoAreReadAndCommanded(t *testing.T) {
	broker := mosquitto(t)
	h := startHub(t, t.TempDir(), mustConfig(t, "bridge:\n  brokers:\n    - name: site\n      url: tcp://"+broker+"\n")...)
	args := slices.DeleteFunc(h.simArgs("--protocol", "mqtt", "--devices", "5", "--rate", "20", "--verify", "--duration", "5s"), func(a string) bool {
		return a == "--mqtt-url" || strings.HasPrefix(a, "ssl://")
	})
	cmd := exec.CommandContext(t.Context(), program(t, "device-sim"), append(args, "--mqtt-url", "tcp://"+broker)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	words := &tail{}
	cmd.Stderr = words
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ids := h.online(5)
	out, errs, status := h.ctl("send", ids[0], "ping", "--wait")
	if status != 0 || !strings.Contains(out, "pong") {
		t.Errorf("ping through the broker: status %d, %q, %q", status, out, errs)
	}
	var device struct{ Transport string }
	if h.call(http.MethodGet, "/api/v1/devices/"+ids[0], nil, &device); device.Transport != "bridge:site" {
		t.Errorf("transport %q, want bridge:site", device.Transport)
	}
	var result simulation
	if err := json.NewDecoder(stdout).Decode(&result); err != nil {
		t.Fatalf("%v\n%s", err, words)
	}
	if err := cmd.Wait(); err != nil || result.Lost != 0 || result.Duplicated != 0 || result.Stored != result.Sent || result.Sent == 0 {
		t.Errorf("%v: %+v\n%s", err, result, words)
	}
}
