package devices_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

func freezing() devices.Clones {
	return devices.Clones{Policy: devices.ClonesFreeze, Count: 4, Window: time.Minute, Freeze: 10 * time.Minute}
}

func sessionsWith(c devices.Clones) *devices.Sessions {
	s := devices.NewSessions(devices.Life{Clones: c}, slog.New(slog.DiscardHandler))
	s.Bind(&answers{})
	return s
}

// comes connects a device from an address, with a boot if one is given.
func comes(s *devices.Sessions, remote, boot, transport string) (*devices.Session, *link) {
	l := &link{}
	n := s.Attach(devices.Attachment{Device: "d1", Transport: transport, Remote: remote, Link: l})
	if boot != "" {
		n.NoteBoot(boot)
	}
	return n, l
}

// Each case is the connections of one identity, five seconds apart: address and boot. An exclamation mark before one
// says that the one before it had ended by itself. The frozen is the number of the connection that is too much.
func TestWhoIsAClone(t *testing.T) {
	for name, c := range map[string]struct {
		connections string
		frozen      int
	}{
		"two addresses":                            {"A B A B A", 5},
		"two addresses and boots":                  {"A/1 B/2 A/1 B/2 A/1", 5},
		"two boots behind one address":             {"A/1 A/2 A/1 A/2 A/1", 5},
		"two addresses, a new boot each time":      {"A/1 B/2 A/3 B/4 A/5", 5},
		"a copied flash, one boot":                 {"A/1 B/1 A/1 B/1 A/1", 5},
		"three devices":                            {"A B C A B C", 5},
		"the address comes back once":              {"A B A A A A A A", 0},
		"one on a bad network":                     {"A/1 A/1 A/1 A/1 A/1 A/1 A/1 A/1", 0},
		"one on a bad network, without boots":      {"A A A A A A A A A A", 0},
		"one that says hello now and then":         {"A/1 A A/1 A A/1 A A/1", 0},
		"one that restarts in a loop":              {"A/1 A/2 A/3 A/4 A/5 A/6 A/7", 0},
		"another address of the carrier each time": {"A/1 B/1 C/1 D/1 E/1 F/1 G/1", 0},
		"the carrier's, without boots":             {"A B C D E F G H", 0},
		"nobody is displaced":                      {"A !B !A !B !A !B !A !B", 0},
		"a clone beside a bad network":             {"A A A A A A B A B A", 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := sessionsWith(freezing())
				var before *devices.Session
				var old *link
				for i, connection := range strings.Fields(c.connections) {
					time.Sleep(5 * time.Second)
					who, alone := strings.CutPrefix(connection, "!")
					if alone {
						before.Detach("the device closed")
					}
					address, boot, _ := strings.Cut(who, "/")
					n, l := comes(s, fmt.Sprintf("%s:%d", address, 1000+i), boot, "wss")
					frozen := s.Frozen("d1") != nil
					if frozen != (i+1 == c.frozen) {
						t.Fatalf("connection %d, %s: frozen %v", i+1, connection, frozen)
					}
					if frozen {
						if got := l.closes; len(got) != 1 || !strings.HasPrefix(got[0], "4004 frozen as a clone until ") {
							t.Errorf("the newest was told %q", got)
						}
						// Where the boot tells, it is known only when the older one has been told.
						if got := old.closes; len(got) != 1 || !strings.HasPrefix(got[0], "4004 ") && boot == "" {
							t.Errorf("the one before was told %q", got)
						}
						return
					}
					before, old = n, l
				}
			})
		})
	}
}

// Each side is shown once, with its boot where one of its connections named it.
func TestSidesAreShownOnce(t *testing.T) {
	s := sessionsWith(freezing())
	for _, c := range [][2]string{{"A:1", ""}, {"B:1", "two"}, {"A:2", "one"}, {"B:2", "two"}, {"A:3", ""}} {
		comes(s, c[0], c[1], "wss")
	}
	f := s.Frozen("d1")
	if f == nil || len(f.Sides) != 2 || f.Sides[0].Boot != "one" || f.Sides[1].Boot != "two" {
		t.Errorf("frozen %+v", f)
	}
}

// What is too slow is no clone: three displacements in each minute.
func TestSlowTakeoversAreNoClones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sessionsWith(freezing())
		for i := range 100 {
			comes(s, string(rune('A'+i%2))+":1", "", "wss")
			if s.Frozen("d1") != nil {
				t.Fatalf("frozen at connection %d", i+1)
			}
			time.Sleep(20*time.Second + time.Millisecond)
		}
	})
}

