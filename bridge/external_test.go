package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices"
	"telemetryhub/wire"
)

func externalConfig(url string) bridge.ExternalConfig {
	cfg := bridge.DefaultExternalConfig()
	cfg.Name, cfg.URL, cfg.Username, cfg.Password = "field", url, "bridge", "secret"
	cfg.Timing.RetryMin, cfg.Timing.RetryMax = 10*time.Millisecond, 50*time.Millisecond
	return cfg
}

// openExternal starts a bridge and waits until it is connected.
func openExternal(t *testing.T, h *hub, cfg bridge.ExternalConfig) *bridge.External {
	t.Helper()
	e, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeExternal(t, e) })
	wantStats(t, e, "a connection", func(s bridge.ExternalStats) bool { return s.Connected })
	return e
}

func closeExternal(t *testing.T, e *bridge.External) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
}

// wantStats waits until the bridge's numbers are as wanted.
func wantStats(t *testing.T, e *bridge.External, what string, ok func(bridge.ExternalStats) bool) {
	t.Helper()
	poll, timeout := time.NewTicker(2*time.Millisecond), time.After(patience)
	defer poll.Stop()
	for !ok(e.Stats()) {
		select {
		case <-poll.C:
		case <-timeout:
			t.Fatalf("no %s: %+v", what, e.Stats())
		}
	}
}

