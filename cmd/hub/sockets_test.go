package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// metric returns the value of a metric without labels.
func (h *hubProcess) metric(name string) float64 {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.url+"/metrics", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.token())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: h.tls()}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if text, is := strings.CutPrefix(lines.Text(), name+" "); is {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return value
		}
	}
	h.t.Fatalf("no metric %s", name)
	return 0
}

// slow is a client that takes its time: what it says at once, and what it says byte by byte afterwards.
type slow struct {
	name    string
	port    string // https or mqtt
	secure  bool   // after a TLS handshake
	says    string
	trickle string
	answer  string // what the hub's last words hold, if it says some
}

// slowClients are all shapes that hold a socket without being served. HTTP/2's are in timeout_test.go.
func slowClients(hello, token string) []slow {
	post := "POST /api/v1/devices/d/telemetry HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nAuthorization: Bearer "
	upgrade := "GET /connect HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer " + token + "\r\n"
	forever := strings.Repeat("x", 1000)
	return []slow{
		{"says nothing", "https", false, "", "", ""},
		{"half a ClientHello", "https", false, hello[:len(hello)/2], "", ""},
		{"a ClientHello byte by byte", "https", false, "", hello[:len(hello)-1], ""},
		{"a ClientHello and no more", "https", false, hello, "", ""},
		{"a ClientHello and half a Finished", "https", false, hello + "\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x35", "", ""},
		{"TLS and no more", "https", true, "", "", ""},
		{"half a head", "https", true, "GET /connect HTTP/1.1\r\nHost: hub\r\n", "", ""},
		{"a head byte by byte", "https", true, "GET / HTTP/1.1\r\nX: ", forever, ""},
		{"an upgrade and no more", "https", true, upgrade, "", ""},
		{"a body byte by byte", "https", true, post + token + "\r\n\r\n", forever, "HTTP/1.1 408 "},
		{"a body byte by byte, of nobody", "https", true, post + "dev_wrong\r\n\r\n", forever, "HTTP/1.1 401 "},
		{"nothing to MQTT", "mqtt", false, "", "", ""},
		{"a ClientHello to MQTT", "mqtt", false, hello, "", ""},
		{"TLS and no CONNECT", "mqtt", true, "", "", ""},
		{"a CONNECT byte by byte", "mqtt", true, "\x10\x7f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x70", forever, ""},
	}
}

// dialSlow opens a slow client's connection.
func (h *hubProcess) dialSlow(c slow) net.Conn {
	h.t.Helper()
	address := strings.TrimPrefix(h.url, "https://")
	if c.port == "mqtt" {
		address = strings.TrimPrefix(h.mqtt, "mqtts://")
	}
	var conn net.Conn
	var err error
	if conn, err = net.Dial("tcp", address); err == nil && c.secure {
		secure := tls.Client(conn, h.tlsFor("127.0.0.1"))
		err, conn = secure.Handshake(), secure
	}
	if err == nil {
		_, err = io.WriteString(conn, c.says)
	}
	if err != nil {
		h.t.Fatalf("%s: %v", c.name, err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (h *hubProcess) tlsFor(name string) *tls.Config {
	config := h.tls()
	config.ServerName = name
	return config
}

// trickle says a text byte by byte and returns when the hub has closed the connection, with what it said.
func trickle(conn net.Conn, text string) string {
	go func() {
		for _, b := range []byte(text) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			<-time.After(50 * time.Millisecond) // the slowness itself
		}
	}()
	said, _ := io.ReadAll(conn) // ends with the hub's close, in whatever way
	return string(said)
}

// Whoever takes its time holds nothing: each ends by its deadline, while a live device is served as always, and all
// that they held is given back.
func TestSlowClientsEndByTheirDeadlinesAndHarmNobody(t *testing.T) {
	h := startHub(t, t.TempDir(), mustConfig(t, "devices:\n  handshake_timeout: 2s\n")...)
	token := h.newDevice("d")
	ws := h.dial("live", h.newDevice("live"))
	until(t, "nobody else", func() bool { return h.metric("hub_sockets_owing") == 0 })
	sockets, goroutines, memory := h.metric("hub_sockets"), h.metric("go_goroutines"), h.metric("process_resident_memory_bytes")

	const each = 10
	clients := slowClients(string(clientHello(t, h.tlsFor("127.0.0.1"))), token)
	began := time.Now()
	type ending struct {
		client slow
		took   time.Duration
		said   string
	}
	endings := make(chan ending, each*len(clients))
	ended := map[string]int{}
	for _, c := range clients {
		for range each {
			conn := h.dialSlow(c)
			go func() {
				said := trickle(conn, c.trickle)
				endings <- ending{c, time.Since(began), said}
			}()
		}
	}
	seq := 0
	for left := each * len(clients); left > 0; {
		select {
		case e := <-endings:
			left--
			ended[e.client.name]++
			if e.took > 45*time.Second { // 2 s, 10 s for a body, and what a busy machine adds
				t.Errorf("%s: ended after %v", e.client.name, e.took)
			}
			if e.client.answer != "" && !strings.HasPrefix(e.said, e.client.answer) {
				t.Errorf("%s: the hub said %.100q, want %s", e.client.name, e.said, e.client.answer)
			}
		case <-time.After(100 * time.Millisecond):
			seq++
			send(t, ws, fmt.Sprintf(`{"id":%d,"method":"telemetry","params":{"values":{"n":%d}}}`, seq, seq))
			if f := receive(t, ws); string(f.Result) != "{}" {
				t.Fatalf("the live device got %+v", f)
			}
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%d slow clients are still there; ended have %v", left, ended)
		}
	}
	if seq < 10 {
		t.Errorf("the live device sent %d readings only", seq)
	}
	until(t, "all sockets to be given back", func() bool { return h.metric("hub_sockets") <= sockets && h.metric("hub_sockets_owing") == 0 })
	until(t, "all goroutines to be given back", func() bool { return h.metric("go_goroutines") <= goroutines+10 })
	most := 64.0 * (1 << 20)
	if raceEnabled {
		most *= 4 // the detector keeps a shadow of all memory
	}
	if grown := h.metric("process_resident_memory_bytes") - memory; grown > most {
		t.Errorf("%d slow clients cost %.0f MB", each*len(clients), grown/(1<<20))
	}
}

// A device that is upgraded and says nothing more, nor answers a ping, ends as any dead connection does.
func TestAnUpgradeAndSilenceEndsWithTheKeepalive(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir(), mustConfig(t, "devices:\n  keepalive: 1s\n")...)
	ws := h.dial("d", h.newDevice("d"))
	ws.SetPingHandler(func(string) error { return nil })
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, 4002) {
		t.Errorf("ended with %v, want 4002", err)
	}
}

