package bridge_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/wire"
)

// exchange is one step of a broker's part: it sends, or waits for a packet of the hub's.
type exchange struct {
	payload string // of a PUBLISH; "": none
	dup     bool
	id      uint16
	want    byte // "" payload: a packet of the hub's
	release bool // PUBREL
}

// exchanges plays a broker's part step by step, and tells of each packet that came as wanted.
func (r *raw) exchanges(t *testing.T, steps []exchange, durable func() int, told chan<- string) {
	for _, s := range steps {
		switch {
		case s.payload != "":
			_ = r.message("devices/sensor-1/telemetry", s.payload, 2, s.id, s.dup)
		case s.release:
			_, _ = r.conn.Write([]byte{0x62, 2, 0, byte(s.id)})
		default:
			r.answer(func(kind byte, id uint16) bool {
				if kind == packets.Pingreq && durable() == 0 {
					told <- "ping"
				}
				if kind != packets.Pingreq && (kind != s.want || id != s.id) {
					t.Errorf("the hub sends %s %d, want %s %d", packets.PacketNames[kind], id, packets.PacketNames[s.want], s.id)
				}
				return kind != packets.Pingreq
			})
			told <- fmt.Sprintf("%s %d, durable %d", packets.PacketNames[s.want], s.id, durable())
		}
	}
}

// QoS 2: PUBREC follows the fsync, and until PUBREL nothing that comes again makes a second reading, over this connection
// or the next: as long as the broker has the session.
func TestExternalTakesQoS2Once(t *testing.T) {
	t.Parallel()
	told := make(chan string, 100)
	next2 := make(chan bool)
	h := newHub(t)
	durable := func() int { h.journal.mu.Lock(); defer h.journal.mu.Unlock(); return len(h.journal.durable) }
	const first, second = `{"n":1}`, `{"n":2}`
	connections := [][]exchange{
		{
			{payload: first, id: 7},
			{id: 7, want: packets.Pubrec},
			{payload: first, id: 7, dup: true}, // sent again on the same connection
			{id: 7, want: packets.Pubrec},
			{payload: first, id: 7}, // and without saying so: the id is not released
			{id: 7, want: packets.Pubrec},
		},
		{
			{payload: first, id: 7, dup: true}, // sent again on the next
			{id: 7, want: packets.Pubrec},
			{id: 7, release: true},
			{id: 7, want: packets.Pubcomp},
			{id: 7, release: true}, // a PUBREL that comes again is answered again
			{id: 7, want: packets.Pubcomp},
			{payload: first, id: 7}, // the id is free: a new message that says the same
			{id: 7, want: packets.Pubrec},
			{payload: second, id: 7, dup: true}, // a broker that uses an id again too soon loses nothing
			{id: 7, want: packets.Pubrec},
		},
		{
			{payload: second, id: 7, dup: true}, // a new session: what it sends is new
			{id: 7, want: packets.Pubrec},
		},
	}
	b := newBadBroker(t, func(r *raw, n int) {
		if !r.welcome(n == 1) {
			return
		}
		if n < len(connections) {
			r.exchanges(t, connections[n], durable, told)
		}
		<-next2
	})
	t.Cleanup(func() { close(next2) })
	h.journal.hold()
	e := openBad(t, h, b, func(cfg *bridge.ExternalConfig) {
		cfg.QoS, cfg.Timing.Keepalive = 2, 4*time.Second
	})
	h.journal.until(t, "append", func() bool { return h.journal.appended == 1 })
	if got := next(t, "ping", told); got != "ping" { // which the hub sends when it has sent nothing else
		t.Errorf("acknowledged before it was durable: %s", got)
	}
	h.journal.release(nil)
	for n, want := range [][]string{
		{"Pubrec 7, durable 1", "Pubrec 7, durable 1", "Pubrec 7, durable 1"},
		{"Pubrec 7, durable 1", "Pubcomp 7, durable 1", "Pubcomp 7, durable 1", "Pubrec 7, durable 2", "Pubrec 7, durable 3"},
		{"Pubrec 7, durable 4"},
	} {
		for _, step := range want {
			got := next(t, step, told)
			for got == "ping" {
				got = next(t, step, told)
			}
			if got != step {
				t.Errorf("connection %d: %s, want %s", n, got, step)
			}
		}
		if n == 2 {
			b.recover()
		}
		next2 <- true
	}
	b.wantWell(t, h, e)
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=2"},
		entry{"sensor-1", "telemetry n=2"}, entry{"sensor-1", "telemetry well=true"})
	if s := e.Stats(); s.Repeated != 3 {
		t.Errorf("stats %+v, want 3 repeated", s)
	}
}

// A message that comes again while the first is not durable yet waits with it, though it came on another connection.
func TestExternalHoldsARepeatedQoS2MessageUntilTheFirstIsDurable(t *testing.T) {
	acked := make(chan uint16, 10)
	resent := make(chan bool)
	h := newHub(t)
	b := newBadBroker(t, func(r *raw, n int) {
		if !r.welcome(n > 0) {
			return
		}
		_ = r.message("devices/sensor-1/telemetry", `{"n":1}`, 2, 7, n > 0)
		if n == 0 {
			<-resent
			return
		}
		r.answer(func(kind byte, id uint16) bool {
			if kind == packets.Pubrec {
				acked <- id
			}
			return false
		})
	})
	t.Cleanup(func() { close(resent) })
	h.journal.hold()
	e := openBad(t, h, b, func(cfg *bridge.ExternalConfig) { cfg.QoS = 2 })
	h.journal.until(t, "append", func() bool { return h.journal.appended == 1 })
	wantStats(t, e, "connection", func(s bridge.ExternalStats) bool { return s.Connects == 1 }) // the message may come before it counts
	resent <- true
	wantStats(t, e, "repeated message", func(s bridge.ExternalStats) bool { return s.Repeated == 1 && s.Connects == 2 })
	if s := e.Stats(); s.Acked != 0 || s.InFlight != 1 {
		t.Errorf("stats %+v, want one in flight", s)
	}
	h.journal.release(nil)
	next(t, "PUBREC", acked)
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"})
}

