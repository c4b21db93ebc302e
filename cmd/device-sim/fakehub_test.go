package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const adminToken = "op_test"

// fakeHub is as much of a hub as the simulator needs, and can be told to break its promises. It de-duplicates by boot
// and seq, and stores what it got before it acknowledges.
type fakeHub struct {
	ledger  []map[string]any // what it says of commands
	t       *testing.T
	server  *httptest.Server
	dir     string
	address string

	// Faults; set before use.
	lose     func(device string, values map[string]any) bool // acknowledged and not stored
	double   func(device string, values map[string]any) bool // stored again, 3 ms later
	cutEvery int                                             // drops the connection after so many frames: lost, then stored and not acknowledged, in turn
	refuse   int                                             // upgrades refused with 503 at first
	later    time.Duration                                   // in which they are to come again, if it is not 0
	mute     bool                                            // no acknowledgements
	forget   bool                                            // hello does not tell what is durable

	mu       sync.Mutex
	tokens   map[string]string
	points   map[string]map[int64]map[string]any
	durable  map[string]uint64 // by device and boot
	boots    map[string][]string
	counts   map[string]map[string]uint64
	frames   int
	conns    map[string]*websocket.Conn
	answers  chan map[string]any
	joined   chan string
	received int64 // newest time of receipt, ms
}