// Silent sockets, as many as may be, keep nobody out: the oldest makes room.
func TestSilentSocketsMakeRoom(t *testing.T) {
	const files = 500
	h := &hubProcess{t: t, data: t.TempDir()}
	h.start("127.0.0.1:0", "127.0.0.1:0", "sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, files), "sh")
	t.Cleanup(h.kill)
	token := h.newDevice("d")
	most := int(h.metric("hub_sockets_limit"))
	if want, _ := connectionsWithin(files); int(h.metric("hub_connections_limit")) != want || most >= files {
		t.Errorf("%v connections and %d sockets of %d files, want %d connections", h.metric("hub_connections_limit"), most, files, want)
	}
	address := strings.TrimPrefix(h.url, "https://")
	var silent []net.Conn
	for range most + 100 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		silent = append(silent, conn)
	}
	_ = silent[0].SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil {
		t.Error("the hub spoke to a silent socket")
	}
	ws := h.dial("d", token)
	send(t, ws, `{"id":1,"method":"telemetry","params":{"values":{"n":1}}}`)
	if f := receive(t, ws); string(f.Result) != "{}" {
		t.Errorf("answer %+v", f)
	}
	if crowded := h.metric("hub_sockets_crowded_total"); crowded < 100 {
		t.Errorf("%v made room, want 100 and more", crowded)
	}
	if refused := h.metric("hub_sockets_refused_total"); refused != 0 {
		t.Errorf("%v were refused", refused)
	}
}

// Over the bound a device is told so before the upgrade, with the bound and when to come; operators are let in.
func TestTooManyConnectionsAreToldSo(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir(), mustConfig(t, "devices:\n  max_connections: 1\n")...)
	h.dial("first", h.newDevice("first"))
	token := h.newDevice("second")
	d := websocket.Dialer{TLSClientConfig: h.tls()}
	_, answer, err := d.Dial("wss"+strings.TrimPrefix(h.url, "https")+"/connect", http.Header{"Authorization": {"Bearer " + token}})
	if err == nil || answer == nil {
		t.Fatalf("%v, %v", answer, err)
	}
	body, _ := io.ReadAll(answer.Body)
	seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
	if answer.StatusCode != http.StatusServiceUnavailable || seconds < 30 || seconds > 60 || !bytes.Contains(body, []byte(`"too_many_connections"`)) || !bytes.Contains(body, []byte(`"limit":1`)) {
		t.Errorf("%d, Retry-After %d, %s", answer.StatusCode, seconds, body)
	}
	if out, _, status := h.ctl("why", "second"); status != 0 || !strings.Contains(out, "too_many_connections") {
		t.Errorf("hubctl why: %d %s", status, out)
	}
}
