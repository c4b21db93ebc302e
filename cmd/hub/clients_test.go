package main

import (
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
)

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
	t.Parallel()
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
