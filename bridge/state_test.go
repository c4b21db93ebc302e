package bridge_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"telemetryhub/bridge"
	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

// states keeps what devices report. What is reported is durable at once, unless it is held.
type states struct {
	mu       sync.Mutex
	current  wire.State
	err      error
	hold     bool
	held     []func()
	reported chan string
}

func newStates() *states { return &states{reported: make(chan string, 1000)} }

func (s *states) Report(device string, patch []byte, done func(version uint64, err error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	if s.hold {
		s.held = append(s.held, func() { done(1, err) })
	} else {
		go done(1, err)
	}
	s.reported <- device + " " + string(patch)
	return nil
}

func (s *states) State(string) wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *states) set(change func(s *states)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *states) release() {
	s.mu.Lock()
	held := s.held
	s.hold, s.held = false, nil
	s.mu.Unlock()
	for _, done := range held {
		done()
	}
}

func desiredState(version uint64) wire.State {
	return wire.State{Version: version, Desired: fmt.Appendf(nil, `{"n":%d}`, version), Delta: []byte(`{"n":0}`)}
}

func wantState(t *testing.T, pk packets.Packet, topic string, version uint64, qos byte) {
	t.Helper()
	if want := string(wire.AppendStateParams(nil, desiredState(version))); pk.TopicName != topic || string(pk.Payload) != want || pk.FixedHeader.Qos != qos || pk.FixedHeader.Retain {
		t.Errorf("%s came on %s with %+v, want %s on %s with QoS %d", pk.Payload, pk.TopicName, pk.FixedHeader, want, topic, qos)
	}
}

// A PUBACK of a report follows its fsync; what can never be durable is refused, and when the hub stops there is none.
func TestBrokerAcknowledgesDurableReports(t *testing.T) {
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", h.device("sensor-1"))
		r.publish("devices/sensor-1/state", `{"reported":{"a":1}}`, 1, false)
		r.want(packets.Puback)
		r.publish("devices/sensor-1/state", `{"a":2,"b":null}`, 1, true)
		r.want(packets.Puback)
		for _, want := range []string{`sensor-1 {"a":1}`, `sensor-1 {"a":2,"b":null}`} {
			if got := next(t, "report", h.states.reported); got != want {
				t.Errorf("reported %s, want %s", got, want)
			}
		}
		h.states.set(func(s *states) {
			s.err = &wire.Error{Code: wire.CodeTooLarge, Reason: wire.ReasonStateTooLarge, Message: "large"}
		})
		id := r.publish("devices/sensor-1/state", `{"a":3}`, 1, false)
		r.wantRefusal(id, 1, 0x99)
		h.journal.wantRefused(t, entry{"sensor-1", wire.ReasonStateTooLarge})
		h.states.set(func(s *states) { s.err = errors.New("the hub stops") })
		r.publish("devices/sensor-1/state", `{"a":4}`, 1, false)
		if version == 5 {
			r.want(packets.Disconnect)
		}
		r.wantClosed()
	}
}

func TestBrokerTellsTheDesiredState(t *testing.T) {
	const topic = "devices/sensor-1/desired"
	for _, version := range []byte{4, 5} {
		h := newHub(t)
		b := openBroker(t, h)
		h.states.set(func(s *states) { s.current = desiredState(3) })
		token := h.device("sensor-1")
		r := connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
		h.wantOnline("sensor-1", true, "")
		h.sessions.Desire("sensor-1", desiredState(3)) // nobody listens yet
		r.subscribe(1, topic)
		pk := r.want(packets.Publish)
		wantState(t, pk, topic, 3, 1)
		// Until it is acknowledged there comes no other, and then the newest alone.
		for v := range uint64(50) {
			h.sessions.Desire("sensor-1", desiredState(4+v))
		}
		h.sessions.Desire("sensor-1", desiredState(5))
		r.sync()
		r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
		pk = r.want(packets.Publish)
		wantState(t, pk, topic, 53, 1)
		r.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
		r.sync()
		_ = r.conn.Close()
		h.wantOnline("sensor-1", false, "")

		// QoS 0 by wildcard; a state that the device was told already is not told again in the same connection.
		h.states.set(func(s *states) { s.current = desiredState(60) })
		r = connectRaw(t, b.PlainAddr(), version, "c", "sensor-1", token)
		r.subscribe(0, "devices/sensor-1/+")
		wantState(t, r.want(packets.Publish), topic, 60, 0)
		r.subscribe(0, topic)
		r.sync()
		_ = r.conn.Close()
	}
}

// Of a persistent session the device is told though it does not subscribe again; of no state there is nothing to tell.
func TestBrokerTellsAPersistentSession(t *testing.T) {
	h := newHub(t)
	b := openBroker(t, h)
	token := h.device("sensor-1")
	connect := func() *raw {
		r := dialRaw(t, b.PlainAddr(), 4)
		hello := connectPacket(4, "c", "sensor-1", token)
		hello.Connect.Clean = false
		r.send(hello)
		r.want(packets.Connack)
		return r
	}
	r := connect()
	r.subscribe(1, "devices/sensor-1/desired")
	r.sync() // nothing came
	_ = r.conn.Close()
	h.wantOnline("sensor-1", false, "")
	h.states.set(func(s *states) { s.current = desiredState(7) })
	wantState(t, connect().want(packets.Publish), "devices/sensor-1/desired", 7, 1)
}