func TestExternalDevicesAreLikeAnyOther(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	h.device("sensor-2")
	if _, err := h.registry.Update(t.Context(), "sensor-2", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	cfg := externalConfig(m.url())
	cfg.Prefix = "plant/7"
	e := openExternal(t, h, cfg)
	device := m.client("device")
	defer device.Disconnect(100)
	commands := make(chan paho.Message, 10)
	wantToken(t, device.Subscribe("plant/7/sensor-1/command", 1, func(_ paho.Client, m paho.Message) { commands <- m }))

	publish := func(topic, payload string, retained bool) { wantToken(t, device.Publish(topic, 1, retained, payload)) }
	publish("plant/7/sensor-1/telemetry", `{"Temp":21.5}`, false)
	publish("plant/7/sensor-1/event", `{"name":"door"}`, false)
	publish("plant/7/sensor-1/telemetry", `{"Temp":`, false)
	publish("plant/7/nobody/telemetry", `{"Temp":1}`, false)
	publish("plant/7/sensor-2/telemetry", `{"Temp":1}`, false)
	publish("plant/7/sensor-1/telemetry", `{"v":"`+strings.Repeat("x", wire.DefaultMaxFrame)+`"}`, false)
	publish("plant/7/sensor-1/telemetry", `{"values":{"Temp":1},"measurement":"`+tooMuch+`"}`, false)
	publish("plant/7/sensor-1/telemetry", `{"Temp":22}`, false)
	h.journal.wantRefused(t, entry{"sensor-1", wire.ReasonBadJSON}, entry{"", bridge.ReasonUnknownDevice},
		entry{"sensor-2", bridge.ReasonDisabled}, entry{"sensor-1", wire.ReasonTooLarge}, entry{"sensor-1", wire.ReasonTooLarge})
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry Temp=21.5"}, entry{"sensor-1", `event name="door" severity="info"`}, entry{"sensor-1", "telemetry Temp=22"})
	wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool {
		return s.Received == 8 && s.Acked == 8 && s.Refused == 5 && s.InFlight == 0 && s.Devices == 1
	})

	for device, reason := range map[string]string{"sensor-1": wire.ReasonBadJSON, "sensor-2": bridge.ReasonDisabled} {
		if !slices.ContainsFunc(h.sessions.Events(device), func(e devices.Event) bool { return e.Kind == devices.EventUnusable && e.Reason == reason }) {
			t.Errorf("%s: the recorder has no %s: %+v", device, reason, h.sessions.Events(device))
		}
	}

	h.wantOnline("sensor-1", true, "bridge:field")
	h.wantReady("sensor-1")
	if err := h.send("sensor-1", wire.Command{ID: "A", Method: "ping", Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	if c := next(t, "command", commands); c.Retained() || c.Qos() != 0 || string(c.Payload()) != `{"jsonrpc":"2.0","id":"A","method":"ping","attempt":1}` {
		t.Errorf("command %s, retained %v, QoS %d", c.Payload(), c.Retained(), c.Qos())
	}
	publish("plant/7/sensor-1/response", `{"method":"progress","params":{"id":"A","status":"received"}}`, false)
	if p := next(t, "progress", h.answers.progress); p.ID != "A" || p.Status != wire.ProgressReceived {
		t.Errorf("progress %+v", p)
	}
	publish("plant/7/sensor-1/response", `{"id":"A","result":"pong"}`, false)
	if a := next(t, "answer", h.answers.answered); a.ID != "A" || string(a.Result) != `"pong"` {
		t.Errorf("answer %+v", a)
	}
	closeExternal(t, e)
	if p := h.wantOnline("sensor-1", false, ""); !strings.Contains(p.Cause, "external broker") {
		t.Errorf("cause %q", p.Cause)
	}
}

func TestExternalConnectsByTLSAndWebSocket(t *testing.T) {
	_, ca := selfSigned(t)
	overTLS, overWS := freePort(t), freePort(t)
	m := newMosquitto(t, fmt.Sprintf("listener %d 127.0.0.1\ncertfile %s\nkeyfile %s\nlistener %d 127.0.0.1\nprotocol websockets\n",
		overTLS, ca, filepath.Join(filepath.Dir(ca), "key.pem"), overWS))
	h := newHub(t)
	h.device("sensor-1")
	device := m.client("device")
	defer device.Disconnect(100)
	for n, url := range []string{fmt.Sprintf("mqtts://127.0.0.1:%d", overTLS), fmt.Sprintf("ws://127.0.0.1:%d", overWS)} {
		cfg := externalConfig(url)
		if n == 0 {
			cfg.TLS.CAFile = ca
		}
		e := openExternal(t, h, cfg)
		wantToken(t, device.Publish("devices/sensor-1/telemetry", 2, false, `{"n":1}`))
		h.journal.until(t, url, func() bool { return len(h.journal.durable) == n+1 })
		closeExternal(t, e)
	}
	cfg := externalConfig(fmt.Sprintf("mqtts://127.0.0.1:%d", overTLS))
	e, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, e, "distrust of an unknown authority", func(s bridge.ExternalStats) bool { return strings.Contains(s.Failure, "certificate") })
	closeExternal(t, e)
}

func TestExternalRetainedMessagesMakeNoNewReading(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	h.device("sensor-2")
	device := m.client("device")
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, true, `{"values":{"Temp":1},"age_ms":0}`))
	wantToken(t, device.Publish("devices/sensor-2/telemetry", 1, true, `{"values":{"Temp":2},"ts":1458031648545}`))
	device.Disconnect(100)
	openExternal(t, h, externalConfig(m.url()))
	h.journal.wantRefused(t, entry{"sensor-1", bridge.ReasonRetained})
	h.journal.wantDurable(t, entry{"sensor-2", "telemetry Temp=2"})
	if p := h.sessions.Presence("sensor-2"); p.Online {
		t.Error("a retained message was taken for a sign of life")
	}
}

func TestExternalDoesNotDisplaceADirectConnection(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	openExternal(t, h, externalConfig(m.url()))
	device := m.client("device")
	defer device.Disconnect(100)
	n := 0
	publish := func() {
		n++
		wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, fmt.Sprintf(`{"n":%d}`, n)))
		h.journal.until(t, "reading", func() bool { return len(h.journal.durable) == n })
	}
	publish()
	h.wantOnline("sensor-1", true, "bridge:field")
	direct := h.sessions.Attach(devices.Attachment{Device: "sensor-1", Transport: "wss", Link: deaf{}})
	publish()
	publish()
	if p := h.sessions.Presence("sensor-1"); p.Transport != "wss" || p.Session != direct.ID() {
		t.Fatalf("presence %+v, want the direct connection", p)
	}
	direct.Detach("gone")
	publish()
	h.wantOnline("sensor-1", true, "bridge:field")
	h.sessions.Kick("sensor-1", wire.CloseRevoked, "credentials revoked")
	h.wantOnline("sensor-1", false, "")
	publish()
	h.wantOnline("sensor-1", true, "bridge:field")
}