func newFakeHub(t *testing.T) *fakeHub {
	t.Helper()
	h := &fakeHub{
		t: t, dir: t.TempDir(), tokens: map[string]string{}, points: map[string]map[int64]map[string]any{},
		durable: map[string]uint64{}, boots: map[string][]string{}, counts: map[string]map[string]uint64{},
		conns: map[string]*websocket.Conn{}, answers: make(chan map[string]any, 100), joined: make(chan string, 10_000),
	}
	h.server = h.unstarted()
	h.server.StartTLS()
	h.address = h.server.Listener.Addr().String()
	t.Cleanup(func() { h.kill() })
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw})
	for name, data := range map[string][]byte{"ca.pem": ca, "admin.token": []byte(adminToken + "\n")} {
		if err := os.WriteFile(filepath.Join(h.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// kill ends the process, as far as a client sees it.
func (h *fakeHub) kill() {
	h.mu.Lock()
	for _, conn := range h.conns {
		_ = conn.UnderlyingConn().Close()
	}
	h.mu.Unlock()
	h.server.CloseClientConnections()
	h.server.Close()
}

// restart serves again where it was killed.
func (h *fakeHub) restart() {
	h.t.Helper()
	listener, err := net.Listen("tcp", h.address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.server = h.unstarted()
	_ = h.server.Listener.Close()
	h.server.Listener = listener
	h.server.StartTLS()
}

func (h *fakeHub) unstarted() *httptest.Server {
	server := httptest.NewUnstartedServer(h.routes())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that are cut on purpose
	return server
}

// args are the flags to reach it.
func (h *fakeHub) args(more ...string) []string {
	return append([]string{
		"--url", "https://" + h.address, "--ca", filepath.Join(h.dir, "ca.pem"),
		"--admin-token-file", filepath.Join(h.dir, "admin.token"), "--json",
	}, more...)
}

func (h *fakeHub) routes() http.Handler {
	mux := http.NewServeMux()
	admin := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+adminToken {
				http.Error(w, "who are you", http.StatusUnauthorized)
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			next(w, r)
		}
	}
	mux.HandleFunc("POST /api/v1/devices", admin(func(w http.ResponseWriter, r *http.Request) {
		var device struct{ ID string }
		_ = json.NewDecoder(r.Body).Decode(&device)
		if h.tokens[device.ID] != "" {
			http.Error(w, "exists", http.StatusConflict)
			return
		}
		h.tokens[device.ID] = "dev_" + device.ID
		h.points[device.ID] = map[int64]map[string]any{}
		h.counts[device.ID] = map[string]uint64{}
		w.WriteHeader(http.StatusCreated)
		h.write(w, map[string]any{"id": device.ID, "token": h.tokens[device.ID]})
	}))
	mux.HandleFunc("POST /api/v1/devices/{id}/token", admin(func(w http.ResponseWriter, r *http.Request) {
		h.tokens[r.PathValue("id")] += "x"
		h.write(w, map[string]any{"id": r.PathValue("id"), "token": h.tokens[r.PathValue("id")]})
	}))
	mux.HandleFunc("GET /api/v1/devices/{id}/telemetry", admin(h.telemetry))
	mux.HandleFunc("GET /api/v1/audit", admin(func(w http.ResponseWriter, _ *http.Request) {
		devices := []map[string]any{}
		for id, c := range h.counts {
			devices = append(devices, map[string]any{
				"device": id, "received": c["received"], "stored": c["stored"], "duplicate": c["duplicate"],
				"quarantined": c["quarantined"], "queued": 0, "refused": map[string]uint64{"bad_json": c["refused"]},
			})
		}
		h.write(w, map[string]any{"devices": devices})
	}))
	mux.HandleFunc("GET /api/v1/commands", admin(func(w http.ResponseWriter, _ *http.Request) {
		h.write(w, map[string]any{"commands": h.ledger, "next": ""})
	}))
	mux.HandleFunc("GET /connect/{id}", h.connect)
	return mux
}

func (h *fakeHub) write(w http.ResponseWriter, body any) {
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.t.Errorf("fake hub: %v", err)
	}
}

func (h *fakeHub) telemetry(w http.ResponseWriter, r *http.Request) {
	const page = 300 // less than is asked for, so that the cursor is followed
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(r.FormValue(name), 10, 64)
		return n
	}
	from, to := max(number("from"), number("cursor")), number("to")
	var times []int64
	for ts := range h.points[r.PathValue("id")] {
		if ts >= from && ts < to {
			times = append(times, ts)
		}
	}
	slices.Sort(times)
	next := ""
	if len(times) > page {
		next = strconv.FormatInt(times[page], 10)
		times = times[:page]
	}
	readings := []map[string]any{}
	for _, ts := range times {
		readings = append(readings, map[string]any{"ts": ts, "values": h.points[r.PathValue("id")][ts]})
	}
	h.write(w, map[string]any{"readings": readings, "next": next})
}

func (h *fakeHub) connect(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	h.mu.Lock()
	refuse, known := h.refuse > 0, r.Header.Get("Authorization") == "Bearer "+h.tokens[id]
	h.refuse--
	h.mu.Unlock()
	if refuse || !known {
		status := http.StatusUnauthorized
		if refuse {
			status = http.StatusServiceUnavailable
		}
		if refuse && h.later > 0 {
			w.Header().Set("Retry-After", "1") // in whole seconds; the body says it exactly
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"detail":"later","retry_after_ms":%d}`, h.later.Milliseconds())
			return
		}
		w.WriteHeader(status)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"hub.v1+json"}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	boot := ""
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.frames++
		if h.cutEvery > 0 && h.frames%h.cutEvery == 0 {
			if h.frames/h.cutEvery%2 == 0 {
				h.frame(conn, id, &boot, data, true)
			}
			h.mu.Unlock()
			return
		}
		h.frame(conn, id, &boot, data, h.mute)
		h.mu.Unlock()
	}
}

type fakeTelemetry struct {
	Boot     string
	Seq      uint64
	TS       *int64
	Values   map[string]any
	Readings []struct {
		TS     *int64
		Values map[string]any
	}
}

// frame takes one frame. With the lock held.
func (h *fakeHub) frame(conn *websocket.Conn, id string, boot *string, data []byte, silent bool) {
	var in struct {
		ID     json.RawMessage
		Method string
		Params json.RawMessage
	}
	if err := json.Unmarshal(data, &in); err != nil {
		h.counts[id]["received"]++
		h.counts[id]["refused"]++
		h.say(conn, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON","data":{"reason":"bad_json"}}}`)
		return
	}
	switch in.Method {
	case "hello":
		var hello struct{ Boot string }
		_ = json.Unmarshal(in.Params, &hello)
		*boot = hello.Boot
		h.boots[id] = append(h.boots[id], hello.Boot)
		h.conns[id] = conn
		ack := h.durable[id+" "+*boot]
		if h.forget {
			ack = 0
		}
		h.say(conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"device":"%s","ack":%d,"keepalive_s":45}}`, in.ID, id, ack))
		h.joined <- id
	case "credentials":
		h.tokens[id] = "dev_renewed"
		h.say(conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"token":"dev_renewed"}}`, in.ID))
	case "telemetry":
		var t fakeTelemetry
		_ = json.Unmarshal(in.Params, &t)
		if t.Boot == "" {
			t.Boot = *boot
		}
		ack, problem := h.take(id, t)
		if problem != "" {
			h.say(conn, `{"jsonrpc":"2.0","method":"hub.notice","params":{"code":"`+problem+`","message":"kept aside"}}`)
		}
		if t.Seq > 0 && !silent {
			h.say(conn, fmt.Sprintf(`{"jsonrpc":"2.0","method":"hub.ack","params":{"boot":"%s","seq":%d}}`, t.Boot, ack))
		}
	case "":
		var answer map[string]any
		_ = json.Unmarshal(data, &answer)
		h.answers <- answer
	}
}

