package ingest

import (
	"testing"

	"telemetryhub/backbone"
	"telemetryhub/wire"
)

// publish puts an envelope of these entries into the journal.
func (h *hub) publish(entries ...[]byte) {
	h.t.Helper()
	data := appendHeader(nil, 17, 1)
	for _, e := range entries {
		data = append(data, e...)
		var read entry
		if env := (envelope{entries: source{data: e}}); env.next(&read) {
			h.arrivals.of(string(read.device)) // an audit names it
		}
	}
	if _, err := h.bus.JetStream().Publish(h.t.Context(), backbone.JournalSubject, seal(data)); err != nil {
		h.t.Fatal(err)
	}
}

// TestEachLossHasAPlaceOfItsOwn: whatever kind of entry tells of it, the quarantine has an item for each device.
func TestEachLossHasAPlaceOfItsOwn(t *testing.T) {
	h := openHub(t, t.TempDir(), testConfig(), &memoryStore{})
	h.publish(
		appendMissed(nil, origin{device: "a", prior: 1, received: received}),
		appendRefusal(nil, origin{device: "b", prior: 2, received: received}, wire.ReasonNoValues, 1),
		appendRefusal(nil, origin{device: "c", prior: 3, received: received}, wire.ReasonNoValues, 1),
		appendReadings(nil, origin{device: "d", prior: 4, received: received}, telemetry(t, numbered("b", 5))),
	)
	for i, device := range []string{"a", "b", "c", "d"} {
		lost := uint64(i + 1)
		eventually(t, device+" is settled", func() bool { return h.of(device).Quarantined == lost })
	}
	items := map[string]uint64{}
	for _, q := range h.quarantined() {
		items[q.Device] += q.Count
	}
	if items["a"] != 1 || items["b"] != 2 || items["c"] != 3 || items["d"] != 4 {
		t.Errorf("the quarantine holds %v", items)
	}
}

// TestAReplayKnowsThePlacesBehindALoss: of readings in an envelope that also names what was lost, those that were set aside
// stay away from the store, and no others.
func TestAReplayKnowsThePlacesBehindALoss(t *testing.T) {
	store := &memoryStore{}
	store.answers(rejects("n=1 "))
	h := openHub(t, t.TempDir(), testConfig(), store)
	h.publish(
		appendMissed(nil, origin{device: "a", prior: 1, received: received}),
		appendReadings(nil, origin{device: "b", received: received}, telemetry(t, numbered("b", 1))),
		appendReadings(nil, origin{device: "b", prior: 1, received: received}, telemetry(t, numbered("b", 2))),
	)
	h.settled("b", 2)
	store.answers(nil)
	store.mu.Lock()
	store.lines = nil
	store.mu.Unlock()
	h.replay(0, received+1, "")
	if got := store.accepted(); countLines(got, "n=2 ") != 1 || len(got) != 1 {
		t.Errorf("replayed\n%s", joinLines(got))
	}
}