// A broker that redelivers all it has with DUP, again and again: each message is acknowledged each time, in order, and
// the window stays as it is.
func TestExternalAcknowledgesWhatIsRedeliveredForEver(t *testing.T) {
	const messages, times = 20, 30
	acked := make(chan uint16, messages*times)
	h := newHub(t)
	b := newBadBroker(t, func(r *raw, _ int) {
		if !r.welcome(true) {
			return
		}
		go func() {
			for n := range messages * times {
				id := uint16(n%messages + 1)
				if r.message("devices/sensor-1/telemetry", fmt.Sprintf(`{"n":1,"boot":"b","seq":%d}`, id), byte(1+n/messages%2), id, n >= messages) != nil {
					return
				}
			}
		}()
		r.answer(func(kind byte, id uint16) bool {
			if kind == packets.Puback || kind == packets.Pubrec {
				acked <- id
			}
			return false
		})
	})
	e := openBad(t, h, b, func(cfg *bridge.ExternalConfig) {
		cfg.QoS, cfg.Window.Messages = 2, 8
	})
	for n := range messages * times {
		if id, want := next(t, "acknowledgement", acked), uint16(n%messages+1); id != want {
			t.Fatalf("acknowledgement %d is of %d, want %d", n, id, want)
		}
	}
	wantStats(t, e, "empty window", func(s bridge.ExternalStats) bool {
		return s.Received == messages*times && s.Acked == messages*times && s.InFlight == 0 && s.InFlightBytes == 0 && s.Connects == 1
	})
}

// With a real broker: QoS 2 readings without numbers and times, through restarts of the broker while they wait for the
// journal, come once each.
func TestExternalTakesQoS2OnceThroughRestartsOfTheBroker(t *testing.T) {
	m := newMosquitto(t, "max_inflight_messages 0\n")
	h := newHub(t)
	h.device("sensor-1")
	cfg := externalConfig(m.url())
	cfg.QoS = 2
	e := openExternal(t, h, cfg)
	var want []entry
	for round := range 3 {
		device := m.client("device")
		h.journal.hold()
		for range 20 {
			n := len(want)
			wantToken(t, device.Publish("devices/sensor-1/telemetry", 2, false, fmt.Sprintf(`{"n":%d}`, n)))
			want = append(want, entry{"sensor-1", fmt.Sprintf("telemetry n=%d", n)})
		}
		h.journal.until(t, "appends", func() bool { return h.journal.appended == 20*(round+1) })
		m.stop()
		wantStats(t, e, "loss of the connection", func(s bridge.ExternalStats) bool { return !s.Connected })
		if round%2 == 0 {
			h.journal.release(nil) // they become durable while there is no connection,
		}
		m.start()
		wantStats(t, e, "reconnection", func(s bridge.ExternalStats) bool { return s.Connects == uint64(round+2) })
		wantStats(t, e, "repeated messages", func(s bridge.ExternalStats) bool { return s.Repeated == uint64(20*(round+1)) })
		h.journal.release(nil) // or when they have come again
		wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool { return s.InFlight == 0 })
	}
	h.journal.wantDurable(t, want...)
}

// The hub's own words, come back by a map that covers the topic of commands or by brokers in a circle, are not readings.
func TestExternalDoesNotTakeItsOwnWordForADevices(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	h.device("sensor-2")
	cfg := externalConfig(m.url())
	cfg.StatusTopic = "devices/hub/online"
	e := openExternal(t, h, cfg)
	loop := m.client("loop") // what a bridge of brokers would do: a command comes back as telemetry
	defer loop.Disconnect(100)
	commands := make(chan paho.Message, 10)
	wantToken(t, loop.Subscribe("devices/+/command", 1, func(_ paho.Client, m paho.Message) { commands <- m }))
	wantToken(t, loop.Publish("devices/sensor-1/telemetry", 1, false, `{"n":1}`))
	h.wantOnline("sensor-1", true, "bridge:field")
	h.wantReady("sensor-1")
	if err := h.send("sensor-1", wire.Command{ID: "A", Method: "ping", Attempt: 1, AtLeastOnce: true}); err != nil {
		t.Fatal(err)
	}
	c := next(t, "command", commands)
	if c.Retained() {
		t.Error("a command is retained")
	}
	wantStats(t, e, "command", func(s bridge.ExternalStats) bool { return s.Commands == 1 })
	// On its own topic it never comes, for the hub does not subscribe to it. A late subscriber gets none either.
	late := m.client("late")
	defer late.Disconnect(100)
	wantToken(t, late.Subscribe("devices/#", 1, func(_ paho.Client, m paho.Message) {
		if m.Topic() == "devices/sensor-1/command" {
			t.Errorf("a late subscriber gets the command: %s", m.Payload())
		}
	}))
	wantToken(t, loop.Publish("devices/sensor-1/telemetry", 1, false, `{"n":2}`))
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=2"})
	if s := e.Stats(); s.Received != 2 {
		t.Errorf("received %d, want the 2 readings", s.Received)
	}
	if slices.ContainsFunc(h.journal.refused, func(entry) bool { return true }) {
		t.Errorf("refused: %v", h.journal.refused)
	}
}
