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
	rotation  *devices.Rotation
	commands  *commands.Service
	rollouts  *rollouts.Service
}

// Describe implements prometheus.Collector.
func (m *onlineMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *onlineMetrics) Collect(c chan<- prometheus.Metric) {
	online := prometheus.NewDesc("hub_devices_online", "Devices with a session.", []string{"transport"}, nil)
	ledger := m.commands.Stats()
	for name, g := range map[string]struct {
		help  string
		value int
	}{
		"hub_commands_open":   {"Commands without an outcome.", ledger.Open},
		"hub_commands_queued": {"Commands that wait to be sent.", ledger.Queued},
	} {
		c <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, g.help, nil, nil), prometheus.GaugeValue, float64(g.value))
	}
	outcomes := prometheus.NewDesc("hub_commands_total", "Commands that ended since the hub was started, by their first outcome.", []string{"outcome"}, nil)
	for outcome, n := range ledger.Outcomes {
		c <- prometheus.MustNewConstMetric(outcomes, prometheus.CounterValue, float64(n), string(outcome))
	}
	late := prometheus.NewDesc("hub_commands_late_total", "Commands whose outcome was mended by a late answer.", nil, nil)
	c <- prometheus.MustNewConstMetric(late, prometheus.CounterValue, float64(ledger.Late))
	seconds := prometheus.NewDesc("hub_command_seconds", "Time from accepted to the first outcome.", nil, nil)
	c <- prometheus.MustNewConstHistogram(seconds, ledger.Seconds.Count, ledger.Seconds.Sum, ledger.Seconds.Within)
	refused := prometheus.NewDesc("hub_connections_refused_total", "Requests to the devices' WebSocket that were not let in.", []string{"reason"}, nil)
	for reason, n := range m.connector.Refused() {
		c <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(n), reason)
	}
	rotations := prometheus.NewDesc("hub_token_rotations_total", "Tokens offered to devices on their connections, by what came of it.", []string{"outcome"}, nil)
	for outcome, n := range m.rotation.Rotations() {
		c <- prometheus.MustNewConstMetric(rotations, prometheus.CounterValue, float64(n), string(outcome))
	}
	for transport, n := range m.sessions.Count() {
		c <- prometheus.MustNewConstMetric(online, prometheus.GaugeValue, float64(n), transport)
	}
	m.collectRollouts(c)
}
