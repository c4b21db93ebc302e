package devices_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
)

// limit gives the device limits of its own.
func (h *hub) limit(id string, limits map[string]int64) {
	h.t.Helper()
	if _, err := h.registry.Update(context.Background(), id, func(d *devices.Device) error { d.Limits = limits; return nil }); err != nil {
		h.t.Fatal(err)
	}
}

// sendAll sends n requests of telemetry as fast as they are read.
func (d *device) sendAll(n int, text string) {
	go func() {
		for i := range n {
			d.send(fmt.Sprintf(`{"id":%d,"method":"telemetry","params":{"values":{"n":%d,"s":"%s"}}}`, i, i, text))
		}
	}()
}

// wantAnswers takes frames until n requests are answered, each once and well, and returns the notices between them.
func (d *device) wantAnswers(n int) (notices []map[string]any) {
	d.t.Helper()
	answered := map[int]bool{}
	for len(answered) < n {
		var f struct {
			ID     *int
			Error  any
			Method string
			Params map[string]any
		}
		text := d.next()
		if err := json.Unmarshal([]byte(text), &f); err != nil || f.Error != nil || f.ID == nil && f.Method != "hub.notice" {
			d.t.Fatalf("%s got %q after %d answers", d.id, text, len(answered))
		}
		if f.ID == nil {
			notices = append(notices, f.Params)
			continue
		}
		if answered[*f.ID] {
			d.t.Fatalf("%s got two answers to %d", d.id, *f.ID)
		}
		answered[*f.ID] = true
	}
	return notices
}

// about compares times that differ by what a bucket begins with.
func about(t *testing.T, what string, took, want time.Duration) {
	t.Helper()
	if took < want-time.Second || took > want+time.Second {
		t.Errorf("%s took %v, want about %v", what, took, want)
	}
}

func TestTooManyMessagesAreReadLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.limit("d1", map[string]int64{devices.LimitMessages: 10, devices.LimitBurst: 2000})
		hasty, calm := h.dial("d1"), h.dial("d2")
		start := time.Now()
		hasty.sendAll(120, "")
		time.Sleep(5 * time.Second) // in the midst of it
		calm.sendAll(200, "")
		if notices := calm.wantAnswers(200); len(notices) > 0 || time.Since(start) != 5*time.Second {
			t.Errorf("another device was told %v after %v", notices, time.Since(start))
		}
		notices := hasty.wantAnswers(120)
		about(t, "120 messages at 10 a second, 20 of them at once,", time.Since(start), 10*time.Second)
		if len(notices) != 1 {
			t.Fatalf("told %v, want one notice in a minute", notices)
		}
		n := notices[0]
		if n["code"] != "rate_limited" || n["of"] != "messages" || n["limit"] != 10.0 || n["value"].(float64) <= 10 || n["retry_after_ms"].(float64) < 1 {
			t.Errorf("told %v", n)
		}
		events := h.sessions.Events("d1")
		if e := events[0]; e.Kind != devices.EventLimit || e.Reason != "rate_limited" || e.Limit != 10 || e.Value <= 10 || !strings.Contains(e.Message, "messages") {
			t.Errorf("recorded %+v", events)
		}
		slowed := h.throttle.Slowed("d1")
		about(t, "the hold", slowed.Held, 10*time.Second)
		if slowed.Limit != devices.LimitMessages || h.throttle.Slowed("d2") != (devices.Slowed{}) {
			t.Errorf("slowed %+v, the other %+v", slowed, h.throttle.Slowed("d2"))
		}
		if lines := strings.Count(h.log.String(), "device is over a limit"); lines != 1 {
			t.Errorf("%d lines in the log, want 1", lines)
		}
		h.session("d1") // still there
	})
}

func TestTooManyBytesAreReadLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.limit("d1", map[string]int64{devices.LimitBytes: 2000, devices.LimitBurst: 1000})
		d := h.dial("d1")
		start := time.Now()
		d.sendAll(20, strings.Repeat("x", 1940)) // of 2000 bytes each, about
		notices := d.wantAnswers(20)
		about(t, "40 KB at 2 KB a second, a frame of 4096 at once,", time.Since(start), 17*time.Second)
		if len(notices) != 1 || notices[0]["of"] != "bytes" || notices[0]["limit"] != 2000.0 {
			t.Errorf("told %v", notices)
		}
	})
}

// One frame holds its sender for 5 s at most, whatever it owes: the pings behind it are answered.
func TestAHoldIsShort(t *testing.T) {
	h := newHub(t)
	h.limit("d1", map[string]int64{devices.LimitBytes: 1024, devices.LimitMaxFrame: 1 << 20})
	p := h.profiles().Of("d1")
	if hold := h.throttle.Take("d1", p, 1<<20); hold.Wait != 0 {
		t.Errorf("a whole bucket asks for %v", hold.Wait)
	}
	for range 5 {
		if hold := h.throttle.Take("d1", p, 1<<20); hold.Wait != 5*time.Second || hold.Limit != devices.LimitBytes {
			t.Errorf("hold %+v", hold)
		}
	}
}

func TestNewLimitsHoldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.limit("d1", map[string]int64{devices.LimitMessages: 1, devices.LimitBurst: 1000})
		d := h.dial("d1")
		start := time.Now()
		d.sendAll(1000, "")
		time.Sleep(10 * time.Second)
		h.limit("d1", map[string]int64{devices.LimitMessages: 100, devices.LimitBurst: 1000})
		d.wantAnswers(1000)
		about(t, "10 at 1 and 990 at 100 a second", time.Since(start), 20*time.Second)
		h.limit("d1", nil)
		synctest.Wait() // who sent has ended
		start = time.Now()
		d.sendAll(1000, "")
		d.wantAnswers(1000)
		about(t, "1000 without a limit", time.Since(start), 0)
	})
}

// Whoever is held is let go when its connection is to end.
func TestAHeldDeviceCanBeSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.limit("d1", map[string]int64{devices.LimitMessages: 1, devices.LimitBurst: 1000})
		d := h.dial("d1")
		d.send(`{"T":1}`, `{"T":2}`)
		synctest.Wait()
		start := time.Now()
		h.sessions.Kick("d1", 4003, "revoked")
		d.wantClose(4003)
		if took := d.endedAt.Sub(start); took > 250*time.Millisecond {
			t.Errorf("gone after %v", took)
		}
		synctest.Wait()
		if err := h.connector.Check(); err != nil {
			t.Error(err)
		}
	})
}

// A device in a loop is told when to come back, comes in then, and costs no other device anything.
func TestTooManyConnectionsAreToldWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.limit("d1", map[string]int64{devices.LimitConnects: 6})
		for range 7 { // the first finds no earlier one, and is not counted
			h.dial("d1")
		}
		_, resp, err := upgrade(h.listener.dial(), "/connect", bearer(h.tokens["d1"]))
		if err == nil || resp == nil || resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "10" {
			t.Fatalf("answer %v, %v", resp, err)
		}
		var problem map[string]any
		body, _ := io.ReadAll(resp.Body)
		if err := json.Unmarshal(body, &problem); err != nil || problem["reason"] != "too_many_reconnects" || problem["limit"] != 6.0 || problem["value"] != 7.0 || problem["retry_after_ms"] != 10_000.0 {
			t.Errorf("problem %s", body)
		}
		h.dial("d2")
		h.session("d1") // the one that it has stays
		events := h.sessions.Events("d1")
		if i := slices.IndexFunc(events, func(e devices.Event) bool { return e.Kind == devices.EventLimit }); i < 0 || events[i].Status != 429 || events[i].Limit != 6 || events[i].Value != 7 {
			t.Errorf("recorded %+v", events)
		}
		if n := h.connector.Refused()["too_many_reconnects"]; n != 1 {
			t.Errorf("counted %d", n)
		}
		time.Sleep(10 * time.Second)
		h.dial("d1")
	})
}

// Wrong credentials use up nothing of the device that they name.
func TestNobodyElseUsesUpADevicesConnections(t *testing.T) {
	h := newHub(t)
	h.limit("d1", map[string]int64{devices.LimitConnects: 2})
	h.dial("d1")
	for range 20 {
		if _, resp, err := upgrade(h.listener.dial(), "/connect", basic("d1", "dev_wrong")); err == nil || resp.StatusCode != 401 {
			t.Fatalf("answer %v, %v", resp, err)
		}
	}
	h.dial("d1")
}

func TestTheLargestFrameIsOfTheType(t *testing.T) {
	h := newHub(t)
	if _, err := h.registry.Update(t.Context(), "d1", func(d *devices.Device) error { d.Type = "meter"; return nil }); err != nil {
		t.Fatal(err)
	}
	meter, other := h.dial("d1"), h.dial("d2")
	if got := meter.welcome(`{}`)["max_frame"]; got != 2048.0 {
		t.Errorf("hello says max_frame %v", got)
	}
	frame := `{"id":1,"method":"telemetry","params":{"values":{"s":"` + strings.Repeat("x", 3000) + `"}}}`
	meter.send(frame)
	if n := meter.wantNotice("frame_too_large"); n["limit"] != 2048.0 || n["value"] != float64(len(frame)) {
		t.Errorf("told %v", n)
	}
	meter.send(`{"id":2,"method":"telemetry","params":{"values":{"T":1}}}`)
	meter.want(result("2"))
	other.send(frame)
	other.want(result("1"))
}

// What is not over a limit costs no memory for long.
func TestDevicesAreForgottenOnceTheirBucketsAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.throttle.Run(ctx) }()
		h.limit("d1", map[string]int64{devices.LimitMessages: 10})
		d := h.dial("d1")
		h.dial("d2")
		d.sendAll(50, "")
		d.wantAnswers(50)
		if n := h.throttle.Meters(); n != 1 {
			t.Errorf("%d meters, want that of the one device with a limit", n)
		}
		time.Sleep(21 * time.Second)
		if n := h.throttle.Meters(); n != 0 {
			t.Errorf("%d meters are left", n)
		}
		cancel()
		<-done
	})
}
