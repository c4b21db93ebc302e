package commands

import (
	"slices"
	"testing"
	"time"
)

// TestTransitions holds the whole table: each state to each state, for both deliveries, whether or not the command was
// surely sent, and whoever says so.
func TestTransitions(t *testing.T) {
	all := []State{"", Accepted, Queued, Sent, Received, Running, Done, Failed, Rejected, Expired, Cancelled, Unknown}
	always := map[State][]State{
		"":       {Accepted},
		Accepted: {Queued, Sent, Failed, Expired, Cancelled},
		Queued:   {Sent, Failed, Expired, Cancelled},
		Sent:     {Received, Running, Done, Failed, Rejected, Unknown},
		Received: {Running, Done, Failed, Rejected, Unknown},
		Running:  {Done, Failed, Rejected, Unknown},
	}
	device := map[State][]State{ // by its word only
		Sent: {Expired, Cancelled}, Received: {Expired, Cancelled}, Running: {Expired, Cancelled},
		Unknown: {Done, Failed, Rejected, Expired, Cancelled},
	}
	repeated := map[State][]State{Sent: {Sent, Expired}, Received: {Sent, Expired}, Running: {Sent, Expired}} // at least once
	unsent := map[State][]State{Sent: {Queued, Expired, Cancelled}, Received: {Expired, Cancelled}, Running: {Expired, Cancelled}}
	checked := 0
	for _, delivery := range []Delivery{AtMostOnce, AtLeastOnce} {
		for _, attempt := range []int{0, 1} {
			for _, said := range []bool{false, true} {
				for _, from := range all {
					for _, to := range all {
						want := slices.Contains(always[from], to) || said && slices.Contains(device[from], to) ||
							delivery == AtLeastOnce && slices.Contains(repeated[from], to) || attempt == 0 && slices.Contains(unsent[from], to) ||
							from == Expired && attempt == 1 && said && slices.Contains([]State{Done, Failed, Rejected}, to)
						got := legal(&Command{State: from, Delivery: delivery, Attempt: attempt}, Change{State: to, Actor: byDevice, fromDevice: said})
						if checked++; got != want {
							t.Errorf("%s, attempt %d, said by the device %v: %q to %q legal = %v, want %v", delivery, attempt, said, from, to, got, want)
						}
					}
				}
			}
		}
	}
	if checked != 8*12*12 {
		t.Errorf("checked %d pairs", checked)
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
	for range 1000 {
		var later ids
		later.follow(last)
		later.follow("U" + last[1:]) // no id
		later.follow(firstID(now))
		id := later.next(now.Add(-time.Hour))
		if want := g.next(now.Add(-time.Hour)); id != want {
			t.Fatalf("after %s comes %s, want %s", last, id, want)
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
