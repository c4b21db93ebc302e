package bridge

import (
	"maps"
	"net/url"
	"slices"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"telemetryhub/devices/discovery"
	"telemetryhub/wire"
)

// EmbeddedName is the embedded broker's among the bridges.
const EmbeddedName = "embedded"

// Numbers is how a bridge fares since it was opened.
type Numbers struct {
	Name      string
	Embedded  bool
	Address   string    // of the broker, without secrets
	Connected bool      // the embedded broker: it serves
	Since     time.Time // of that, either way
	Failure   string    // why it is not connected

	LastFailure string // what ended the last connection, or kept one from coming about, also while there is one
	Full        bool   // as many messages as may be are in flight: nothing is read until some of them are durable

	Received    uint64 // messages
	Readings    uint64 // durable
	Refused     map[string]uint64
	Redelivered uint64 // of those received, how many the broker marked as sent before
	Commands    uint64 // given to the broker
	Connects    uint64

	InFlight int // messages received and not yet acknowledged
	Devices  int // with a session by this bridge
	Pace     Pace
	Examples []Example // of refused messages, the newest first
}

// Unmapped returns how many messages came on topics that nothing is known of.
func (n Numbers) Unmapped() uint64 { return n.Refused[ReasonTopic] + n.Refused[reasonUnmapped] }

// reasonUnmapped is that of bridge/maps.
const reasonUnmapped = "unmapped"

// address is a broker's URL without what in it may be secret.
func address(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// Numbers returns how the bridge fares.
func (e *External) Numbers() Numbers {
	s := e.Stats()
	n := Numbers{
		Name: e.cfg.Name, Address: address(e.cfg.URL), Connected: s.Connected, Failure: s.Failure, LastFailure: s.LastFailure, Full: s.Waiting,
		Received: s.Received, Readings: e.traffic.readings.Load(), Refused: e.metrics.refused.each(), Redelivered: e.traffic.redelivered.Load(),
		Commands: s.Commands, Connects: s.Connects, InFlight: s.InFlight, Devices: s.Devices, Pace: e.traffic.pace(time.Now()), Examples: e.traffic.shown(),
	}
	_, n.Since = e.traffic.connection()
	if !n.Connected && n.Failure == "" {
		n.Failure = "the first connection has not come about yet"
	}
	return n
}

// arrival is a message of an external broker on its way to its acknowledgement.
type arrival struct {
	paho.Message
	at       time.Time // of its receipt
	readings int       // that it has brought to the journal; of the line's goroutine until it is acknowledged
}

// countReadings notes how many readings a message brings.
func countReadings(in paho.Message, readings []wire.Reading) {
	if a, ok := in.(*arrival); ok {
		a.readings = len(readings)
	}
}

// heardAt returns when a message was received, as message.at has it.
func heardAt(m paho.Message) time.Time {
	if a, ok := m.(*arrival); ok && !m.Retained() && !m.Duplicate() {
		return a.at
	}
	return time.Time{}
}

func readingsOf(m paho.Message) int {
	if a, ok := m.(*arrival); ok {
		return a.readings
	}
	return 0
}

// redelivers counts a message that the broker marks as sent before.
func (t *traffic) redelivers(in paho.Message) {
	if in.Duplicate() {
		t.redelivered.Inc()
	}
}

// example keeps a message that was refused, for people to look at. One that was too large has no payload any more.
func (e *External) example(in paho.Message, device string, r *refusal) {
	m := message{topic: in.Topic(), payload: in.Payload()}
	size := sizeBefore(m.payload, e.mark)
	if size != int64(len(m.payload)) {
		m.payload = nil
	}
	e.traffic.refused(m, int(size), device, r)
}

// sighting is a message of a device that may not be registered.
func (e *External) sighting(device string, m message) discovery.Sighting {
	s := discovery.Sighting{Device: device, Bridge: e.cfg.Name, Topic: m.topic, Payload: m.payload, Retained: m.retained}
	if size := sizeBefore(m.payload, e.mark); size != int64(len(m.payload)) {
		s.Payload, s.Size = nil, int(size)
	}
	return s
}

// Numbers returns how the embedded broker fares.
func (b *Broker) Numbers() Numbers {
	s := b.Stats()
	n := Numbers{
		Name: EmbeddedName, Embedded: true,
		Received: s.Received, Refused: b.metrics.refused.each(), Commands: s.Commands, Devices: s.Connections,
	}
	n.Readings, n.Examples, n.Pace = b.metrics.traffic.readings.Load(), b.metrics.traffic.shown(), b.metrics.traffic.pace(time.Now())
	n.InFlight, n.Pace.Lag = b.flight()
	n.Connected, n.Since = b.metrics.traffic.connection()
	if a := b.Addr(); a != nil {
		n.Address = "mqtts://" + a.String()
	} else if a := b.PlainAddr(); a != nil {
		n.Address = "mqtt://" + a.String()
	}
	return n
}

// flight returns how many messages of all devices wait to be acknowledged, and for how long the oldest does.
func (b *Broker) flight() (messages int, lag time.Duration) {
	b.mu.Lock()
	clients := slices.Collect(maps.Keys(b.clients))
	b.mu.Unlock()
	now := time.Now()
	for _, c := range clients {
		n, since := c.acks.flight()
		if messages += n; n > 0 {
			lag = max(lag, now.Sub(since))
		}
	}
	return messages, lag
}

func (b *Broker) lagSeconds() float64 {
	_, lag := b.flight()
	return lag.Seconds()
}

// example keeps a message that was refused, for people to look at.
func (b *Broker) example(m message, device string, r *refusal) {
	size := sizeBefore(m.payload, b.mark)
	if size != int64(len(m.payload)) {
		m.payload = nil
	}
	b.metrics.traffic.refused(m, int(size), device, r)
}
