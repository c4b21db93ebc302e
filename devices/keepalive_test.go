package devices_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A silent device that answers pings stays for ever, and is pinged no oftener than it must be.
func TestPingsOnlyWhenSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		start := time.Now()
		d := h.dial("d1")
		gaps := map[time.Duration]bool{}
		life := start
		for time.Since(start) < 2*time.Hour {
			at := <-d.pings
			gap := at.Sub(life)
			if gap < 35*time.Second || gap > 45*time.Second {
				t.Fatalf("pinged %v after the last sign of life, want 35 to 45 s", gap)
			}
			gaps[gap], life = true, at
		}
		if len(gaps) < 3 {
			t.Errorf("all pings came after %v: no jitter", gaps)
		}
		synctest.Wait()
		if got := h.sessions.Presence("d1"); !got.Online || got.LastSeen.Sub(life) != 0 {
			t.Errorf("presence %+v, want last seen %v", got, life)
		}
	})
}

func TestTelemetryIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dialMute("d1") // a ping would be its end
		for range 100 {
			time.Sleep(30 * time.Second)
			d.send(`{"T":1}`)
		}
		synctest.Wait()
		if len(d.pings) != 0 || len(h.sink.lines()) != 100 {
			t.Errorf("%d pings, %d frames", len(d.pings), len(h.sink.lines()))
		}
	})
}

// A device's own pings are life, and answered.
func TestTheDevicesPingIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dialMute("d1")
		pongs := make(chan string, 100)
		d.ws.SetPongHandler(func(data string) error { pongs <- data; return nil })
		for i := range 50 {
			time.Sleep(30 * time.Second)
			if err := d.ws.WriteControl(9, fmt.Append(nil, i), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if got := <-pongs; got != fmt.Sprint(i) {
				t.Fatalf("pong %q, want %d", got, i)
			}
		}
		if len(d.pings) != 0 {
			t.Errorf("%d pings", len(d.pings))
		}
	})
}

// A device whose network went away without a word: one ping, then 4002 at the sweeper's first look after one and a
// half intervals.
func TestHalfOpen(t *testing.T) {
	for asked, want := range map[int]time.Duration{
		0: 68 * time.Second, 10: 16 * time.Second, 60: 91 * time.Second, 900: 1351 * time.Second,
	} {
		t.Run(fmt.Sprint(asked, " s"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				start := time.Now()
				d := h.dialMute("d1")
				d.hello(fmt.Sprintf(`{"keepalive_s":%d}`, asked))
				s := h.session("d1")
				reason := d.wantClose(4002)
				if took := d.endedAt.Sub(start); took != want {
					t.Errorf("closed after %v, want %v", took, want)
				}
				if want := fmt.Sprintf("no sign of life for %v", want); reason != want {
					t.Errorf("reason %q, want %q", reason, want)
				}
				if len(d.pings) != 1 {
					t.Errorf("pinged %d times, want once", len(d.pings))
				}
				time.Sleep(2 * time.Second) // in which it may answer the close frame
				synctest.Wait()
				p := h.sessions.Presence("d1")
				if p.Online || p.Cause != reason || p.DisconnectedAt.Sub(start) != want+2*time.Second || !p.LastSeen.Equal(start) {
					t.Errorf("presence %+v", p)
				}
				wantLines(t, h.answers.lines(), fmt.Sprintf("ready d1 %d", s), fmt.Sprintf("ended d1 %d", s))
			})
		})
	}
}

// While the journal is behind it is the hub that does not read: nobody dies of that, nor is pinged.
func TestLivenessStandsStillWhileAppendWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.block()
		start := time.Now()
		d := h.dialMute("d1")
		d.send(`{"T":1}`)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(d.pings) != 0 || !h.sessions.Presence("d1").Online {
			t.Fatalf("%d pings, presence %+v", len(d.pings), h.sessions.Presence("d1"))
		}
		h.sink.free()
		d.wantClose(4002)
		if took := d.endedAt.Sub(start); took != 10*time.Minute+68*time.Second {
			t.Errorf("closed after %v, want 10m + 68s", took)
		}
	})
}

// Commands wait for hello, for another first frame, or for two seconds.
func TestReadiness(t *testing.T) {
	for name, c := range map[string]struct {
		frame, answer string
		after         time.Duration
	}{
		"hello":             {`{"id":1,"method":"hello","params":{"keepalive_s":45}}`, "welcome", time.Second},
		"telemetry":         {`{"id":1,"method":"telemetry","params":{"values":{"T":1}}}`, result("1"), time.Second},
		"an unusable frame": {`{"id":1,"method":"nope"}`, "error", time.Second},
		"silence":           {"", "", 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t)
				start := time.Now()
				d := h.dial("d1")
				synctest.Wait()
				s := h.session("d1")
				if err := h.sessions.Send("d1", s, ping("A")); err == nil {
					t.Fatal("a command was taken before the device was ready")
				}
				h.answers.mu.Lock()
				h.answers.ready = func(session uint64) {
					for _, id := range []string{"A", "B"} {
						if err := h.sessions.Send("d1", session, ping(id)); err != nil {
							t.Error(err)
						}
					}
				}
				h.answers.mu.Unlock()
				time.Sleep(time.Second)
				synctest.Wait()
				d.wantNone()
				if got := h.answers.lines(); len(got) != 0 {
					t.Errorf("told %v before it is ready", got)
				}
				if c.frame != "" {
					d.send(c.frame)
					if first := d.next(); c.answer == result("1") && first != c.answer {
						t.Errorf("first came %s, want the answer", first)
					}
				}
				d.want(pingFrame("A"), pingFrame("B"))
				if took := time.Since(start); took != c.after {
					t.Errorf("the commands came after %v, want %v", took, c.after)
				}
				if err := h.sessions.Send("d1", s, ping("C")); err != nil {
					t.Fatal(err)
				}
				d.want(pingFrame("C"))
				time.Sleep(5 * time.Second)
				wantLines(t, h.answers.lines(), fmt.Sprintf("ready d1 %d", s))
			})
		})
	}
}

// The ping is within the interval also where the device's frames come between the sweeper's looks.
func TestPingsAreWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		time.Sleep(100 * time.Millisecond) // just after the sweeper's look
		for range 100 {
			d.send(`{"T":1}`)
			life := time.Now()
			if gap := (<-d.pings).Sub(life); gap > 45*time.Second {
				t.Fatalf("pinged %v after the last sign of life, want at most 45 s", gap)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}
