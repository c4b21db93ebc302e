package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// processorTime is what the hub's process has used.
func (h *hubProcess) processorTime() time.Duration {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.cmd.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11]) // proc(5): utime and stime, in ticks of 10 ms
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Without a file left for the next socket the hub does not spin; who is there is served, and who waits is let in once
// there are files again.
func TestNoFileForTheNextSocket(t *testing.T) {
	h := startHub(t, t.TempDir())
	token := h.newDevice("waits")
	ws := h.dial("live", h.newDevice("live"))
	send(t, ws, `{"id":1,"method":"telemetry","params":{"values":{"n":1}}}`)
	receive(t, ws)
	limitFiles := func(most string) {
		if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(h.cmd.Process.Pid), "--nofile="+most+":").CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v %s", err, out)
		}
	}
	limitFiles("20") // fewer than it has open
	for _, url := range []string{h.url, h.mqtt} {
		conn, err := net.Dial("tcp", url[strings.LastIndexByte(url, '/')+1:])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	before, since := h.processorTime(), time.Now()
	for i := range 20 {
		send(t, ws, fmt.Sprintf(`{"id":%d,"method":"telemetry","params":{"values":{"n":%d}}}`, i, i))
		if f := receive(t, ws); string(f.Result) != "{}" {
			t.Fatalf("answer %+v", f)
		}
		<-time.After(100 * time.Millisecond)
	}
	if used, took := h.processorTime()-before, time.Since(since); used > took/2 {
		t.Errorf("the hub used %v within %v", used, took)
	}
	limitFiles("4096")
	waits := h.dial("waits", token)
	send(t, waits, `{"id":1,"method":"telemetry","params":{"values":{"n":1}}}`)
	if f := receive(t, waits); string(f.Result) != "{}" {
		t.Errorf("answer %+v", f)
	}
}
