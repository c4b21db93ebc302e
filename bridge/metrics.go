package bridge

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tally is a counter that Stats and Prometheus both read.
type tally struct{ atomic.Uint64 }

func (t *tally) Inc() { t.Add(1) }

func (t *tally) collector(name, help string) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(t.Load()) })
}

// refusals counts refused messages, in all and by reason.
type refusals struct {
	all      tally
	byReason *prometheus.CounterVec

	mu     sync.Mutex
	counts map[string]uint64 // what byReason has
}

func newRefusals(name string) *refusals {
	return &refusals{counts: map[string]uint64{}, byReason: prometheus.NewCounterVec(
		prometheus.CounterOpts{Name: name, Help: "Messages that were refused, by reason."}, []string{"reason"})}
}

func (r *refusals) count(reason string) {
	r.all.Inc()
	r.byReason.WithLabelValues(reason).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[reason]++
}

// each returns the counts by reason.
func (r *refusals) each() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// brokerMetrics counts what the embedded broker does.
type brokerMetrics struct {
	registered
	traffic         *traffic
	received        tally
	refused         *refusals
	unacked         tally
	connects        *prometheus.CounterVec // by the reason of their refusal, "" for accepted ones
	commands        tally
	commandsRefused tally
	statesTooLarge  tally
	faults          tally
	malformed       *prometheus.CounterVec // by the reason code
	subscriptions   *prometheus.CounterVec // that were refused
	routed          tally
	delivered       tally
	undelivered     *prometheus.CounterVec
}

func newBrokerMetrics(to prometheus.Registerer, b *Broker) (*brokerMetrics, error) {
	m := &brokerMetrics{
		traffic: newTraffic("hub_mqtt"),
		refused: newRefusals("hub_mqtt_refused_total"),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_mqtt_connects_total", Help: "CONNECT packets, by the reason of their refusal; empty for accepted ones.",
		}, []string{"refused"}),
		malformed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_mqtt_malformed_total", Help: "Packets that ended their connection: not as the protocol has them, or too large; by the reason code of MQTT 5.",
		}, []string{"code"}),
		subscriptions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_mqtt_subscriptions_refused_total", Help: "Topic filters that were not granted, by reason.",
		}, []string{"reason"}),
		undelivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_mqtt_undelivered_total", Help: "Messages between devices that did not get to a session that subscribes to them, by reason.",
		}, []string{"reason"}),
	}
	retained := func(value func(messages, bytes int) int) func() float64 {
		return func() float64 { return float64(value(b.exchange.retained.amount())) }
	}
	m.traffic.connected(true)
	return m, m.register(to,
		m.received.collector("hub_mqtt_received_total", "Messages that devices published on the embedded broker."),
		m.refused.byReason,
		m.unacked.collector("hub_mqtt_unacknowledged_total", "Messages that could not be made durable and were not acknowledged."),
		m.connects,
		m.commands.collector("hub_mqtt_commands_total", "Commands written to devices of the embedded broker."),
		m.commandsRefused.collector("hub_mqtt_commands_refused_total", "Commands that were not sent: no subscription, or a device that does not read."),
		m.statesTooLarge.collector("hub_mqtt_states_too_large_total", "Desired states that were not sent: larger than the packets that the device takes."),
		m.faults.collector("hub_mqtt_faults_total", "Connections that ended by a fault of the MQTT implementation."),
		m.malformed, m.subscriptions, m.undelivered,
		m.routed.collector("hub_mqtt_routed_total", "Messages that devices published on topics of mqtt.grants."),
		m.delivered.collector("hub_mqtt_delivered_total", "Messages between devices that were written to one of them."),
		m.traffic.readings.collector("hub_mqtt_readings_total", "Readings that devices published on the embedded broker: they are durable."),
		m.traffic.ackSeconds,
		gauge("hub_mqtt_lag_seconds", "Age of the oldest message that is not acknowledged; 0: there is none.", b.lagSeconds),
		gauge("hub_mqtt_connections", "Connections to the embedded broker, also those before their CONNECT.", func() float64 { return float64(b.Stats().Connections) }),
		gauge("hub_mqtt_queued", "Messages between devices that sessions hold: waiting, or not acknowledged.", func() float64 { return float64(b.exchange.waiting()) }),
		gauge("hub_mqtt_retained_messages", "Retained messages.", retained(func(messages, _ int) int { return messages })),
		gauge("hub_mqtt_retained_bytes", "Their bytes.", retained(func(_, bytes int) int { return bytes })),
	)
}

// externalMetrics counts what the client of one external broker does.
type externalMetrics struct {
	registered
	received     tally
	refused      *refusals
	acked        tally
	commands     tally
	commandsLate tally
	connects     tally
	ended        *prometheus.CounterVec // by the word of the ending
	sessionsLost tally
	passed       tally
}

func newExternalMetrics(to prometheus.Registerer, name string, t *traffic, connected, inflight func() float64) (*externalMetrics, error) {
	if to != nil {
		to = prometheus.WrapRegistererWith(prometheus.Labels{"bridge": name}, to)
	}
	m := &externalMetrics{
		refused: newRefusals("hub_bridge_refused_total"),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_bridge_disconnects_total", Help: "Connections to the external broker that ended or did not come about, by the reason.",
		}, []string{"reason"}),
	}
	return m, m.register(to,
		m.ended,
		m.sessionsLost.collector("hub_bridge_sessions_lost_total", "Connections on which the external broker knew nothing of the session that it was to keep."),
		m.received.collector("hub_bridge_received_total", "Messages received from the external broker."),
		m.refused.byReason,
		m.passed.collector("hub_bridge_passed_over_total", "Messages that a map knows and passes over: they say nothing of a device."),
		m.acked.collector("hub_bridge_acknowledged_total", "Messages acknowledged to the external broker, refused ones too."),
		m.commands.collector("hub_bridge_commands_total", "Commands given to the external broker."),
		m.commandsLate.collector("hub_bridge_commands_late_total", "Commands that had expired or ended before the external broker could be given all of them."),
		m.connects.collector("hub_bridge_connects_total", "Connections made to the external broker."),
		gauge("hub_bridge_connected", "1 while the external broker is connected and has granted the subscriptions.", connected),
		t.readings.collector("hub_bridge_readings_total", "Readings in acknowledged messages: they are durable."),
		t.redelivered.collector("hub_bridge_redelivered_total", "Messages that the external broker marked as sent before."),
		t.ackSeconds,
		gauge("hub_bridge_lag_seconds", "Age of the oldest message that is not acknowledged; 0: there is none.", func() float64 { return t.lag(time.Now()).Seconds() }),
		gauge("hub_bridge_inflight", "Messages received and not yet acknowledged.", inflight),
	)
}

// registered takes its collectors back when their owner ends.
type registered struct {
	to         prometheus.Registerer
	collectors []prometheus.Collector
}

func (r *registered) register(to prometheus.Registerer, collectors ...prometheus.Collector) error {
	if to == nil {
		return nil
	}
	r.to = to
	for _, c := range collectors {
		if err := to.Register(c); err != nil {
			r.unregister()
			return err
		}
		r.collectors = append(r.collectors, c)
	}
	return nil
}

func (r *registered) unregister() {
	for _, c := range r.collectors {
		r.to.Unregister(c)
	}
	r.collectors = nil
}

func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}
