package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/backbone"
)

// damageMetrics counts what was found damaged on the disk.
type damageMetrics struct{ bus *backbone.Backbone }

// Describe implements prometheus.Collector.
func (m *damageMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *damageMetrics) Collect(c chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("hub_damaged_records_total", "Records of NATS's files that were found damaged on the disk, by what became of them.", []string{"stream", "outcome"}, nil)
	damage := m.bus.Damage()
	for outcome, records := range map[string]map[string]uint64{"restored": damage.Restored, "lost": damage.Lost} {
		for stream, n := range records {
			c <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), stream, outcome)
		}
	}
}
