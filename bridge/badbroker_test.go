package bridge_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/wire"
)

// badBroker is a broker that a test plays, packet by packet, on each connection. Once it is well, it does what a broker
// should: that the hub gets on with it then is part of each test.
type badBroker struct {
	url string

	mu    sync.Mutex
	well  bool
	conns int
}

// newBadBroker plays each connection, which is the nth, with play until the broker is well.
func newBadBroker(t *testing.T, play func(r *raw, n int)) *badBroker {
	b := &badBroker{}
	b.url = playBroker(t, func(r *raw) {
		b.mu.Lock()
		well, n := b.well, b.conns
		b.conns++
		b.mu.Unlock()
		if !well {
			play(r, n)
			return
		}
		if !r.welcome(false) {
			return
		}
		_ = r.message(`devices/sensor-1/telemetry`, `{"well":true}`, 1, 1, false)
		r.answer(nil)
	})
	return b
}

// recover makes the broker well.
func (b *badBroker) recover() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.well = true
}

func (b *badBroker) connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conns
}

// welcome answers CONNECT and SUBSCRIBE.
func (r *raw) welcome(resumed bool) bool {
	session := byte(0)
	if resumed {
		session = 1
	}
	if pk, err := r.read(); err != nil || pk.FixedHeader.Type != packets.Connect {
		return false
	}
	if _, err := r.conn.Write([]byte{0x20, 2, session, 0}); err != nil {
		return false
	}
	return r.grant()
}

// grant answers SUBSCRIBE, whatever comes before it.
func (r *raw) grant() bool {
	for {
		kind, body, err := r.packet()
		if err != nil {
			return false
		}
		if kind>>4 != packets.Subscribe {
			continue
		}
		granted := append([]byte{0x90, 0}, body[:2]...)
		for at := 2; at < len(body); at += 3 + int(binary.BigEndian.Uint16(body[at:])) {
			granted = append(granted, 1)
		}
		granted[1] = byte(len(granted) - 2)
		_, err = r.conn.Write(granted)
		return err == nil
	}
}

// packet reads any packet.
func (r *raw) packet() (first byte, body []byte, err error) {
	_ = r.conn.SetReadDeadline(time.Now().Add(patience))
	if first, err = r.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, _, err := packets.DecodeLength(r.in)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, size)
	_, err = io.ReadFull(r.in, body)
	return first, body, err
}

// publishPacket writes a PUBLISH by hand: topic may be anything.
func publishPacket(topic, payload string, qos byte, id uint16, dup bool) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	body = append(body, payload...)
	first := byte(packets.Publish<<4) | qos<<1
	if dup {
		first |= 8
	}
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

func (r *raw) message(topic, payload string, qos byte, id uint16, dup bool) error {
	_ = r.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := r.conn.Write(publishPacket(topic, payload, qos, id, dup))
	return err
}

// answer reads what the hub sends until the connection ends or seen says that it is enough; it answers pings
// and acknowledges commands.
func (r *raw) answer(seen func(kind byte, id uint16) (enough bool)) {
	for {
		first, body, err := r.packet()
		if err != nil {
			return
		}
		id := uint16(0)
		if len(body) >= 2 {
			id = binary.BigEndian.Uint16(body)
		}
		switch {
		case first>>4 == packets.Pingreq:
			_, _ = r.conn.Write([]byte{0xd0, 0})
		case first>>4 == packets.Publish && first&6 == 2:
			topic := binary.BigEndian.Uint16(body)
			_, _ = r.conn.Write([]byte{0x40, 2, body[2+topic], body[3+topic]})
		}
		if seen != nil && seen(first>>4, id) {
			return
		}
	}
}

// openBad starts a bridge to a bad broker.
func openBad(t *testing.T, h *hub, b *badBroker, change func(*bridge.ExternalConfig)) *bridge.External {
	t.Helper()
	h.device("sensor-1")
	cfg := externalConfig(b.url)
	if change != nil {
		change(&cfg)
	}
	e, err := bridge.OpenExternal(cfg, h.parts())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeExternal(t, e) })
	return e
}

// wantWell lets the broker be well and waits until the hub takes its message.
func (b *badBroker) wantWell(t *testing.T, h *hub, e *bridge.External) {
	t.Helper()
	b.recover()
	h.journal.until(t, "reading from the broker that is well", func() bool {
		n := len(h.journal.durable)
		return n > 0 && h.journal.durable[n-1] == entry{"sensor-1", "telemetry well=true"}
	})
	wantStats(t, e, "connection", func(s bridge.ExternalStats) bool { return s.Connected && s.Failure == "" && s.LastFailure != "" })
}