// deaf is a link that takes nothing.
type deaf struct{}

func (deaf) Send(wire.Command) error { return errors.New("deaf") }
func (deaf) Cancel(string) error     { return errors.New("deaf") }
func (deaf) Desire(wire.State)       {}
func (deaf) Close(int, string)       {}

func TestExternalTakesWhatCameWhileTheHubWasDown(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	cfg := externalConfig(m.url())
	e := openExternal(t, h, cfg)
	device := m.client("device")
	defer device.Disconnect(100)
	// What the journal did not commit is not acknowledged, neither by a fault nor by a stop.
	h.journal.hold()
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"n":0}`))
	h.journal.until(t, "append", func() bool { return h.journal.appended == 1 })
	h.journal.release(errors.New("disk full"))
	wantStats(t, e, "failure", func(s bridge.ExternalStats) bool { return strings.Contains(s.Failure, "disk full") || s.Connects > 1 })
	h.journal.hold()
	if e.Stats().Acked != 0 {
		t.Error("an uncommitted message was acknowledged")
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = e.Close(short) // in time or not: the journal stands still
	var want []entry
	for n := range 50 {
		want = append(want, entry{"sensor-1", fmt.Sprintf("telemetry n=%d", n)})
		if n > 0 {
			wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, fmt.Sprintf(`{"n":%d}`, n)))
		}
	}
	h.journal.abandon()
	openExternal(t, h, cfg)
	h.journal.wantDurable(t, want...)
}

// abandon forgets what is open, as the end of the process would.
func (j *journal) abandon() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held, j.broken, j.open = false, nil, nil
	clear(j.waiters)
}

func TestExternalSurvivesTheBrokersRestart(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("clean session %v", clean), func(t *testing.T) {
			m := newMosquitto(t, "")
			h := newHub(t)
			h.device("sensor-1")
			cfg := externalConfig(m.url())
			cfg.CleanSession = clean
			e := openExternal(t, h, cfg)
			before := m.client("device")
			wantToken(t, before.Publish("devices/sensor-1/telemetry", 1, false, `{"n":0}`))
			h.wantOnline("sensor-1", true, "bridge:field")
			h.journal.hold() // so that some are not acknowledged when Mosquitto goes
			for n := 1; n < 10; n++ {
				wantToken(t, before.Publish("devices/sensor-1/telemetry", 1, false, fmt.Sprintf(`{"n":%d}`, n)))
			}
			m.stop()
			wantStats(t, e, "loss of the connection", func(s bridge.ExternalStats) bool { return !s.Connected })
			h.wantOnline("sensor-1", false, "")
			h.journal.release(nil)
			m.start()
			wantStats(t, e, "reconnection", func(s bridge.ExternalStats) bool { return s.Connected })
			after := m.client("device")
			defer after.Disconnect(100)
			wantToken(t, after.Publish("devices/sensor-1/telemetry", 1, false, `{"n":10}`))
			for n := range 11 {
				if clean && n > 0 && n < 10 {
					continue // a broker keeps nothing for a clean session
				}
				want := entry{"sensor-1", fmt.Sprintf("telemetry n=%d", n)}
				h.journal.until(t, want.text, func() bool { return slices.Contains(h.journal.durable, want) })
			}
			h.wantOnline("sensor-1", true, "bridge:field")
		})
	}
}

func TestExternalWindowBoundsWhatIsNotAcknowledged(t *testing.T) {
	m := newMosquitto(t, "max_inflight_messages 0\n")
	h := newHub(t)
	h.device("sensor-1")
	cfg := externalConfig(m.url())
	cfg.Window.Messages = 5
	e := openExternal(t, h, cfg)
	device := m.client("device")
	defer device.Disconnect(100)
	h.journal.hold()
	var want []entry
	for n := range 200 {
		wantToken(t, device.Publish("devices/sensor-1/telemetry", byte(n%2), false, fmt.Sprintf(`{"n":%d}`, n)))
		want = append(want, entry{"sensor-1", fmt.Sprintf("telemetry n=%d", n)})
	}
	h.journal.until(t, "full window", func() bool { return h.journal.appended == 5 })
	if s := e.Stats(); s.InFlight != 5 || s.Acked != 0 {
		t.Errorf("stats %+v, want 5 in flight", s)
	}
	h.journal.release(nil)
	h.journal.wantDurable(t, want...)
	wantStats(t, e, "empty window", func(s bridge.ExternalStats) bool { return s.InFlight == 0 && s.Acked == 200 })
}

func TestExternalEndsIdleDevices(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	cfg := externalConfig(m.url())
	cfg.Timing.Idle = time.Second
	openExternal(t, h, cfg)
	device := m.client("device")
	defer device.Disconnect(100)
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"n":0}`))
	h.wantOnline("sensor-1", true, "bridge:field")
	if p := h.wantOnline("sensor-1", false, ""); p.Cause != "no message for 1s" {
		t.Errorf("cause %q", p.Cause)
	}
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"n":1}`))
	h.wantOnline("sensor-1", true, "bridge:field")
}

// playBroker accepts connections and lets the test play the broker on each.
func playBroker(t *testing.T, play func(*raw)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var playing sync.WaitGroup
	playing.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			playing.Go(func() {
				defer conn.Close()
				play(newRaw(t, conn, 4))
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); playing.Wait() })
	return "mqtt://" + l.Addr().String()
}

func TestExternalReportsARefusedSubscription(t *testing.T) {
	url := playBroker(t, func(r *raw) {
		_, _ = r.read()                            // CONNECT
		_, _ = r.conn.Write([]byte{0x20, 2, 0, 0}) // CONNACK
		pk, err := r.read()                        // SUBSCRIBE, of which the id is taken from its body
		if err != nil || pk.FixedHeader.Type != packets.Subscribe {
			return
		}
		_, _ = r.conn.Write([]byte{0x90, 6, 0, 1, 1, 0x80, 1, 1})
		_, _ = r.read()
	})
	h := newHub(t)
	e, err := bridge.OpenExternal(externalConfig(url), h.parts())
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, e, "failure", func(s bridge.ExternalStats) bool { return strings.Contains(s.Failure, "refused devices/+/") })
	if s := e.Stats(); s.Connected || s.Connects != 0 {
		t.Errorf("stats %+v, want not connected", s)
	}
	closeExternal(t, e)
}

func TestExternalClosesWhileTheBrokerIsSilent(t *testing.T) {
	connected := make(chan bool, 1)
	url := playBroker(t, func(r *raw) {
		if _, err := r.read(); err == nil {
			connected <- true
		}
		_, _ = r.read()
	})
	h := newHub(t)
	e, err := bridge.OpenExternal(externalConfig(url), h.parts())
	if err != nil {
		t.Fatal(err)
	}
	next(t, "CONNECT", connected)
	began := time.Now()
	closeExternal(t, e)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("closing took %s while the broker kept silent", took)
	}
}

// A journal without room holds nobody's stop up, for it is stopped itself only afterwards.
func TestExternalClosesWhileTheJournalHasNoRoom(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	e := openExternal(t, h, externalConfig(m.url()))
	device := m.client("device")
	defer device.Disconnect(100)
	wantToken(t, device.Publish("devices/sensor-1/telemetry", 1, false, `{"measurement":"no-room","values":{"a":1}}`))
	h.journal.until(t, "a message that waits for room", func() bool { return h.journal.appended == 1 })
	at, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan error, 1)
	go func() { closed <- e.Close(at) }()
	_ = next(t, "end", closed) // that it was not in time is said
	if s := e.Stats(); s.Acked != 0 {
		t.Errorf("acknowledged what has no room: %+v", s)
	}
}
