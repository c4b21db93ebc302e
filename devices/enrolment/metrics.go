package enrolment

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by outcome, and says for how many devices each key still is.
type metrics struct {
	keys        *Keys
	total, left *prometheus.Desc

	mu       sync.Mutex
	outcomes map[string]uint64
}

func newMetrics(k *Keys) (*metrics, error) {
	m := &metrics{
		keys: k, outcomes: map[string]uint64{},
		total: prometheus.NewDesc("hub_enrolments_total", "Requests with an enrolment key, by outcome: enrolled, again, or why they were refused.", []string{"outcome"}, nil),
		left:  prometheus.NewDesc("hub_enrolment_key_left", "Devices that an enrolment key may still enrol; 0 also when it is disabled or expired.", []string{"key", "name"}, nil),
	}
	return m, k.cfg.Metrics.Register(m)
}

// count counts one request.
func (m *metrics) count(outcome string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outcomes[outcome]++
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	c <- m.total
	c <- m.left
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	m.mu.Lock()
	outcomes := maps.Clone(m.outcomes)
	m.mu.Unlock()
	for outcome, n := range outcomes {
		c <- prometheus.MustNewConstMetric(m.total, prometheus.CounterValue, float64(n), outcome)
	}
	for _, v := range m.keys.List() {
		left := v.Left
		if v.standing(time.Now()) != nil {
			left = 0
		}
		c <- prometheus.MustNewConstMetric(m.left, prometheus.GaugeValue, float64(left), v.ID, v.Name)
	}
}
