package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
)

// onlineMetrics collects the figures of parts that count for themselves.
type onlineMetrics struct {
	sessions  *devices.Sessions
	connector *devices.Connector
	commands  *commands.Service
	rollouts  *rollouts.Service
}

// Describe implements prometheus.Collector.
func (m *onlineMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *onlineMetrics) Collect(c chan<- prometheus.Metric) {
	online := prometheus.NewDesc("hub_devices_online", "Devices with a session.", []string{"transport"}, nil)
	open := prometheus.NewDesc("hub_commands_open", "Commands without an outcome.", nil, nil)
	refused := prometheus.NewDesc("hub_connections_refused_total", "Requests to the devices' WebSocket that were not let in.", []string{"reason"}, nil)
	for reason, n := range m.connector.Refused() {
		c <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(n), reason)
	}
	for transport, n := range m.sessions.Count() {
		c <- prometheus.MustNewConstMetric(online, prometheus.GaugeValue, float64(n), transport)
	}
	c <- prometheus.MustNewConstMetric(open, prometheus.GaugeValue, float64(m.commands.Stats().Open))
	m.collectRollouts(c)
}