// Of two devices of which one comes by MQTT, whose engine ends the older connection before the newer is attached.
func TestClonesByMixedTransports(t *testing.T) {
	s := sessionsWith(freezing())
	comes(s, "A:1", "", "wss")
	for i := range 2 {
		n, _ := comes(s, "B:1", "", "mqtt")
		if s.Frozen("d1") != nil {
			t.Fatalf("frozen early, round %d", i)
		}
		n.Detach(devices.CauseReplaced)
		comes(s, "A:1", "", "mqtt")
	}
	f := s.Frozen("d1")
	if f == nil || f.Count != 4 || len(f.Sides) != 2 || f.Sides[0].Remote != "A:1" || f.Sides[1].Remote != "B:1" {
		t.Fatalf("frozen %+v", f)
	}
	if p := s.Presence("d1"); p.Online || p.Frozen != f || !strings.HasPrefix(p.Cause, "frozen") {
		t.Errorf("presence %+v", p)
	}
}

// A device behind an external broker gives way to its own connection; that is no fight.
func TestADeviceOfABridgeIsNoClone(t *testing.T) {
	s := sessionsWith(freezing())
	for range 10 {
		s.AttachIfAbsent(devices.Attachment{Device: "d1", Transport: "bridge:x", Remote: "broker:1", Link: &link{}})
		n, _ := comes(s, "A:1", "", "wss")
		n.Detach("connection lost")
	}
	if s.Frozen("d1") != nil {
		t.Error("frozen")
	}
}

// Only told: the newest wins each time, and goes on doing so.
func TestNewestIsOnlyTold(t *testing.T) {
	c := freezing()
	c.Policy = devices.ClonesNewest
	s := sessionsWith(c)
	for range 10 {
		for _, remote := range []string{"A:1", "B:1"} {
			if _, l := comes(s, remote, "", "wss"); len(l.closes) != 0 {
				t.Fatalf("closed: %q", l.closes)
			}
		}
	}
	if p := s.Presence("d1"); !p.Online || p.Frozen != nil {
		t.Errorf("presence %+v", p)
	}
	var told uint64
	for _, e := range s.Events("d1") {
		if e.Kind == devices.EventClone && e.Reason == "contested" && strings.Contains(e.Message, "A:1") && strings.Contains(e.Message, "B:1") {
			told += e.Count
		}
	}
	if got := s.Troubles(); told == 0 || got.Clones != told || got.Frozen != 0 {
		t.Errorf("told %d times, counted %+v", told, got)
	}
}

// frozenHub is a hub on whose device d1 two boots have just fought, over real connections.
func frozenHub(t *testing.T, c devices.Clones) *hub {
	h := newHubOf(t, devices.Life{Clones: c})
	for i := range 5 {
		d := h.dial("d1")
		if i == 4 { // that of the hello that is too much has no answer any more
			d.send(`{"id":"h","method":"hello","params":{"boot":"one"}}`)
			if reason := d.wantClose(wire.CloseFrozen); !strings.HasPrefix(reason, "frozen as a clone until ") {
				t.Errorf("reason %q", reason)
			}
			break
		}
		d.hello(fmt.Sprintf(`{"boot":"%s"}`, []string{"one", "two"}[i%2]))
		time.Sleep(time.Second)
	}
	return h
}

// A frozen device is refused before the upgrade, and told when to come; others behind the same address are not.
func TestAFrozenDeviceIsRefusedUntilItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := frozenHub(t, freezing())
		changes := h.sessions.Subscribe(10)
		defer changes.Close()
		time.Sleep(10 * time.Second)
		conn := h.listener.dial()
		_, resp, _ := upgrade(conn, "/connect", bearer(h.tokens["d1"]))
		if got := refused(t, resp, http.StatusTooManyRequests); got != "frozen" {
			t.Errorf("reason %q", got)
		}
		if got := resp.Header.Get("Retry-After"); got != "590" {
			t.Errorf("Retry-After %q, want the 590 s that are left", got)
		}
		conn.Close()
		conn = h.listener.dial()
		_, resp, _ = upgrade(conn, "/connect/d1", bearer("dev_wrong")) // who has no credentials learns nothing
		if got := refused(t, resp, http.StatusUnauthorized); got != "bad_credentials" {
			t.Errorf("reason %q", got)
		}
		conn.Close()
		h.dial("d2").hello(`{}`) // from the same address
		if p := h.sessions.Presence("d1"); p.Online || p.Frozen == nil || len(p.Frozen.Sides) != 2 || p.Frozen.Sides[0].Boot != "one" || p.Frozen.Sides[1].Boot != "two" {
			t.Errorf("presence %+v", p)
		}
		if n := h.connector.Refused()["frozen"]; n != 1 {
			t.Errorf("%d were counted as refused", n)
		}

		time.Sleep(591 * time.Second)
		synctest.Wait()
		if p := h.sessions.Presence("d1"); p.Frozen != nil || p.Cause == "" {
			t.Errorf("presence %+v", p)
		}
		if got := h.sessions.Troubles(); got.Frozen != 0 || got.Clones != 1 {
			t.Errorf("counted %+v", got)
		}
		h.dial("d1").hello(`{"boot":"two"}`)
		last, whats := devices.PresenceChange{}, []string(nil)
		for len(changes.C()) > 0 {
			c := <-changes.C()
			if c.Version <= last.Version {
				t.Errorf("change %d after %d", c.Version, last.Version)
			}
			last = c
			whats = append(whats, c.What)
		}
		wantLines(t, whats, "connected", "unfrozen", "connected")
		if !last.Online || last.Frozen != nil {
			t.Errorf("the last change %+v", last)
		}
		var kinds []string
		for _, e := range h.sessions.Events("d1") {
			if e.Kind == devices.EventClone || e.Kind == devices.EventRefused {
				kinds = append(kinds, e.Kind+" "+e.Reason)
			}
		}
		wantLines(t, kinds, "clone unfrozen", "refused bad_credentials", "refused frozen", "clone frozen")
	})
}

func TestAnOperatorEndsAFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := freezing()
		c.Freeze = 0
		h := newHubOf(t, devices.Life{Clones: c})
		for range 3 {
			for _, remote := range []string{"A:1", "B:1"} {
				comes(h.sessions, remote, "", "wss")
			}
		}
		time.Sleep(30 * 24 * time.Hour)
		conn := h.listener.dial()
		_, resp, _ := upgrade(conn, "/connect", bearer(h.tokens["d1"]))
		if got := refused(t, resp, http.StatusForbidden); got != "frozen" || resp.Header.Get("Retry-After") != "" {
			t.Errorf("reason %q, Retry-After %q", got, resp.Header.Get("Retry-After"))
		}
		conn.Close()
		if h.sessions.Unfreeze("d2", "otto") || !h.sessions.Unfreeze("d1", "otto") || h.sessions.Unfreeze("d1", "otto") {
			t.Error("want d1 let in again once")
		}
		if e := h.sessions.Events("d1")[0]; e.Reason != "unfrozen" || !strings.Contains(e.Message, "otto") {
			t.Errorf("noted %+v", e)
		}
		h.dial("d1").hello(`{}`)
	})
}

// One that was let in before the freeze, and is attached after it.
func TestWhoComesLateIsFrozenToo(t *testing.T) {
	s := sessionsWith(freezing())
	for range 3 {
		comes(s, "A:1", "", "wss")
		comes(s, "B:1", "", "wss")
	}
	n, l := comes(s, "C:1", "", "wss")
	if len(l.closes) != 1 || !strings.HasPrefix(l.closes[0], "4004 ") || s.Presence("d1").Online {
		t.Errorf("told %q, presence %+v", l.closes, s.Presence("d1"))
	}
	n.Ready()
	n.Detach("over")
	if _, attached := s.AttachIfAbsent(devices.Attachment{Device: "d1", Transport: "bridge:x", Link: &link{}}); attached {
		t.Error("attached from a bridge")
	}
	s.Forget("d1")
	if s.Frozen("d1") != nil {
		t.Error("a device that was deleted is still frozen")
	}
}

func TestAFreezeSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		s := sessionsWith(freezing())
		stop := keep(s, kv)
		for range 3 {
			comes(s, "A:1", "", "wss")
			comes(s, "B:1", "", "wss")
		}
		time.Sleep(3 * time.Second) // the hub is killed: the last write does not count
		synctest.Wait()
		again := restored(t, kv)
		was, is := s.Frozen("d1"), again.Frozen("d1")
		if is == nil || !is.Until.Equal(was.Until) || len(is.Sides) != 2 || !reflect.DeepEqual(is.Sides[0].Remote, was.Sides[0].Remote) {
			t.Errorf("frozen %+v, was %+v", is, was)
		}
		if before, after := s.Presence("d1").Version, again.Presence("d1").Version; before != after {
			t.Errorf("version %d, was %d", after, before)
		}
		first := again.Presence("d1").Version
		again.Unfreeze("d1", "otto")
		if v := again.Presence("d1").Version; v <= first {
			t.Errorf("version %d after %d", v, first)
		}
		stop()
		time.Sleep(10 * time.Minute)
		if f := restored(t, kv).Frozen("d1"); f != nil {
			t.Errorf("frozen %+v though its time is over", f)
		}
	})
}

// Nothing is kept of devices that were displaced once.
func TestAContestIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHubOf(t, devices.Life{Clones: freezing()})
		for i := range 100 {
			for range 2 {
				h.sessions.Attach(devices.Attachment{Device: fmt.Sprint("x", i), Transport: "wss", Remote: "A:1", Link: &link{}})
			}
		}
		if n := h.sessions.Contests(); n != 100 {
			t.Errorf("%d contests, want 100", n)
		}
		time.Sleep(62 * time.Second)
		synctest.Wait()
		if n := h.sessions.Contests(); n != 0 {
			t.Errorf("%d contests are left", n)
		}
	})
}
