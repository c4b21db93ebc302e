package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"telemetryhub/auth/acts"
	"telemetryhub/commands"
	"telemetryhub/commands/rollouts"
)

// openActs comes before all that is told to the audit log, and so is closed after it.
func (h *hub) openActs(ctx context.Context) (err error) {
	if h.acts, err = acts.Open(ctx, h.bus.JetStream(), h.log); err != nil {
		return err
	}
	h.stop.add("audit log", h.acts.Close)
	return nil
}

// recoverAdmin makes a new token of the operator admin for whoever started the hub with --new-admin-token.
func (h *hub) recoverAdmin(ctx context.Context) error {
	if err := h.operators.Recover(ctx, h.path("admin.token")); err != nil {
		return err
	}
	h.log.Warn("the operator admin has a new token, as the command line asked for", "file", h.path("admin.token"))
	return h.acts.Append(ctx, acts.Act{Time: time.Now(), Act: "operator.recover", Target: "admin", Outcome: acts.Accepted, Facts: map[string]any{"by": "the hub's command line"}})
}

// actOfCommand is a command as the audit log tells of it.
func actOfCommand(c commands.Command) acts.Act {
	c = c.Public()
	facts := map[string]any{"method": c.Method, "delivery": c.Delivery, "expires": c.Expires}
	if c.Params != nil {
		facts["params"] = json.RawMessage(c.Params)
	}
	if id, ok := rollouts.Of(c); ok {
		facts["rollout"] = id
	}
	if c.RetryOf != "" {
		facts["retry_of"] = c.RetryOf
	}
	return acts.Act{
		Time: c.Created, Actor: c.Actor, Role: c.Role, Origin: c.Origin, Act: acts.CommandSend, Device: c.Device, Target: c.ID,
		Facts: facts, Outcome: acts.Accepted,
	}
}

// commandActs is what the ledger has of commands since a time, for the audit log to compare.
func (h *hub) commandActs(ctx context.Context, since time.Time) (found []acts.Act, err error) {
	for filter := (commands.Filter{From: since, Limit: 1000}); ; {
		page, next, err := h.commands.List(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			found = append(found, actOfCommand(c))
		}
		if filter.Cursor = next; next == "" {
			return found, nil
		}
	}
}

// actsMetrics collects the figures of the audit log.
type actsMetrics struct{ log *acts.Log }

// Describe implements prometheus.Collector.
func (m *actsMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, c) }

// Collect implements prometheus.Collector.
func (m *actsMetrics) Collect(c chan<- prometheus.Metric) {
	s := m.log.Stats()
	for _, figure := range []struct {
		name, help string
		kind       prometheus.ValueType
		value      float64
	}{
		{"hub_acts_pending", "Acts that wait to be written to the audit log.", prometheus.GaugeValue, float64(s.Pending)},
		{"hub_acts_written_total", "Acts written to the audit log.", prometheus.CounterValue, float64(s.Written)},
		{"hub_acts_lost_total", "Refused acts that are not in the audit log because too many waited.", prometheus.CounterValue, float64(s.Lost)},
		{"hub_acts_write_failures_total", "Writes of the audit log that failed and were tried again.", prometheus.CounterValue, float64(s.Failures)},
	} {
		c <- prometheus.MustNewConstMetric(prometheus.NewDesc(figure.name, figure.help, nil, nil), figure.kind, figure.value)
	}
}
