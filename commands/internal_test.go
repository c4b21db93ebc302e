package commands

import (
	"slices"
	"testing"
	"time"
)

// TestTransitions holds the whole table: each state to each state, for both deliveries.
func TestTransitions(t *testing.T) {
	all := []State{"", Accepted, Queued, Sent, Received, Running, Done, Failed, Rejected, Expired, Cancelled, Unknown}
	both := map[State][]State{
		"":       {Accepted},
		Accepted: {Queued, Sent, Failed, Expired, Cancelled},
		Queued:   {Sent, Failed, Expired, Cancelled},
		Sent:     {Received, Running, Done, Failed, Rejected, Unknown},
		Received: {Running, Done, Failed, Rejected, Unknown},
		Running:  {Done, Failed, Rejected, Unknown},
		Unknown:  {Done, Failed, Rejected},
		Expired:  {Done, Failed, Rejected},
	}
	atLeast := map[State][]State{Sent: {Sent, Expired}, Received: {Sent, Expired}, Running: {Sent, Expired}}
	for _, delivery := range []Delivery{AtMostOnce, AtLeastOnce} {
		for _, from := range all {
			for _, to := range all {
				want := slices.Contains(both[from], to) || (delivery == AtLeastOnce && slices.Contains(atLeast[from], to))
				if got := legal(&Command{State: from, Delivery: delivery, Attempt: 1}, to); got != want {
					t.Errorf("%s: %q to %q legal = %v, want %v", delivery, from, to, got, want)
				}
			}
		}
	}
	if !legal(&Command{State: Sent, Delivery: AtMostOnce, Attempt: 0}, Expired) {
		t.Error("a command that surely was not sent cannot expire")
	}
	if legal(&Command{State: Expired, Attempt: 0}, Done) {
		t.Error("a command that expired unsent became done")
	}
}

func TestIDsAreOrderedAndUnique(t *testing.T) {
	var g ids
	now := time.UnixMilli(1458031648545)
	last := ""
	for i := range 10_000 {
		if i == 5000 {
			now = now.Add(-time.Hour) // the clock steps back
		}
		if i%100 == 0 {
			now = now.Add(time.Millisecond)
		}
		id := g.next(now)
		if id <= last || !isID(id) {
			t.Fatalf("id %d = %s after %s", i, id, last)
		}
		last = id
	}
	at := time.UnixMilli(1700000000000)
	if id := new(ids).next(at); firstID(at) > id || firstID(at.Add(time.Millisecond)) <= id {
		t.Errorf("firstID(%v) = %s does not stand before %s", at, firstID(at), id)
	}
}

func TestKeysAreBounded(t *testing.T) {
	k := newKeys()
	var g ids
	for range maxKeys + 10 {
		id := g.next(time.Now())
		k.add("d", id, id)
	}
	if len(k.ids) != maxKeys || len(k.order) != maxKeys {
		t.Errorf("%d keys in memory, want %d", len(k.ids), maxKeys)
	}
	k.forget("~")
	if len(k.ids) != 0 {
		t.Errorf("%d keys left", len(k.ids))
	}
}

func TestStoryIsBounded(t *testing.T) {
	c := Command{Delivery: AtLeastOnce}
	c.record(Change{State: Accepted})
	for range 1000 {
		c.record(Change{State: Sent})
		c.record(Change{State: Received})
	}
	if len(c.History) != maxHistory || c.History[0].State != Accepted || c.State != Received {
		t.Errorf("%d changes, first %s, last %s", len(c.History), c.History[0].State, c.State)
	}
}
