package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of this file's siblings run the real programs as processes of their own: what a kill leaves behind, what
// is said on standard error and which status a script sees cannot be seen from within. They mostly wait, for disks and
// for each other; so as many as the machine has processors run at once, but for those that measure.

// builds holds the programs that were built, in a folder of their own that TestMain removes.
var builds struct {
	sync.Mutex
	dir  string
	made map[string]bool
}

func TestMain(m *testing.M) {
	// A program with the race detector sleeps for a second as it ends, unless told otherwise; hubctl is run hundreds of times.
	os.Setenv("GORACE", "atexit_sleep_ms=20 "+os.Getenv("GORACE"))
	status := m.Run()
	if builds.dir != "" {
		os.RemoveAll(builds.dir)
	}
	os.Exit(status)
}

// program builds one of the three programs, once, with the race detector when the test has it, and returns its path.
func program(t *testing.T, name string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "telemetryhub-test-")
		if err != nil {
			t.Fatal(err)
		}
		builds.dir, builds.made = dir, map[string]bool{}
	}
	path := filepath.Join(builds.dir, name)
	if builds.made[name] {
		return path
	}
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "telemetryhub/cmd/"+name)...).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	builds.made[name] = true
	return path
}

// need returns the path of a part that the test speaks to. Without it the test is left out; with CI=true it fails.
func need(t *testing.T, name, how string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; exec.Command("test", "-x", path).Run() == nil {
			return path
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: %s", name, how)
		}
		t.Skipf("%s is missing: %s", name, how)
	}
	return path
}

// hubProcess is a running hub.
type hubProcess struct {
	t      *testing.T
	data   string
	args   []string
	url    string // https://127.0.0.1:PORT
	mqtt   string // mqtts://127.0.0.1:PORT
	cmd    *exec.Cmd
	stderr *tail
	ended  chan error
}

// startHub starts a hub on a data folder and returns when it serves. args are added to its command line.
func startHub(t *testing.T, data string, args ...string) *hubProcess {
	t.Helper()
	h := &hubProcess{t: t, data: data, args: args}
	h.start("127.0.0.1:0", "127.0.0.1:0")
	t.Cleanup(func() {
		h.kill()
		if t.Failed() {
			t.Logf("the hub's last words:\n%s", h.stderr)
		}
	})
	return h
}

var announced = regexp.MustCompile(`(https|mqtts)://(\S+)`)

// start starts the hub on these addresses, under wrap's command line if there is one.
func (h *hubProcess) start(listen, mqtt string, wrap ...string) {
	h.t.Helper()
	line := append(wrap, append([]string{program(h.t, "hub"), "--data", h.data, "--listen", listen, "--mqtt-listen", mqtt}, h.args...)...)
	h.cmd = exec.Command(line[0], line[1:]...)
	h.stderr = &tail{}
	h.cmd.Stderr = h.stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	h.ended = ended
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if m := announced.FindStringSubmatch(lines.Text()); m != nil {
			if m[1] == "https" {
				h.url = m[0]
			} else {
				h.mqtt = m[0]
			}
		}
		if strings.Contains(lines.Text(), "CA certificate") {
			break
		}
	}
	cmd := h.cmd
	go func() {
		_, _ = io.Copy(io.Discard, stdout)
		ended <- cmd.Wait()
	}()
	if h.url == "" {
		h.t.Fatalf("the hub did not start: %v\n%s", <-ended, h.stderr)
	}
}

// again starts the hub that was ended, on the ports that it had.
func (h *hubProcess) again() {
	h.t.Helper()
	h.start(strings.TrimPrefix(h.url, "https://"), strings.TrimPrefix(h.mqtt, "mqtts://"))
}

// kill ends the hub as a power cut would, but for the page cache.
func (h *hubProcess) kill() {
	if h.ended != nil {
		// The whole group: what traces the hub, and the hub.
		_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL)
		<-h.ended
		h.ended = nil
	}
}

// terminate asks the hub to stop and returns how it ended.
func (h *hubProcess) terminate() error {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := <-h.ended
	h.ended = nil
	return err
}

func (h *hubProcess) ca() string { return filepath.Join(h.data, "tls", "ca.pem") }

func (h *hubProcess) token() string {
	h.t.Helper()
	token, err := os.ReadFile(filepath.Join(h.data, "admin.token"))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

func (h *hubProcess) tls() *tls.Config {
	h.t.Helper()
	pem, err := os.ReadFile(h.ca())
	if err != nil {
		h.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool}
}

// call makes a REST request as the administrator and decodes the answer into out, if it is not nil.
func (h *hubProcess) call(method, path string, body, out any) int {
	h.t.Helper()
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			h.t.Fatal(err)
		}
		send = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, send)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.token())
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls()}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			h.t.Fatalf("%s %s: %s: %v", method, path, text, err)
		}
	}
	return answer.StatusCode
}

// newDevice registers a device and returns its token.
func (h *hubProcess) newDevice(id string) string {
	h.t.Helper()
	var made struct{ Token string }
	if status := h.call(http.MethodPost, "/api/v1/devices", map[string]string{"id": id}, &made); status != http.StatusCreated {
		h.t.Fatalf("create device %s: %d", id, status)
	}
	return made.Token
}

// simArgs is a simulator's command line for this hub.
func (h *hubProcess) simArgs(args ...string) []string {
	return append([]string{
		"--url", h.url, "--ca", h.ca(), "--admin-token-file", filepath.Join(h.data, "admin.token"), "--json",
		"--mqtt-url", strings.Replace(h.mqtt, "mqtts://", "ssl://", 1),
	}, args...)
}

// simulation is what the simulator says at its end.
type simulation struct {
	Devices, Connected, Sent, Acked, Stored, Lost, Duplicated, Refused, Quarantined, Reconnects int
	AckMs                                                                                       struct{ P50, P99, Max float64 } `json:"ack_ms"`
	Commands                                                                                    struct {
		Received int
		Verified *struct{ Ledger, Executed, Twice, Open, Unknown, Wrong int }
	}
}

// simulate runs the simulator until it ends by itself; what happens meanwhile is during's.
func (h *hubProcess) simulate(during func(ended <-chan struct{}), args ...string) simulation {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), program(h.t, "device-sim"), h.simArgs(args...)...)
	var stdout bytes.Buffer
	words := &tail{}
	cmd.Stdout, cmd.Stderr = &stdout, words
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	var failed error
	go func() {
		failed = cmd.Wait()
		close(ended)
	}()
	if during != nil {
		during(ended)
	}
	<-ended
	var result simulation
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &result); err != nil {
		h.t.Fatalf("the simulator said %q: %v, %v\n%s", stdout.String(), err, failed, words)
	}
	if failed != nil {
		h.t.Errorf("the simulator ended with %v: %+v\n%s", failed, result, words)
	}
	return result
}

// ctl runs hubctl and returns what it prints and its exit status.
func (h *hubProcess) ctl(args ...string) (stdout, stderr string, status int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), program(h.t, "hubctl"), args...)
	cmd.Env = append(os.Environ(), "HUB_URL="+h.url, "HUB_CA="+h.ca(), "HUB_TOKEN="+h.token())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// until asks again until ok says yes. It fails the test when that takes longer than anything that works.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

// tail keeps the last words of a process.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (w *tail) Write(p []byte) (int, error) {
	const kept = 16 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	w.text = w.text[max(0, len(w.text)-kept):]
	return len(p), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}
