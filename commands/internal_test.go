package commands

import (
	"container/heap"
	"slices"
	"strings"
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

// TestAlarmsFollowAClockThatIsSet moves an expiry, which is what setting the clock does to the time that is left of it.
func TestAlarmsFollowAClockThatIsSet(t *testing.T) {
	s := &Service{wakeUp: make(chan struct{}, 1)}
	now := time.Now()
	timeout, expiry, retry := newEntry(Command{ID: "A"}), newEntry(Command{ID: "B"}), newEntry(Command{ID: "C"})
	timeout.due, expiry.due, retry.retry = now.Add(30*time.Second), stamp(now.Add(time.Hour)), now.Add(40*time.Second)
	order := func() (ids string) {
		for len(s.alarms) > 0 {
			e := s.alarms[0]
			ids += e.next.ID
			heap.Remove(&s.alarms, 0)
		}
		return ids
	}
	set := func() {
		for _, e := range []*entry{expiry, timeout, retry} {
			s.setAlarm(e)
			if !strings.Contains(e.wake.String(), "m=") {
				t.Errorf("the alarm of %s is not by the monotonic clock", e.next.ID)
			}
		}
	}
	set()
	if got := order(); got != "ACB" {
		t.Errorf("alarms come in the order %s", got)
	}
	set()
	expiry.due = stamp(now.Add(35 * time.Second))
	s.resetAlarms()
	if got := order(); got != "ABC" {
		t.Errorf("after the clock was set, alarms come in the order %s", got)
	}
}
