package devices_test

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
	"telemetryhub/wire"
)

// link is a Link that keeps what it was told.
type link struct {
	mu     sync.Mutex
	sent   []string
	closes []string
}

func (l *link) Send(cmd wire.Command) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, cmd.ID)
	return nil
}

func (l *link) Cancel(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, "cancel "+id)
	return nil
}

func (l *link) Desire(st wire.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, fmt.Sprint("state ", st.Version))
}

func (l *link) Close(code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closes = append(l.closes, fmt.Sprint(code, " ", reason))
}

func newSessions() (*devices.Sessions, *answers) {
	s, a := devices.NewSessions(devices.Life{}, slog.New(slog.DiscardHandler)), &answers{}
	s.Bind(a)
	return s, a
}

func attach(s *devices.Sessions, device string) (*devices.Session, *link) {
	l := &link{}
	return s.Attach(devices.Attachment{Device: device, Transport: "test", Remote: "here", Link: l}), l
}

// A link that yields comes by many goroutines at once with the one that wins: never is that one closed.
func TestAYieldingSessionTakesNobodysPlace(t *testing.T) {
	s, told := newSessions()
	var work sync.WaitGroup
	direct := &link{}
	for i := range 8 {
		work.Go(func() {
			if i == 0 {
				s.Attach(devices.Attachment{Device: "d1", Transport: "test", Link: direct})
				return
			}
			n, attached := s.AttachIfAbsent(devices.Attachment{Device: "d1", Transport: "bridge", Link: &link{}})
			if attached != (n != nil) {
				t.Errorf("session %v, attached %v", n, attached)
			}
		})
	}
	work.Wait()
	if p := s.Presence("d1"); p.Transport != "test" {
		t.Errorf("presence %+v, want the direct connection", p)
	}
	wantLines(t, direct.closes)
	before := told.lines()
	if n, attached := s.AttachIfAbsent(devices.Attachment{Device: "d1", Link: &link{}}); n != nil || attached {
		t.Error("attached beside the direct connection")
	}
	wantLines(t, told.lines(), before...)
	s.Kick("d1", 1000, "gone")
	if _, attached := s.AttachIfAbsent(devices.Attachment{Device: "d1", Transport: "bridge", Link: &link{}}); !attached || s.Presence("d1").Transport != "bridge" {
		t.Error("not attached though the device has no connection")
	}
}

func TestNewestSessionWins(t *testing.T) {
	s, told := newSessions()
	old, oldLink := attach(s, "d1")
	other, _ := attach(s, "d2")
	now, nowLink := attach(s, "d1")
	if now.ID() <= other.ID() || other.ID() <= old.ID() {
		t.Errorf("ids %d, %d, %d do not grow", old.ID(), other.ID(), now.ID())
	}
	wantLines(t, oldLink.closes, "4001 replaced by a newer connection")
	wantLines(t, nowLink.closes)
	wantLines(t, told.lines(), fmt.Sprint("ended d1 ", old.ID()))

	old.Detach("connection lost") // it is over already
	if id, ok := s.Online("d1"); !ok || id != now.ID() {
		t.Errorf("online %d %v, want %d", id, ok, now.ID())
	}
	if p := s.Presence("d1"); !p.Online || p.Session != now.ID() || p.Cause != "replaced by a newer connection" || p.DisconnectedAt.IsZero() {
		t.Errorf("presence %+v", p)
	}
	if err := s.Send("d1", old.ID(), ping("A")); err == nil {
		t.Error("a command for the old session was sent")
	}
	if err := s.Send("d1", now.ID(), ping("B")); err != nil {
		t.Error(err)
	}
	if err := s.Send("d2", now.ID(), ping("C")); err == nil {
		t.Error("a command for another device's session was sent")
	}
	if err := s.Send("nobody", 1, ping("D")); err == nil {
		t.Error("a command for nobody was sent")
	}
	wantLines(t, nowLink.sent, "B")
	wantLines(t, oldLink.sent)

	now.Detach("first")
	now.Detach("second")
	if p := s.Presence("d1"); p.Online || p.Cause != "first" {
		t.Errorf("presence %+v", p)
	}
	wantLines(t, told.lines(), fmt.Sprint("ended d1 ", old.ID()), fmt.Sprint("ended d1 ", now.ID()))
	if err := s.Send("d1", now.ID(), ping("E")); err == nil {
		t.Error("a command for a session that ended was sent")
	}
	if got := s.Count(); len(got) != 1 || got["test"] != 1 {
		t.Errorf("count %v, want one", got)
	}
}

