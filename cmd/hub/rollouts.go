package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/backbone"
	"telemetryhub/commands/rollouts"
	"telemetryhub/devices"
)

// fleet is the registry and the sessions as rollouts ask for them.
type fleet struct {
	registry *devices.Registry
	sessions *devices.Sessions
}

// Devices implements rollouts.Fleet.
func (f fleet) Devices() []rollouts.Device {
	registered := f.registry.List()
	all := make([]rollouts.Device, len(registered))
	for i, d := range registered {
		all[i] = rolloutDevice(d)
	}
	return all
}

// Find implements rollouts.Fleet.
func (f fleet) Find(id string) (rollouts.Device, bool) {
	d, ok := f.registry.Get(id)
	return rolloutDevice(d), ok
}

// Online implements rollouts.Fleet.
func (f fleet) Online(id string) bool {
	_, ok := f.sessions.Online(id)
	return ok
}

func rolloutDevice(d devices.Device) rollouts.Device {
	return rollouts.Device{ID: d.ID, Type: d.Type, Tags: d.Tags, Attributes: d.Attributes, Enabled: d.Enabled}
}

// openRollouts comes after whatever holds devices' connections, so that it stops before them: a device that is cut
// because the hub stops is not taken for offline.
func (h *hub) openRollouts(ctx context.Context) error {
	kv, err := h.bus.Bucket(ctx, backbone.Rollouts)
	if err != nil {
		return err
	}
	c := h.cfg.Commands
	h.rollouts, err = rollouts.Open(ctx, kv, h.commands, fleet{h.registry, h.sessions}, rollouts.Config{
		Open: c.Rollouts.Open, Grace: c.Rollouts.Grace, Keep: c.Keep,
	}, h.log)
	if err != nil {
		return err
	}
	h.stop.add("rollouts", h.rollouts.Close)
	return nil
}

func (m *onlineMetrics) collectRollouts(c chan<- prometheus.Metric) {
	st := m.rollouts.Stats()
	for _, figure := range []struct {
		name, help string
		kind       prometheus.ValueType
		value      float64
	}{
		{"hub_rollouts_open", "Rollouts that have devices without an outcome.", prometheus.GaugeValue, float64(st.Open)},
		{"hub_rollout_devices_open", "Devices of these rollouts.", prometheus.GaugeValue, float64(st.Devices)},
		{"hub_rollout_save_failures_total", "Writes of rollouts that failed and were tried again.", prometheus.CounterValue, float64(st.SaveFailures)},
		{"hub_rollout_send_failures_total", "Commands of rollouts that the ledger could not take and that were tried again.", prometheus.CounterValue, float64(st.SendFailures)},
		{"hub_rollout_views_missed_total", "Views of rollouts that slow readers of the live feed lost.", prometheus.CounterValue, float64(st.MissedViews)},
	} {
		c <- prometheus.MustNewConstMetric(prometheus.NewDesc(figure.name, figure.help, nil, nil), figure.kind, figure.value)
	}
}
