package ingest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// figures gathers the account as Prometheus sees it, by name and label.
func (h *hub) figures() map[string]float64 {
	h.t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(h.Ingest)
	families, err := reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			found[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return found
}

// TestEachTermOfTheAuditIsAMetric, and no counter falls: what was quarantined may be retried or dropped.
func TestEachTermOfTheAuditIsAMetric(t *testing.T) {
	store := &memoryStore{}
	store.answers(rejects("n=2 "))
	h := openHub(t, t.TempDir(), testConfig(), store)
	for _, seq := range []uint64{1, 2, 2} {
		h.send("a", numbered("b", seq))
	}
	h.Refuse("a", "bad_json")
	h.settled("a", 4)
	want := map[string]float64{
		"hub_readings_total received": 4, "hub_readings_total stored": 1, "hub_readings_total duplicate": 1, "hub_readings_quarantined": 1,
		"hub_readings_queued": 0, "hub_refused_total bad_json": 1, "hub_journal_backlog": 0, "hub_devices_held": 0,
	}
	check := func() {
		t.Helper()
		got := h.figures()
		for name, n := range want {
			if got[name] != n {
				t.Errorf("%s is %v, want %v", name, got[name], n)
			}
		}
		if len(got) != len(want) {
			t.Errorf("metrics %v", got)
		}
	}
	check()
	store.answers(nil)
	h.retry(h.quarantined()[0].ID)
	want["hub_readings_total stored"], want["hub_readings_quarantined"] = 2, 0
	check()
	store.answers(away)
	h.send("a", numbered("b", 3))
	want["hub_readings_total received"], want["hub_readings_queued"], want["hub_journal_backlog"] = 5, 1, 1
	check()
}