// Behind an external broker: a report is acknowledged when it is durable, in the order of receipt, and the desired state
// goes out when the device is heard of and when it changes.
func TestExternalBrokerCarriesStates(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	e := openExternal(t, h, externalConfig(m.url()))
	h.states.set(func(s *states) { s.current, s.hold = desiredState(3), true })
	device := m.client("device")
	defer device.Disconnect(100)
	told := make(chan paho.Message, 10)
	wantToken(t, device.Subscribe("devices/sensor-1/desired", 1, func(_ paho.Client, m paho.Message) { told <- m }))
	publish := func(topic, payload string, retained bool) { wantToken(t, device.Publish(topic, 1, retained, payload)) }
	wantTold := func(version uint64) {
		t.Helper()
		got := next(t, "desired state", told)
		if want := string(wire.AppendStateParams(nil, desiredState(version))); string(got.Payload()) != want || got.Qos() != 1 || got.Retained() {
			t.Errorf("told %s, QoS %d, retained %v; want %s", got.Payload(), got.Qos(), got.Retained(), want)
		}
	}
	wantReported := func(want string) {
		t.Helper()
		if got := next(t, "report", h.states.reported); got != want {
			t.Errorf("reported %s, want %s", got, want)
		}
	}

	publish("devices/sensor-1/state", `{"reported":{"a":1}}`, false)
	publish("devices/sensor-1/telemetry", `{"Temp":1}`, false)
	wantReported(`sensor-1 {"a":1}`)
	h.journal.wantDurable(t, entry{"sensor-1", "telemetry Temp=1"})
	wantTold(3)
	if s := e.Stats(); s.Acked != 0 || s.InFlight != 2 {
		t.Errorf("before the report is durable: %+v", s)
	}
	h.states.release()
	wantStats(t, e, "acknowledgements", func(s bridge.ExternalStats) bool { return s.Acked == 2 })
	h.sessions.Desire("sensor-1", desiredState(4))
	wantTold(4)
	h.sessions.Desire("sensor-1", desiredState(2)) // older
	h.sessions.Desire("sensor-1", desiredState(5))
	wantTold(5)

	publish("devices/sensor-1/state", `[1]`, false)
	publish("devices/sensor-1/state", `{"a":2}`, false)
	wantReported(`sensor-1 {"a":2}`)
	h.states.set(func(s *states) {
		s.err = &wire.Error{Code: wire.CodeTooLarge, Reason: wire.ReasonStateTooLarge, Message: "large"}
	})
	publish("devices/sensor-1/state", `{"a":3}`, false)
	wantReported(`sensor-1 {"a":3}`)
	h.journal.wantRefused(t, entry{"sensor-1", wire.ReasonBadParams}, entry{"sensor-1", wire.ReasonStateTooLarge})
	wantStats(t, e, "acknowledgement of all", func(s bridge.ExternalStats) bool { return s.Acked == 5 && s.Refused == 2 && s.InFlight == 0 })
}

// What the external broker kept may be older than what the device reported since.
func TestRetainedStateIsNotTaken(t *testing.T) {
	m := newMosquitto(t, "")
	h := newHub(t)
	h.device("sensor-1")
	device := m.client("device")
	defer device.Disconnect(100)
	wantToken(t, device.Publish("devices/sensor-1/state", 1, true, `{"a":1}`))
	e := openExternal(t, h, externalConfig(m.url()))
	h.journal.wantRefused(t, entry{"sensor-1", bridge.ReasonRetained})
	wantStats(t, e, "acknowledgement", func(s bridge.ExternalStats) bool { return s.Acked == 1 })
	if n := len(h.states.reported); n > 0 {
		t.Errorf("%d reports were taken", n)
	}
}

// A device that is deleted while its report is written is no reason to keep the messages of the others.
func TestADeletedDevicesReportHoldsNobodyUp(t *testing.T) {
	for name, test := range map[string]struct {
		config         func(*mosquitto) bridge.ExternalConfig
		state, reading string
	}{
		"own topics": {func(m *mosquitto) bridge.ExternalConfig { return externalConfig(m.url()) }, "devices/plug-1/state", "devices/plug-2/telemetry"},
		"maps":       {mappedConfig, "tele/plug-1/SENSOR", "tele/plug-2/SENSOR"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMosquitto(t, "")
			h := newHub(t)
			h.device("plug-1")
			h.device("plug-2")
			h.states.set(func(s *states) { s.err, s.hold = state.ErrNoDevice, true })
			e := openExternal(t, h, test.config(m))
			device := m.client("device")
			defer device.Disconnect(100)
			wantToken(t, device.Publish(test.state, 1, false, `{"POWER":"ON","Time":"2026-01-01T00:00:00Z"}`))
			next(t, "report", h.states.reported)
			wantToken(t, device.Publish(test.reading, 1, false, `{"Temp":20,"Time":"2026-01-01T00:00:00Z"}`))
			h.journal.until(t, "the other's reading", func() bool {
				return slices.ContainsFunc(h.journal.durable, func(one entry) bool { return one.device == "plug-2" })
			})
			h.states.release()
			wantStats(t, e, "acknowledgement of both", func(s bridge.ExternalStats) bool { return s.Acked == 2 && s.InFlight == 0 && s.Connects == 1 })
			h.journal.until(t, "refusal without a device", func() bool { return slices.Contains(h.journal.refused, entry{"", bridge.ReasonUnknownDevice}) })
		})
	}
}
