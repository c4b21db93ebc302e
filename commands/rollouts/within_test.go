package rollouts_test

import (
	"strings"
	"testing"

	"telemetryhub/commands/rollouts"
)

func TestARolloutWithinTagsReachesNoOtherDevice(t *testing.T) {
	ledger, kv := buckets(t)
	f := newFleet(4)
	for id, tag := range map[string]string{"d00000": "hall", "d00001": "yard", "d00002": "hall"} {
		f.devices[id] = rollouts.Device{ID: id, Enabled: id != "d00002", Type: "lamp", Tags: []string{tag, "any"}}
	}
	h := open(t, ledger, kv, f, rollouts.Config{})
	for _, c := range []struct {
		to     rollouts.Selector
		within string
		want   string // devices, or the error
	}{
		{rollouts.Selector{All: true}, "hall", "d00000"},
		{rollouts.Selector{All: true}, "hall yard", "d00000 d00001"},
		{rollouts.Selector{All: true}, "", "d00000 d00001 d00003"},
		{rollouts.Selector{Tags: []string{"any"}}, "yard", "d00001"},
		{rollouts.Selector{Tags: []string{"yard"}}, "hall", "to: no enabled device is tag=yard"},
		{rollouts.Selector{Type: "lamp"}, "cellar", "to: no enabled device is type=lamp"},
		{rollouts.Selector{IDs: []string{"d00000"}}, "hall", "d00000"},
		// One that is outside is unknown, in the words for what does not exist.
		{rollouts.Selector{IDs: []string{"d00000", "d00001", "ghost"}}, "hall", "2 of the ids are unknown: d00001, ghost"},
		{rollouts.Selector{IDs: []string{"d00002"}}, "yard", "1 of the ids are unknown: d00002"},
	} {
		req := rollouts.Request{To: c.to, Method: "ping", Within: strings.Fields(c.within)}
		p, err := h.Preview(req)
		var ids []string
		for _, d := range p.Devices {
			ids = append(ids, d.Device)
		}
		got := strings.Join(ids, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s within %q: %s, want %s", c.to, c.within, got, c.want)
		}
	}
	made, err := h.Create(t.Context(), rollouts.Request{To: rollouts.Selector{All: true}, Method: "ping", Within: []string{"hall"}})
	if err != nil || made.Devices != 1 || strings.Join(made.Within, " ") != "hall" {
		t.Errorf("made %+v, %v", made, err)
	}
}
