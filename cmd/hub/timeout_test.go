package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// impatient is a whole hub in the test's process, with a second TLS port whose answers must be taken within a moment.
type impatient struct {
	*hubProcess             // of it only what reaches the hub is used
	patient     *hubProcess // the same hub by its own port
	timeout     time.Duration
}

// newDevice has the time that a commit takes.
func (h *impatient) newDevice(id string) string {
	h.t.Helper()
	return h.patient.newDevice(id)
}

func startImpatient(t *testing.T) *impatient {
	t.Helper()
	cfg := defaultConfig()
	cfg.Data, cfg.Listen, cfg.MQTT.Listen = t.TempDir(), "127.0.0.1:0", ""
	log := slog.New(slog.DiscardHandler)
	h, err := openHub(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := h.server(h.handler())
	if server.WriteTimeout != answerTimeout {
		t.Errorf("answers may take %s, want %s", server.WriteTimeout, answerTimeout)
	}
	if server.IdleTimeout != idleTimeout {
		t.Errorf("connections may be idle for %s, want %s", server.IdleTimeout, idleTimeout)
	}
	server.WriteTimeout, server.IdleTimeout = 2*time.Second, 2*time.Second
	server.TLSConfig = h.certs.ServerTLS()
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		h.api.Close()
		_ = server.Close()
		<-served
		if err := h.stop.run(stopBudget, log); err != nil {
			t.Error(err)
		}
	})
	by := func(l net.Listener) *hubProcess {
		return &hubProcess{t: t, data: cfg.Data, url: "https://" + l.Addr().String()}
	}
	return &impatient{by(listener), by(h.listener), server.WriteTimeout}
}

// outlast lets more than the time for an answer go by.
func (h *impatient) outlast() { <-time.After(h.timeout * 3 / 2) }

func TestAWebSocketOutlivesTheTimeForAnAnswer(t *testing.T) {
	t.Parallel()
	h := startImpatient(t)
	ws := h.dial("d", h.newDevice("d"))
	h.outlast()
	send(t, ws, `{"id":1,"method":"telemetry","params":{"values":{"n":1}}}`)
	if f := receive(t, ws); string(f.Result) != "{}" {
		t.Errorf("answer %+v", f)
	}
}

func TestTheLiveStreamOutlivesTheTimeForAnAnswer(t *testing.T) {
	t.Parallel()
	h := startImpatient(t)
	token := h.newDevice("d")
	for _, http2 := range []bool{false, true} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls(), ForceAttemptHTTP2: http2}}
		defer client.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+"/api/v1/live?kind=presence", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+h.token())
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		h.outlast()
		ws := h.dial("d", token)
		lines, seen := bufio.NewScanner(answer.Body), false
		for !seen && lines.Scan() {
			seen = strings.HasPrefix(lines.Text(), "event: presence")
		}
		if !seen {
			t.Errorf("%s: the stream ended: %v", answer.Proto, lines.Err())
		}
		_ = ws.Close()
	}
}

func TestWaitingForACommandOutlivesTheTimeForAnAnswer(t *testing.T) {
	t.Parallel()
	h := startImpatient(t)
	ws := h.dial("d", h.newDevice("d"))
	go func() { // a device that thinks for long
		var command struct{ ID json.RawMessage }
		if ws.ReadJSON(&command) == nil {
			h.outlast()
			_ = ws.WriteMessage(websocket.TextMessage, append(append([]byte(`{"result":{},"id":`), command.ID...), '}'))
		}
	}()
	var sent struct{ State string }
	status := h.call(http.MethodPost, "/api/v1/devices/d/commands?wait=30s", map[string]string{"method": "ping"}, &sent)
	if status != http.StatusCreated || sent.State != "done" {
		t.Errorf("status %d, state %s", status, sent.State)
	}
}

func TestAnAnswerThatNobodyTakesEnds(t *testing.T) {
	t.Parallel()
	h := startImpatient(t)
	config := h.tls()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// RFC 9113: the preface, SETTINGS with INITIAL_WINDOW_SIZE 0, and HEADERS of GET / with the end of the stream.
	var out bytes.Buffer
	out.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	out.Write([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0})
	head := append([]byte{0x82, 0x87, 0x84, 0x41, 9}, "localhost"...) // RFC 7541: indexed fields, then :authority
	out.Write([]byte{0, 0, byte(len(head)), 1, 5, 0, 0, 0, 1})
	out.Write(head)
	if _, err := conn.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	answered := false
	for {
		frame := make([]byte, 9)
		if _, err := io.ReadFull(conn, frame); err != nil {
			t.Fatalf("the stream was not reset (answered: %t): %v", answered, err)
		}
		length := int64(binary.BigEndian.Uint32(frame[:4]) >> 8)
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			t.Fatal(err)
		}
		const headers, reset = 1, 3
		if frame[3] == headers {
			answered = true
		}
		if frame[3] == reset {
			return
		}
	}
}

// Clients of HTTP/2 that hold a connection without a whole request are let go as idle ones are.
func TestHalfARequestOfHTTP2Ends(t *testing.T) {
	t.Parallel()
	h := startImpatient(t)
	conns := map[string]net.Conn{}
	const preface, settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, says := range map[string]string{
		"nothing after the settings": preface + settings,
		"half a frame's head":        preface + settings + "\x00\x00\x40\x01",
		"half of the headers":        preface + settings + "\x00\x00\x40\x01\x05\x00\x00\x00\x01\x82",
		"headers without their end":  preface + settings + "\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82",
	} {
		config := h.tls()
		config.NextProtos = []string{"h2"}
		conn, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, says); err != nil {
			t.Fatal(err)
		}
		conns[name] = conn
	}
	for name, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open after 30 s", name)
		}
	}
}
