package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// dial connects a device by hand.
func (h *hubProcess) dial(device, token string) *websocket.Conn {
	h.t.Helper()
	d := websocket.Dialer{TLSClientConfig: h.tls(), Subprotocols: []string{"hub.v1+json"}}
	ws, answer, err := d.DialContext(h.t.Context(), "wss"+strings.TrimPrefix(h.url, "https")+"/connect/"+device, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		h.t.Fatalf("connect %s: %v, %v", device, err, answer)
	}
	h.t.Cleanup(func() { ws.Close() })
	return ws
}

func send(t *testing.T, ws *websocket.Conn, frame string) {
	t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		t.Fatal(err)
	}
}

// frameFromHub is any frame that the hub writes.
type frameFromHub struct {
	ID     json.RawMessage
	Method string
	Result json.RawMessage
	Error  *struct {
		Code int
		Data struct {
			Reason       string
			Limit, Value int
		}
	}
	Params struct {
		Code, Message, Boot string
		Seq, From, To       int
		RetryAfter          int `json:"retry_after_ms"`

		ID string // of hub.cancel
		N  int    // of a command set
	}
}

func receive(t *testing.T, ws *websocket.Conn) frameFromHub {
	t.Helper()
	_, text, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	var f frameFromHub
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

// Lines of strace -f -y begin with the thread; a call that others overlap is split into "unfinished" and "resumed".
var (
	socketRead   = regexp.MustCompile(`^(\d+) +read\((\d+)<(?:TCP|socket)[^>]*>`)
	readFinished = regexp.MustCompile(`^(\d+) +<\.\.\. read resumed>`)
	someBytes    = regexp.MustCompile(` = [1-9]\d*$`)
	socketWrite  = regexp.MustCompile(`^\d+ +write\((\d+)<(?:TCP|socket)[^>]*>`)
	journalSync  = regexp.MustCompile(`^(\d+) +f(?:data)?sync\(\d+<[^>]*/JOURNAL/msgs/[^>]*>(.*)$`)
	syncFinished = regexp.MustCompile(`^(\d+) +<\.\.\. f(?:data)?sync resumed>\) *= 0$`)
)

// kill -9 keeps the page cache, so that the fsync comes before the ack is proved by the order of system calls: between
// the read of the device's frame and the write of its ack stands a completed fsync of the journal's block.
func TestTheEnvelopeIsFsyncedBeforeTheAck(t *testing.T) {
	t.Parallel()
	strace := need(t, "strace", "apt-get install strace")
	trace := filepath.Join(t.TempDir(), "trace")
	h := &hubProcess{t: t, data: t.TempDir()}
	t.Cleanup(h.kill)
	h.start("127.0.0.1:0", "127.0.0.1:0", strace, "-f", "-y", "-e", "trace=read,write,fsync,fdatasync", "-e", "signal=none", "-o", trace)
	ws := h.dial("d", h.newDevice("d"))
	send(t, ws, `{"id":1,"method":"hello","params":{"boot":"b"}}`)
	receive(t, ws)
	quiet, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	const readings = 5
	for seq := 1; seq <= readings; seq++ {
		send(t, ws, fmt.Sprintf(`{"method":"telemetry","params":{"seq":%d,"values":{"n":1}}}`, seq))
		if f := receive(t, ws); f.Method != "hub.ack" || f.Params.Seq != seq {
			t.Fatalf("frame %+v, want the ack of %d", f, seq)
		}
	}
	var acks []ackTrace
	until(t, "all acks in the trace", func() bool { // strace writes it when it pleases
		whole, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		acks = acksOf(strings.Split(string(whole), "\n"), bytes.Count(quiet, []byte("\n")))
		return len(acks) >= readings
	})
	for _, ack := range acks {
		if !ack.synced {
			t.Errorf("an ack was written before the journal was synced:\n%s", strings.Join(ack.calls, "\n"))
		}
	}
	t.Logf("from a frame to its ack:\n%s", strings.Join(acks[0].calls, "\n"))
}

// ackTrace is the calls from the read of a device's frame to the write of its ack.
type ackTrace struct {
	calls  []string
	synced bool // one of them is a completed sync of the journal
}

// acksOf returns the acks of frames that were read after the first lines, in which reads may have begun.
func acksOf(lines []string, first int) (acks []ackTrace) {
	var now ackTrace
	socket := ""                                               // the device's, from the read of its frame to the write of the ack
	reading, syncing := map[string]string{}, map[string]bool{} // by thread: what it does, in calls that others overlap
	for i, line := range lines {
		from := ""
		if m := socketRead.FindStringSubmatch(line); m != nil {
			from, reading[m[1]] = m[2], m[2]
		} else if m := readFinished.FindStringSubmatch(line); m != nil {
			from, reading[m[1]] = reading[m[1]], ""
		}
		if i < first {
			continue
		}
		if from != "" && socket == "" && someBytes.MatchString(line) {
			socket, now = from, ackTrace{}
		}
		now.calls = append(now.calls, line)
		if m := journalSync.FindStringSubmatch(line); m != nil {
			now.synced = now.synced || strings.HasSuffix(m[2], "= 0")
			syncing[m[1]] = true
		} else if m := syncFinished.FindStringSubmatch(line); m != nil && syncing[m[1]] {
			now.synced = true
			delete(syncing, m[1])
		}
		if m := socketWrite.FindStringSubmatch(line); m != nil && m[1] == socket {
			acks = append(acks, now)
			socket = ""
		}
	}
	return acks
}

// What strace prints depends on what else the machine does.
func TestAReadThatOthersOverlapIsARead(t *testing.T) {
	for name, trace := range map[string]string{
		"whole": `7  read(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, "", 512) = 86`,
		"split": "7  read(19<TCP:[127.0.0.1:1->127.0.0.1:2]>,  <unfinished ...>\n8  fsync(9</d/other>) = 0\n" + `7  <... read resumed>"", 512) = 86`,
		"after nothing": `7  read(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, 0xc0, 512) = -1 EAGAIN (Resource temporarily unavailable)` + "\n" +
			`7  read(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, "", 512) = 86`,
	} {
		t.Run(name, func(t *testing.T) {
			write := `9  write(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, "", 90 <unfinished ...>`
			if acks := acksOf(strings.Split(trace+"\n"+write, "\n"), 0); len(acks) != 1 || acks[0].synced {
				t.Errorf("without a sync: %+v", acks)
			}
			if acks := acksOf(strings.Split("7  read(19<TCP:[127.0.0.1:1->127.0.0.1:2]>,  <unfinished ...>\n7  <... read resumed>\"\", 512) = 86\n"+write, "\n"), 1); len(acks) != 1 {
				t.Errorf("begun before: %+v", acks)
			}
			sync := "8  fsync(9</d/streams/JOURNAL/msgs/1.blk> <unfinished ...>\n8  <... fsync resumed>)  = 0"
			if acks := acksOf(strings.Split(trace+"\n"+sync+"\n"+write, "\n"), 0); len(acks) != 1 || !acks[0].synced {
				t.Errorf("with a sync: %+v", acks)
			}
		})
	}
}
