package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/devices"
)

// admissionMetrics tells how devices come in.
type admissionMetrics struct {
	admission  *devices.Admission
	sockets    *sockets
	handshakes *handshakes
}

// Describe implements prometheus.Collector.
func (m *admissionMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *admissionMetrics) Collect(c chan<- prometheus.Metric) {
	a, s, t := m.admission.Stats(), m.sockets.stats(), m.handshakes.stats()
	for _, figure := range []struct {
		name, help string
		kind       prometheus.ValueType
		value      float64
	}{
		{"hub_admissions_total", "Devices let in, over all transports.", prometheus.CounterValue, float64(a.Admitted)},
		{"hub_admissions_waited_total", "Devices let in that waited for their slot on the spot.", prometheus.CounterValue, float64(a.Waited)},
		{"hub_admission_wait_seconds_total", "Waits for a slot on the spot.", prometheus.CounterValue, a.WaitSeconds},
		{"hub_admissions_early_total", "Devices that came before the slot that they had been told, and were refused again.", prometheus.CounterValue, float64(a.Early)},
		{"hub_admissions_forgotten_total", "Places in line whose devices did not come.", prometheus.CounterValue, float64(a.Forgotten)},
		{"hub_admission_waiting", "Devices that wait for their slot on the spot.", prometheus.GaugeValue, float64(a.Waiting)},
		{"hub_admission_places", "Devices that were told to come later and have not come.", prometheus.GaugeValue, float64(a.Places)},
		{"hub_admission_ahead_seconds", "How long a device that comes now has to wait.", prometheus.GaugeValue, a.Ahead.Seconds()},
		{"hub_admission_rate", "Devices let in a second at most.", prometheus.GaugeValue, a.Rate},
		{"hub_connections", "Connections of devices, over all transports.", prometheus.GaugeValue, float64(a.Connections)},
		{"hub_connections_limit", "The most of them.", prometheus.GaugeValue, float64(a.MostConnections)},
		{"hub_sockets", "TCP connections on all ports.", prometheus.GaugeValue, float64(s.Open)},
		{"hub_sockets_limit", "The most of them.", prometheus.GaugeValue, float64(s.Most)},
		{"hub_sockets_owing", "Of them, those whose client has to say something before it is served.", prometheus.GaugeValue, float64(s.Owing)},
		{"hub_sockets_crowded_total", "Sockets that had said nothing for longest and made room for others.", prometheus.CounterValue, float64(s.Crowded)},
		{"hub_sockets_refused_total", "Sockets that found no room.", prometheus.CounterValue, float64(s.Refused)},
		{"hub_handshakes_total", "TLS handshakes that had their turn.", prometheus.CounterValue, float64(t.Begun)},
		{"hub_handshakes_shed_total", "TLS handshakes given up, as their turn would not have come in time.", prometheus.CounterValue, float64(t.Shed)},
		{"hub_handshakes_waiting", "TLS handshakes that wait for their turn.", prometheus.GaugeValue, float64(t.Line)},
		{"hub_handshake_wait_seconds_total", "Waits of TLS handshakes for their turn.", prometheus.CounterValue, t.Waits.Seconds()},
	} {
		c <- prometheus.MustNewConstMetric(prometheus.NewDesc(figure.name, figure.help, nil, nil), figure.kind, figure.value)
	}
	refused := prometheus.NewDesc("hub_admissions_refused_total", "Devices that were told to come later, by reason.", []string{"reason"}, nil)
	for reason, n := range a.Refused {
		c <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(n), reason)
	}
}
