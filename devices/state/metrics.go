package state

import "github.com/prometheus/client_golang/prometheus"

// metrics are the package's own.
type metrics struct {
	reg       prometheus.Registerer
	all       []prometheus.Collector
	changes   *prometheus.CounterVec // by side
	refused   prometheus.Counter
	failures  prometheus.Counter
	conflicts prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Documents) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(value())
		})
	}
	m := &metrics{
		reg: reg,
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hub_state_changes_total", Help: "Changes of devices' states that were written, by half: desired or reported. Reports that came together are one.",
		}, []string{"side"}),
		refused:   counter("hub_state_refused_total", "Changes of devices' states that were refused: not usable, or too large."),
		failures:  counter("hub_state_write_failures_total", "Writes of devices' states that failed."),
		conflicts: counter("hub_state_conflicts_total", "Changes of devices' states that were merged again because another hub was first."),
	}
	m.all = []prometheus.Collector{
		m.changes, m.refused, m.failures, m.conflicts,
		gauge("hub_state_documents", "Devices with a state.", func() int { return len(s.byDevice) }),
		gauge("hub_state_bytes", "Bytes of devices' states in memory, as JSON.", func() int { return s.bytes }),
		gauge("hub_state_waiting", "Devices with changes of their state that are not yet written.", func() int { return len(s.changes) }),
	}
	for _, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

func (m *metrics) count(b *batch) {
	m.changes.WithLabelValues(string(Desired)).Add(float64(b.desired))
	if b.reported {
		m.changes.WithLabelValues(string(Reported)).Inc()
	}
}
