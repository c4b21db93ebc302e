package devices_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
	"telemetryhub/feed"
)

// keep lets s write its presence to kv until the returned function is called.
func keep(s *devices.Sessions, kv *memoryKV) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Keep(ctx, kv)
	}()
	return func() { cancel(); <-done }
}

// restored is what the next hub knows.
func restored(t *testing.T, kv *memoryKV) *devices.Sessions {
	t.Helper()
	s, _ := newSessions()
	if err := s.Restore(t.Context(), kv); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPresenceSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		s, _ := newSessions()
		stop := keep(s, kv)
		start := time.Now()
		n, _ := attach(s, "d1")
		n.Describe("1.4.2", "climate-2")
		stays, _ := attach(s, "d2")
		time.Sleep(10 * time.Second)
		n.Touch()
		time.Sleep(5 * time.Second)
		n.Detach("connection lost")
		stays.Touch()
		stop()

		again := restored(t, kv)
		want := devices.Presence{
			Transport: "test", Remote: "here", ConnectedAt: start, LastSeen: start.Add(10 * time.Second),
			DisconnectedAt: start.Add(15 * time.Second), Cause: "connection lost", Session: n.ID(), Version: s.Presence("d1").Version, Firmware: "1.4.2", Model: "climate-2",
			Silence: devices.Silence{Survived: 10},
		}
		if got := again.Presence("d1"); !same(got, want) {
			t.Errorf("presence\n%+v, want\n%+v", got, want)
		}
		// The last write of a hub that stops knows who is still connected; the next hub does not take that for true.
		if got := again.Presence("d2"); got.Online || got.Cause != "the hub stopped without a goodbye" || !got.DisconnectedAt.Equal(start.Add(15*time.Second)) {
			t.Errorf("presence %+v", got)
		}
		if got := again.Presence("d3"); !reflect.DeepEqual(got, devices.Presence{}) {
			t.Errorf("presence %+v of a device that never came", got)
		}
		if n, _ := attach(again, "d1"); n.ID() <= stays.ID() {
			t.Error("session ids do not grow over a restart")
		}
	})
}

// same compares times by what they mean.
func same(a, b devices.Presence) bool {
	times := a.ConnectedAt.Equal(b.ConnectedAt) && a.LastSeen.Equal(b.LastSeen) && a.ClockAt.Equal(b.ClockAt) && a.DisconnectedAt.Equal(b.DisconnectedAt)
	a.ConnectedAt, a.LastSeen, a.DisconnectedAt, a.ClockAt = b.ConnectedAt, b.LastSeen, b.DisconnectedAt, b.ClockAt
	return times && reflect.DeepEqual(a, b)
}

// The hub is killed: what was written last says when the device was seen, to half a minute, and what it is.
func TestHubStoppedWithoutAGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		s, _ := newSessions()
		defer keep(s, kv)()
		start := time.Now()
		n, _ := attach(s, "d1")
		time.Sleep(2500 * time.Millisecond)
		n.Describe("1.4.2", "climate-2") // after its connection was written
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		if got := restored(t, kv).Presence("d1"); got.Online || !got.LastSeen.Equal(start) || got.Firmware != "1.4.2" {
			t.Errorf("after 5 s: %+v", got)
		}
		for range 10 {
			time.Sleep(10 * time.Second)
			n.Touch()
		}
		time.Sleep(time.Second)
		got := restored(t, kv).Presence("d1")
		if late := time.Since(got.LastSeen); late > 31*time.Second || got.Cause != "the hub stopped without a goodbye" || !got.DisconnectedAt.Equal(got.LastSeen) {
			t.Errorf("%v late: %+v", late, got)
		}
	})
}

// A clock that was set back does not make session ids that were given already: they fence commands.
func TestSessionIDsGrowThoughTheClockWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		if _, err := kv.Put(t.Context(), "0", []byte(`{"d":{"session":4102444800000000,"last_seen":"2099-01-01T00:00:00Z"}}`)); err != nil {
			t.Fatal(err)
		}
		if n, _ := attach(restored(t, kv), "d1"); n.ID() <= 4102444800000000 {
			t.Errorf("session id %d is below one that was given", n.ID())
		}
	})
}

// A herd is a few writes, not one a device: each is synced, and would stall the readings' commits.
func TestAHerdIsWrittenInShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		s, _ := newSessions()
		stop := keep(s, kv)
		var all []*devices.Session
		for i := range 1000 {
			n, _ := attach(s, fmt.Sprint("herd-", i))
			all = append(all, n)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := kv.putCount(); got == 0 || got > 64 {
			t.Errorf("%d writes for 1000 connections, want at most 64", got)
		}
		written := kv.putCount()
		for range 300 { // each gives a sign of life each second
			for _, n := range all {
				n.Touch()
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if got := kv.putCount() - written; got > 11*64 {
			t.Errorf("%d writes for five minutes of life, want at most 64 each half minute", got)
		}
		stop()
		again := restored(t, kv)
		for i := range 1000 {
			if p := again.Presence(fmt.Sprint("herd-", i)); p.ConnectedAt.IsZero() {
				t.Fatalf("herd-%d is not known", i)
			}
		}
	})
}

func TestPresenceIsWrittenAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		s, _ := newSessions()
		stop := keep(s, kv)
		kv.breakWith(errors.New("no space left"))
		attach(s, "d1")
		time.Sleep(7 * time.Second)
		synctest.Wait()
		kv.breakWith(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if p := restored(t, kv).Presence("d1"); p.ConnectedAt.IsZero() {
			t.Error("what could not be written was not written again")
		}
		s.Forget("d1") // while it is connected: it stays until it goes
		n, _ := s.Online("d1")
		s.Kick("d1", 4003, "deleted")
		s.Forget("d1")
		stop()
		if p := restored(t, kv).Presence("d1"); !reflect.DeepEqual(p, devices.Presence{}) || n == 0 {
			t.Errorf("a forgotten device is remembered: %+v", p)
		}
	})
}

// Changes come in order, numbered without holes; who does not keep up is told how many it missed.
func TestPresenceFeed(t *testing.T) {
	s, _ := newSessions()
	fast, slow := s.Subscribe(100), s.Subscribe(2)
	defer fast.Close()
	before := s.Version() // numbers go on where those of an earlier run ended
	n, _ := attach(s, "d1")
	replaced, _ := attach(s, "d1")
	n.Detach("too late")
	attach(s, "d2")
	replaced.Detach("connection lost")
	s.Kick("d2", 4003, "deleted")
	want := []string{"1 d1 true ", "2 d1 true replaced by a newer connection", "3 d2 true ", "4 d1 false connection lost", "5 d2 false deleted"}
	wantLines(t, drain(fast, before), want...)
	wantLines(t, drain(slow, before), want[:2]...)
	if missed := slow.Missed(); missed != 3 {
		t.Errorf("missed %d, want 3", missed)
	}
	if missed := fast.Missed() + slow.Missed(); missed != 0 {
		t.Errorf("missed %d since, want 0", missed)
	}
	slow.Close()
	attach(s, "d3")
	wantLines(t, drain(fast, before), "6 d3 true ")
	wantLines(t, drain(slow, before))
}

func drain(f *feed.Feed[devices.PresenceChange], before uint64) (lines []string) {
	for {
		select {
		case c := <-f.C():
			lines = append(lines, fmt.Sprintf("%d %s %v %s", c.Version-before, c.Device, c.Online, c.Cause))
		default:
			return lines
		}
	}
}