// Whatever a broker does instead of its duty, the hub says what it is, comes again after a wait, and is there when the
// broker is well.
func TestExternalLeavesBrokersThatDoNotDoTheirDuty(t *testing.T) {
	silent := func(r *raw) { r.answerNothing() }
	for name, test := range map[string]struct {
		play         func(r *raw, n int)
		want, reason string
	}{
		"answers no CONNECT":   {func(r *raw, _ int) { silent(r) }, "not answered CONNECT within 500ms", "silent"},
		"answers no SUBSCRIBE": {func(r *raw, _ int) { _, _, _ = r.packet(); _, _ = r.conn.Write([]byte{0x20, 2, 0, 0}); silent(r) }, "subscribe: no answer from the broker within 500ms", "silent"},
		"answers no PINGREQ": {func(r *raw, _ int) {
			if r.welcome(false) {
				silent(r)
			}
		}, "the broker has sent nothing for ", "silent"},
		"refuses":                 {func(r *raw, _ int) { _, _, _ = r.packet(); _, _ = r.conn.Write([]byte{0x20, 2, 0, 5}); silent(r) }, "the broker refuses the hub: not Authorized", "refused"},
		"refuses by unknown code": {func(r *raw, _ int) { _, _, _ = r.packet(); _, _ = r.conn.Write([]byte{0x20, 2, 0, 0x87}); silent(r) }, "unknown code 0x87", "protocol"},
		"closes at once":          {func(*raw, int) {}, "ended the connection without an answer to CONNECT", "connect"},
		"speaks HTTP": {func(r *raw, _ int) {
			_, _, _ = r.packet()
			_, _ = io.WriteString(r.conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}, "perhaps the port does not speak MQTT", "protocol"},
		"kicks": {func(r *raw, _ int) {
			r.welcome(false)
			r.answer(func(kind byte, _ uint16) bool { return kind == packets.Pingreq })
		}, `in a row that ends soon after it was accepted: perhaps another client has the client id "hub-7"`, "lost"},
		"grants too much": {func(r *raw, _ int) {
			_, _, _ = r.packet()
			_, _ = r.conn.Write([]byte{0x20, 2, 0, 0})
			_, body, _ := r.packet()
			_, _ = r.conn.Write(append([]byte{0x90, 12, body[0], body[1]}, make([]byte, 10)...))
			silent(r)
		}, "SUBACK has 12 bytes for 4 filters", "protocol"},
		"sends a QoS of 3":       {raws(publishPacket("devices/sensor-1/telemetry", "{}", 3, 1, false)), "a PUBLISH of QoS 3", "protocol"},
		"sends no packet id":     {raws(publishPacket("devices/sensor-1/telemetry", "{}", 1, 0, false)), "has no packet id", "protocol"},
		"has no end of length":   {raws([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), "the length of a packet has more than 4 bytes", "protocol"},
		"sends a huge answer":    {raws([]byte{0x40, 0xff, 0xff, 0xff, 0x7f}), "a packet of type 4 has 268435455 bytes", "protocol"},
		"lies about the topic":   {raws([]byte{0x30, 4, 0xff, 0xff, 'a', 'b'}), "the topic of a PUBLISH is longer than the packet", "protocol"},
		"sends CONNECT":          {raws([]byte{0x10, 2, 0, 0}), "a broker sends no packet of type 1", "protocol"},
		"sends PUBACK of 1 byte": {raws([]byte{0x40, 1, 0}), "a packet of type 4 has 1 bytes", "protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			b := newBadBroker(t, test.play)
			e := openBad(t, h, b, func(cfg *bridge.ExternalConfig) {
				cfg.ClientID = "hub-7"
				if test.reason == "silent" {
					cfg.Timing.Connect, cfg.Timing.Keepalive = 500*time.Millisecond, time.Second
				}
				if test.reason == "lost" {
					cfg.Timing.RetryMax = time.Minute // "soon" is less than this
					cfg.Timing.Keepalive = time.Second
				}
			})
			wantStats(t, e, test.want, func(s bridge.ExternalStats) bool { return strings.Contains(s.LastFailure, test.want) })
			wantStats(t, e, "disconnects that are counted", func(bridge.ExternalStats) bool {
				return h.metricOf(t, "hub_bridge_disconnects_total", "reason", test.reason) >= 1
			})
			b.wantWell(t, h, e)
		})
	}
}

// raws plays a broker that sends these bytes and then waits.
func raws(bytes []byte) func(*raw, int) {
	return func(r *raw, _ int) {
		if r.welcome(false) {
			_, _ = r.conn.Write(bytes)
			r.answer(nil)
		}
	}
}

// answerNothing reads until the hub leaves.
func (r *raw) answerNothing() {
	for {
		if _, _, err := r.packet(); err != nil {
			return
		}
	}
}

// metricOf returns the value of the metric that has that label.
func (h *hub) metricOf(t *testing.T, name, label, value string) float64 {
	t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// The waits between attempts grow, so that a broker that kicks is not hammered.
func TestExternalDoesNotHammerABrokerThatKicks(t *testing.T) {
	h := newHub(t)
	b := newBadBroker(t, func(r *raw, _ int) { r.welcome(false) })
	began := time.Now()
	e := openBad(t, h, b, func(cfg *bridge.ExternalConfig) {
		cfg.Timing.RetryMin, cfg.Timing.RetryMax = 20*time.Millisecond, time.Minute
	})
	wantStats(t, e, "6 connections", func(bridge.ExternalStats) bool { return b.connections() >= 6 })
	// Full jitter may draw short waits; that all five of up to 20, 40, 80, 160 and 320 ms are next to none happens once in 10^8.
	if took := time.Since(began); took < 5*time.Millisecond {
		t.Errorf("6 connections within %s", took)
	}
}

// What one publisher has got past a broker costs that message, not the others and not the connection.
func TestExternalRefusesMessagesThatAreNone(t *testing.T) {
	const large = 10 << 20
	acked := make(chan uint16, 100)
	h := newHub(t)
	b := newBadBroker(t, func(r *raw, _ int) {
		if !r.welcome(false) {
			return
		}
		for n, m := range []struct{ topic, payload string }{
			{"devices/sensor-1/telemetry", `{"n":1}`},
			{"devices/sensor\xff/telemetry", `{"n":1}`},
			{"devices/+/telemetry", `{"n":1}`},
			{"devices/sensor-1/#", `{"n":1}`},
			{"devices/sensor-1/tele\x00metry", `{"n":1}`},
			{"", `{"n":1}`},
			{strings.Repeat("x", 65535), `{"n":1}`},
			{"devices/sensor-1/telemetry", strings.Repeat("x", large)},
			{"devices/sensor-1/telemetry", `{"n":1,"n":2}`},
			{"devices/sensor-1/telemetry", `{"n":NaN}`},
			{"devices/sensor-1/telemetry", ``},
			{"devices/sensor-1/telemetry", `{"n":2}`},
		} {
			if r.message(m.topic, m.payload, 1, uint16(n+1), false) != nil {
				return
			}
		}
		r.answer(func(kind byte, id uint16) bool {
			if kind == packets.Puback {
				acked <- id
			}
			return false
		})
	})
	e := openBad(t, h, b, nil)
	for want := uint16(1); want <= 12; want++ {
		if id := next(t, "PUBACK", acked); id != want {
			t.Fatalf("PUBACK %d, want %d: in the order of receipt", id, want)
		}
	}
	bad := entry{"", bridge.ReasonBadTopic}
	h.journal.wantRefused(t, bad, bad, bad, bad, bad, entry{"", bridge.ReasonTopic}, entry{"sensor-1", wire.ReasonTooLarge},
		entry{"sensor-1", wire.ReasonBadJSON}, entry{"sensor-1", wire.ReasonBadJSON}, entry{"sensor-1", wire.ReasonBadJSON})
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry n=1"}, entry{"sensor-1", "telemetry n=2"})
	// A message gives its place up after its PUBACK is written.
	wantStats(t, e, "one connection and nothing in flight", func(s bridge.ExternalStats) bool {
		return s.Connects == 1 && s.InFlight == 0 && s.InFlightBytes == 0
	})
	var told bool
	for _, event := range h.sessions.Events("sensor-1") {
		told = told || event.Value == large
	}
	if !told {
		t.Errorf("the recorder does not tell that a payload had %d bytes: %+v", large, h.sessions.Events("sensor-1"))
	}
}

// While the hub cannot make readings durable, it reads nothing more: the pings go out all the same, and the connection
// outlives the stall, however long.
func TestExternalOutlivesAStallOfTheJournal(t *testing.T) {
	t.Parallel()
	const messages = 100
	pings := make(chan bool, 1000)
	acked := make(chan uint16, 10*messages)
	h := newHub(t)
	b := newBadBroker(t, func(r *raw, _ int) {
		if !r.welcome(false) {
			return
		}
		for n := range messages {
			if r.message("devices/sensor-1/telemetry", fmt.Sprintf(`{"n":%d}`, n), 1, uint16(n+1), false) != nil {
				return
			}
		}
		r.answer(func(kind byte, id uint16) bool {
			switch kind {
			case packets.Pingreq:
				pings <- true
			case packets.Puback:
				acked <- id
			}
			return false
		})
	})
	h.journal.hold()
	e := openBad(t, h, b, func(cfg *bridge.ExternalConfig) {
		cfg.Window.Messages, cfg.Timing.Connect, cfg.Timing.Keepalive = 5, time.Second, 3*time.Second
	})
	wantStats(t, e, "full window", func(s bridge.ExternalStats) bool { return s.InFlight == 5 && s.Waiting })
	// A command goes out, and that the broker has it cannot be read either.
	if err := h.send("sensor-1", wire.Command{ID: "A", Method: "ping", Attempt: 1, AtLeastOnce: true}); err != nil {
		t.Fatal(err)
	}
	// Pings come each half of the keepalive at most: four of them are more than the 1.5 after which a broker is left.
	for range 4 {
		next(t, "ping", pings)
	}
	if s := e.Stats(); s.Connects != 1 || !s.Connected || s.InFlight != 5 || s.Acked != 0 {
		t.Errorf("stats %+v, want the one connection, stalled", s)
	}
	h.journal.release(nil)
	for want := uint16(1); want <= messages; want++ {
		if id := next(t, "PUBACK", acked); id != want {
			t.Fatalf("PUBACK %d, want %d", id, want)
		}
	}
	wantStats(t, e, "the command, on the one connection", func(s bridge.ExternalStats) bool { return s.Connects == 1 && s.Commands == 1 })
}
