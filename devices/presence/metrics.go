package presence

import "github.com/prometheus/client_golang/prometheus"

// Metrics collects the figures of followers.
type Metrics struct{ Followers []*Follower }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(c chan<- prometheus.Metric) {
	for _, f := range m.Followers {
		n := f.Counts()
		for _, figure := range []struct {
			name, help string
			kind       prometheus.ValueType
			value      float64
		}{
			{"hub_presence_told_total", "Changes of presence that a receiver took.", prometheus.CounterValue, float64(n.Told)},
			{"hub_presence_tries_total", "Posts to the webhook, or batches of readings, also those that failed.", prometheus.CounterValue, float64(n.Tries)},
			{"hub_presence_failures_total", "Those that failed and were tried again.", prometheus.CounterValue, float64(n.Failures)},
			{"hub_presence_refused_total", "Changes that a receiver refused again and again, and that were given up.", prometheus.CounterValue, float64(n.Refused)},
			{"hub_presence_dropped_total", "Changes that were dropped because too many waited for the receiver.", prometheus.CounterValue, float64(n.Dropped)},
			{"hub_presence_waiting", "Changes that wait to be told.", prometheus.GaugeValue, float64(n.Waiting)},
		} {
			c <- prometheus.MustNewConstMetric(prometheus.NewDesc(figure.name, figure.help, []string{"to"}, nil), figure.kind, figure.value, f.cfg.Name)
		}
	}
}
