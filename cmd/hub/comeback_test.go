package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// farewell is what one device was told at the hub's stop.
type farewell struct {
	notice, reason time.Duration
	at             time.Time
}

// farewellOf reads until the hub says goodbye.
func farewellOf(ws *websocket.Conn) (f farewell, err error) {
	for {
		_, text, err := ws.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) && closed.Code == websocket.CloseServiceRestart {
			var reason struct {
				RetryAfterMs int64 `json:"retry_after_ms"`
			}
			err = json.Unmarshal([]byte(closed.Text), &reason)
			f.reason, f.at = time.Duration(reason.RetryAfterMs)*time.Millisecond, time.Now()
			return f, err
		}
		if err != nil {
			return f, err
		}
		var notice struct {
			Params struct {
				Code         string
				RetryAfterMs int64 `json:"retry_after_ms"`
			}
		}
		if err := json.Unmarshal(text, &notice); err != nil {
			return f, err
		}
		if notice.Params.Code == "hub_stopping" {
			f.notice = time.Duration(notice.Params.RetryAfterMs) * time.Millisecond
		}
	}
}

// At a planned stop each device has a slot of its own, evenly over the time that the hub needs to take them back; those
// that come at their slots are all let in by the hub that was started again.
func TestAFleetComesBackAtItsSlotsAfterAPlannedStop(t *testing.T) {
	const size, rate = 40, 20
	h := startHub(t, t.TempDir(), mustConfig(t, fmt.Sprintf("devices:\n  connect_rate: %d\n", rate))...)
	tokens, sockets := make([]string, size), make([]*websocket.Conn, size)
	for i := range size {
		id := fmt.Sprint("d", i)
		tokens[i] = h.newDevice(id)
		sockets[i] = h.dial(id, tokens[i])
	}
	farewells := make([]farewell, size)
	var told sync.WaitGroup
	for i, ws := range sockets {
		told.Go(func() {
			var err error
			if farewells[i], err = farewellOf(ws); err != nil {
				t.Errorf("device %d: %v", i, err)
			}
			ws.Close()
		})
	}
	if err := h.terminate(); err != nil {
		t.Fatalf("the hub ended with %v", err)
	}
	told.Wait()
	h.again()

	slots := slices.SortedFunc(slices.Values(farewells), func(a, b farewell) int { return int(a.reason - b.reason) })
	const step = time.Second * 10 / (rate * 8) // 0.8 of the rate
	for i, f := range slots {
		if f.notice != f.reason || f.reason < time.Second {
			t.Errorf("slot %d: notice %v, close %v", i, f.notice, f.reason)
		}
		if i > 0 && (f.reason-slots[i-1].reason < step/2 || f.reason-slots[i-1].reason > 10*step) {
			t.Errorf("slots %d and %d are at %v and %v, want them %v apart", i-1, i, slots[i-1].reason, f.reason, step)
		}
	}
	if last := slots[size-1].reason; last < size*step/2 || last > size*step+5*time.Second {
		t.Errorf("the last slot is in %v, want some %v", last, size*step+2*time.Second)
	}

	var back sync.WaitGroup
	for i, f := range farewells {
		back.Go(func() {
			<-time.After(time.Until(f.at.Add(f.reason)))
			if err := h.comeBack(t.Context(), fmt.Sprint("d", i), tokens[i]); err != nil {
				t.Errorf("device %d at its slot: %v", i, err)
			}
		})
	}
	back.Wait()
	if n := h.metric("hub_admissions_total"); n != size {
		t.Errorf("%v were let in, want %d", n, size)
	}
}

// comeBack connects, again while nobody listens; a refusal is an error.
func (h *hubProcess) comeBack(ctx context.Context, id, token string) error {
	d := websocket.Dialer{TLSClientConfig: h.tls(), HandshakeTimeout: time.Minute}
	for {
		ws, answer, err := d.DialContext(ctx, "wss"+strings.TrimPrefix(h.url, "https")+"/connect", http.Header{"Authorization": {"Bearer " + token}})
		switch {
		case err == nil:
			h.t.Cleanup(func() { ws.Close() })
			return nil
		case answer != nil:
			return fmt.Errorf("%s, Retry-After %s", answer.Status, answer.Header.Get("Retry-After"))
		case !errors.Is(err, syscall.ECONNREFUSED):
			return err
		}
		<-time.After(100 * time.Millisecond)
	}
}