// TestTheEndOfASessionIsToldLast lets a connection end, and another take its place, while the hub finds it ready.
func TestTheEndOfASessionIsToldLast(t *testing.T) {
	s, told := newSessions()
	gone, _ := attach(s, "d1")
	gone.Detach("connection lost")
	gone.Ready()
	replaced, _ := attach(s, "d1")
	now, _ := attach(s, "d1")
	replaced.Ready()
	now.Ready()
	id, lines := gone.ID(), told.lines()
	want := []string{fmt.Sprint("ended d1 ", id), fmt.Sprint("ended d1 ", id+1), fmt.Sprint("ready d1 ", id+2)}
	if !slices.Equal(lines, want) {
		t.Errorf("told %q, want %q", lines, want)
	}
}

func TestKick(t *testing.T) {
	s, told := newSessions()
	n, l := attach(s, "d1")
	if s.Kick("nobody", wire.CloseRevoked, "deleted") {
		t.Error("kicked nobody")
	}
	if !s.Kick("d1", wire.CloseRevoked, "deleted") || s.Kick("d1", wire.CloseRevoked, "deleted") {
		t.Error("want one session kicked once")
	}
	wantLines(t, l.closes, "4003 deleted")
	wantLines(t, told.lines(), fmt.Sprint("ended d1 ", n.ID()))
	if p := s.Presence("d1"); p.Online || p.Cause != "deleted" {
		t.Errorf("presence %+v", p)
	}
	s.Forget("d1")
	if p := s.Presence("d1"); !reflect.DeepEqual(p, devices.Presence{}) {
		t.Errorf("presence %+v of a device that was forgotten", p)
	}
}

// The newest connection wins at once, also over one that neither reads nor answers.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		stuck := h.link("d1")
		stuck.send(`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`)
		start := time.Now()
		d := h.dial("d1")
		d.send(`{"id":2,"method":"telemetry","params":{"values":{"T":2}}}`)
		d.want(result("2"))
		second := h.dial("d1")
		second.send(`{"id":3,"method":"telemetry","params":{"values":{"T":3}}}`)
		second.want(result("3"))
		if reason := d.wantClose(4001); reason == "" {
			t.Error("4001 without a reason")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("taking over took %v", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if p := h.sessions.Presence("d1"); !p.Online {
			t.Errorf("presence %+v", p)
		}
		second.send(`{"id":4,"method":"telemetry","params":{"values":{"T":4}}}`)
		second.want(result("4"))
		if len(h.sink.lines()) != 4 {
			t.Errorf("stored %v", h.sink.lines())
		}
	})
}

// What a revoked device sends after our close frame is not taken.
func TestKickedDeviceIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dialMute("d1")
		synctest.Wait()
		h.sessions.Kick("d1", wire.CloseRevoked, "disabled")
		if h.sessions.Presence("d1").Online {
			t.Error("kicked and still online")
		}
		d.send(`{"T":1}`, `nonsense`, `{"id":"A","result":1}`)
		if reason := d.wantClose(4003); reason != "disabled" {
			t.Errorf("reason %q", reason)
		}
		start := time.Now()
		for d.ws.WriteMessage(1, []byte(`{"T":1}`)) == nil { // not for ever
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took > 2100*time.Millisecond {
			t.Errorf("it could still send for %v", took)
		}
		wantLines(t, h.sink.lines())
		wantLines(t, h.sink.refusals())
		for _, line := range h.answers.lines() {
			if strings.HasPrefix(line, "answered") {
				t.Errorf("the ledger was told %s", line)
			}
		}
	})
}

// A device that leaves by itself is answered with its own code, and the cause says it.
func TestTheDeviceCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		for _, c := range []struct {
			payload string
			code    int
			cause   string
		}{
			{"\x03\xe8bye", 1000, "the device closed: 1000 bye"},
			{"\x03\xe9", 1001, "the device closed: 1001 "},
			{"\x0f\xa0", 4000, "the device closed: 4000 "},
			{"", 1005, "the device closed: 1005 "},
		} {
			d := h.dialMute("d1")
			d.hello(`{}`)
			if err := d.ws.WriteControl(8, []byte(c.payload), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			d.wantClose(c.code)
			synctest.Wait()
			if p := h.sessions.Presence("d1"); p.Online || p.Cause != c.cause {
				t.Errorf("close %q: presence %+v, want cause %q", c.payload, p, c.cause)
			}
		}
		d := h.dial("d1")
		d.hello(`{}`)
		d.ws.Close()
		synctest.Wait()
		if p := h.sessions.Presence("d1"); p.Online || p.Cause != "connection lost" {
			t.Errorf("presence %+v", p)
		}
	})
}
