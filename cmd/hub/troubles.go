package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/devices"
)

// troubleMetrics counts what is wrong with devices' connections.
type troubleMetrics struct{ sessions *devices.Sessions }

// Describe implements prometheus.Collector.
func (m *troubleMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *troubleMetrics) Collect(c chan<- prometheus.Metric) {
	t := m.sessions.Troubles()
	frozen := prometheus.NewDesc("hub_devices_frozen", "Devices that are frozen, as several used their identity.", nil, nil)
	c <- prometheus.MustNewConstMetric(frozen, prometheus.GaugeValue, float64(t.Frozen))
	unresponsive := prometheus.NewDesc("hub_devices_unresponsive", "Devices that show signs of life and did not answer a probe.", nil, nil)
	c <- prometheus.MustNewConstMetric(unresponsive, prometheus.GaugeValue, float64(t.Unresponsive))
	probes := prometheus.NewDesc("hub_probes_total", "Probes of devices' programs, by whether an answer came in time.", []string{"outcome"}, nil)
	c <- prometheus.MustNewConstMetric(probes, prometheus.CounterValue, float64(t.ProbesAnswered), devices.ProbeAnswered)
	c <- prometheus.MustNewConstMetric(probes, prometheus.CounterValue, float64(t.ProbesUnanswered), devices.ProbeUnresponsive)
	clones := prometheus.NewDesc("hub_clones_total", "Times that several devices were found to use one identity.", nil, nil)
	c <- prometheus.MustNewConstMetric(clones, prometheus.CounterValue, float64(t.Clones))
}