// A device that comes back says hello and nothing else, and has all that it missed: the answer names the number to go on
// from, what is desired and how many commands wait; the first command follows unasked.
func TestADeviceResumesInOneRoundTrip(t *testing.T) {
	t.Parallel()
	h := startHub(t, t.TempDir())
	token := h.newDevice("d")
	ws := h.dial("d", token)
	send(t, ws, `{"id":1,"method":"hello","params":{"boot":"b"}}`)
	receive(t, ws)
	send(t, ws, `{"id":2,"method":"telemetry","params":{"seq":1,"readings":[{"values":{"n":1}},{"values":{"n":2}},{"values":{"n":3}}]}}`)
	for acked := false; !acked; {
		f := receive(t, ws)
		acked = f.Method == "hub.ack" && f.Params.Seq == 3
	}
	ws.Close()
	until(t, "the device to be away", func() bool {
		var d struct{ Online bool }
		h.call(http.MethodGet, "/api/v1/devices/d", nil, &d)
		return !d.Online
	})
	if status := h.call(http.MethodPost, "/api/v1/devices/d/commands", map[string]any{"method": "set", "params": map[string]int{"x": 1}}, nil); status >= 300 {
		t.Fatalf("send: %d", status)
	}
	if status := h.call(http.MethodPatch, "/api/v1/devices/d/state", map[string]any{"desired": map[string]int{"interval": 20}}, nil); status >= 300 {
		t.Fatalf("desire: %d", status)
	}

	ws = h.dial("d", token)
	send(t, ws, `{"id":1,"method":"hello","params":{"boot":"b"}}`)
	var welcome struct {
		Ack, Pending   int
		Desired, Delta struct{ Interval int }
	}
	if f := receive(t, ws); json.Unmarshal(f.Result, &welcome) != nil || welcome.Ack != 3 || welcome.Pending != 1 || welcome.Desired.Interval != 20 || welcome.Delta.Interval != 20 {
		t.Errorf("hello was answered with %+v", f)
	}
	if f := receive(t, ws); f.Method != "set" {
		t.Errorf("then came %+v, want the command", f)
	}
}

// A fleet that comes back costs no durable write a device: who is there is written in batches, seconds later.
func TestAConnectionCostsNoDurableWrite(t *testing.T) {
	const size = 60
	cfg := defaultConfig()
	cfg.Data, cfg.Listen, cfg.MQTT.Listen = t.TempDir(), "127.0.0.1:0", ""
	log := slog.New(slog.DiscardHandler)
	hub, err := openHub(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hub.stop.run(stopBudget, log); err != nil {
			t.Error(err)
		}
	})
	h := &hubProcess{t: t, data: cfg.Data, url: "https://" + hub.listener.Addr().String()}
	written := func() (records uint64) {
		streams := hub.bus.JetStream().ListStreams(t.Context())
		for s := range streams.Info() {
			records += s.State.LastSeq
		}
		if err := streams.Err(); err != nil {
			t.Fatal(err)
		}
		return records
	}
	tokens := map[string]string{}
	for i := range size {
		id := fmt.Sprint("d", i)
		tokens[id] = h.newDevice(id)
	}
	before := written()
	for id, token := range tokens {
		ws := h.dial(id, token)
		send(t, ws, `{"id":1,"method":"hello","params":{"boot":"b"}}`)
		if f := receive(t, ws); f.Result == nil {
			t.Fatalf("hello: %+v", f)
		}
	}
	until(t, "presence to be written", func() bool { return written() > before })
	if n := written() - before; n > size/2 {
		t.Errorf("%d connections cost %d durable writes", size, n)
	}
}
