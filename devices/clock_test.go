package devices_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
)

// says connects d1, lets it say hello with a clock that is off, and disconnects it.
func (h *hub) says(off time.Duration) {
	d := h.dial("d1")
	synctest.Wait() // its session is attached after the handshake's answer
	d.hello(fmt.Sprintf(`{"time":%d}`, time.Now().Add(off).UnixMilli()))
	_ = d.ws.Close()
	synctest.Wait()
}

func wantOffset(t *testing.T, s *devices.Sessions, want time.Duration) {
	t.Helper()
	p := s.Presence("d1")
	if got := time.Duration(p.ClockOffsetMs) * time.Millisecond; got != want || p.ClockAt.IsZero() {
		t.Errorf("the clock is off by %v (learned %v), want %v", got, p.ClockAt, want)
	}
}

func TestTheClocksOffsetIsLearnedFromHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.dial("d1").hello(`{}`)
		if p := h.sessions.Presence("d1"); !p.ClockAt.IsZero() {
			t.Errorf("%+v of a device that told no time", p)
		}
		h.says(10 * time.Second)
		wantOffset(t, h.sessions, 10*time.Second)
		h.says(9 * time.Second) // noise: a quarter of it
		wantOffset(t, h.sessions, 9750*time.Millisecond)
		h.says(-time.Hour) // set
		wantOffset(t, h.sessions, -time.Hour)
		h.says(0)
		wantOffset(t, h.sessions, 0)
		h.says(-56 * 365 * 24 * time.Hour) // a device without a clock thinks that it is 1970
		wantOffset(t, h.sessions, -56*365*24*time.Hour)
		h.dial("d1") // says nothing
		synctest.Wait()
		wantOffset(t, h.sessions, -56*365*24*time.Hour)
		h.says(time.Second) // replaces that connection
		wantOffset(t, h.sessions, time.Second)
	})
}

func TestAnOffsetSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		s, _ := newSessions()
		stop := keep(s, kv)
		n, _ := attach(s, "d1")
		n.LearnClock(time.Now().UnixMilli() + 1500)
		stop()
		again := restored(t, kv)
		wantOffset(t, again, 1500*time.Millisecond)
		attach(again, "d1")
		wantOffset(t, again, 1500*time.Millisecond)
	})
}

// A number that no clock shows must not turn round.
func TestAnAbsurdClockStaysOnItsSide(t *testing.T) {
	s, _ := newSessions()
	n, _ := attach(s, "d1")
	n.LearnClock(-1 << 63)
	if p := s.Presence("d1"); p.ClockOffsetMs >= 0 {
		t.Errorf("offset %d of a clock far behind", p.ClockOffsetMs)
	}
}

// Readings keep the time that they came with, however wrong the clock is known to be.
func TestReadingsAreNotMovedByTheOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.hello(fmt.Sprintf(`{"boot":"b","time":%d}`, time.Now().Add(time.Hour).UnixMilli()))
		d.send(`{"id":1,"method":"telemetry","params":{"seq":1,"ts":1458031648545,"values":{"T":1}}}`)
		d.want(result("1"), ack("b", "1"))
		wantLines(t, h.sink.lines(), `d1  boot=b seq=1 {"seq":1,"ts":1458031648545,"values":{"T":1}}`)
	})
}