// take stores readings once, and says up to where all are durable. With the lock held.
func (h *fakeHub) take(id string, t fakeTelemetry) (ack uint64, problem string) {
	if t.Values != nil {
		t.Readings = append(t.Readings, struct {
			TS     *int64
			Values map[string]any
		}{t.TS, t.Values})
	}
	key := id + " " + t.Boot
	for i, reading := range t.Readings {
		h.counts[id]["received"]++
		h.received = max(h.received+1, time.Now().UnixMilli())
		ts := h.received
		if reading.TS != nil {
			ts = *reading.TS
		}
		if _, is := reading.Values["temperature"].([]any); is || ts <= clockBehind || reading.Values["n"] != nil && reading.Values["n"].(float64) < 0 {
			h.counts[id]["quarantined"]++
			problem = "quarantined"
			continue
		}
		if t.Seq > 0 {
			seq := t.Seq + uint64(i)
			if seq > h.durable[key]+1 {
				h.t.Errorf("%s sent seq %d of boot %s after %d", id, seq, t.Boot, h.durable[key])
			}
			if seq <= h.durable[key] {
				h.counts[id]["duplicate"]++
				continue
			}
			h.durable[key] = seq
		}
		h.counts[id]["stored"]++
		if h.lose == nil || !h.lose(id, reading.Values) {
			h.points[id][ts] = reading.Values
		}
		if h.double != nil && h.double(id, reading.Values) {
			h.points[id][ts+3] = reading.Values
		}
	}
	return h.durable[key], problem
}

func (h *fakeHub) say(conn *websocket.Conn, frame string) {
	_ = conn.WriteMessage(websocket.TextMessage, []byte(frame)) // the reader finds a broken connection
}

// command sends a frame to a device and returns its answer.
func (h *fakeHub) command(device, frame string) map[string]any {
	h.t.Helper()
	h.mu.Lock()
	h.say(h.conns[device], frame)
	h.mu.Unlock()
	return <-h.answers
}

func (h *fakeHub) count(name string) (sum uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, counts := range h.counts {
		sum += counts[name]
	}
	return sum
}

// testRun runs the program and decodes its JSON.
func testRun(t *testing.T, args []string) (summary, error) {
	t.Helper()
	var stdout, stderr strings.Builder
	err := run(t.Context(), args, &stdout, &stderr)
	t.Logf("stderr: %s", stderr.String())
	var s summary
	if text := stdout.String(); text != "" {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&s); err != nil {
			t.Fatalf("standard output is not the object: %v: %s", err, text)
		}
		if decoder.More() {
			t.Errorf("more than one object on standard output: %s", text)
		}
	}
	return s, err
}
