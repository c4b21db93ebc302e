package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runHub runs the program to its end and returns what it says and its exit status.
func runHub(t *testing.T, args ...string) (stderr string, status int) {
	t.Helper()
	var words strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // for one that starts all the same
	defer cancel()
	err := run(ctx, args, noEnvironment, &words, &words)
	words.Reset()
	status = exitStatus(err, &words)
	return words.String(), status
}

func TestWhatHindersTheStartIsSaidInOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().String()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	running := startHub(t, t.TempDir())

	for name, tt := range map[string]struct {
		args   []string
		says   string
		status int
	}{
		"port in use":            {[]string{"--data", t.TempDir(), "--listen", busy, "--mqtt-listen", "off"}, busy + " (key listen)", exitFailed},
		"mqtt port in use":       {[]string{"--data", t.TempDir(), "--listen", "127.0.0.1:0", "--mqtt-listen", busy}, busy, exitFailed},
		"folder is a file":       {[]string{"--data", filepath.Join(file, "data"), "--listen", "127.0.0.1:0"}, "data folder", exitFailed},
		"folder is in use":       {[]string{"--data", running.data, "--listen", "127.0.0.1:0", "--mqtt-listen", "off"}, "another hub is running on the data folder " + running.data, exitFailed},
		"unknown flag":           {[]string{"--dta", "x"}, "--dta", exitUsage},
		"no such configuration":  {[]string{"--config", filepath.Join(file, "none.yaml")}, "none.yaml", exitUsage},
		"wrong address in a key": {[]string{"--listen", "nowhere"}, "listen", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			says, status := runHub(t, tt.args...)
			if status != tt.status || !strings.Contains(says, tt.says) || strings.Count(says, "\n") != 1 {
				t.Errorf("status %d, says %q; want %d and one line with %q", status, says, tt.status, tt.says)
			}
		})
	}
}

func TestAllFaultsOfAConfigurationAreToldAtOnce(t *testing.T) {
	path := writeConfig(t, "listen: \":8443\"\nmqqt:\n  listen: off\ndevices:\n  keepalive: fast\n")
	says, status := runHub(t, "--config", path)
	if status != exitUsage || !strings.Contains(says, ":2: mqqt") || !strings.Contains(says, ":5: devices.keepalive") {
		t.Errorf("status %d, says:\n%s\nwant %d, mqqt of line 2 and devices.keepalive of line 5", status, says, exitUsage)
	}
}

func TestAStoppedHubLeavesNothingBehindAndStartsAgain(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	ws := h.dial("d", h.newDevice("d"))
	send(t, ws, `{"id":1,"method":"telemetry","params":{"values":{"n":1},"ts":1700000000000}}`)
	if f := receive(t, ws); string(f.Result) != "{}" {
		t.Fatalf("answer %+v", f)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.terminate() }()
	notice := receive(t, ws)
	if notice.Method != "hub.notice" || notice.Params.RetryAfter == 0 {
		t.Errorf("before the close came %+v, want a notice with retry_after_ms", notice)
	}
	_, _, err := ws.ReadMessage()
	if !strings.Contains(err.Error(), "1012") || !strings.Contains(err.Error(), "retry_after_ms") {
		t.Errorf("closed with %v, want 1012 and retry_after_ms", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the hub ended with %v", err)
	}
	h.again()
	var latest struct {
		Values map[string]struct{ Value float64 }
	}
	h.call("GET", "/api/v1/devices/d/latest", nil, &latest)
	if latest.Values["n"].Value != 1 {
		t.Errorf("latest after the restart: %+v", latest)
	}
	var device struct {
		Online bool
		Cause  string
	}
	h.call("GET", "/api/v1/devices/d", nil, &device)
	if device.Online || device.Cause != "the hub stopped" {
		t.Errorf("presence after the restart: %+v", device)
	}
}
