package devices_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
)

// patience is how long a device waits on the spot at most.
const patience = 3 * time.Second

// herdMember is a device that obeys: it comes at the slot that it was told.
type herdMember struct {
	refusals int
	in       time.Duration // since the herd began
}

// herd lets so many devices come at once, each of which obeys after late, and returns how they fared.
func herd(a *devices.Admission, size int, late time.Duration) []herdMember {
	members := make([]herdMember, size)
	start := time.Now()
	var all sync.WaitGroup
	for i := range members {
		all.Go(func() {
			for {
				no := a.Admit(context.Background(), fmt.Sprint("d", i), false)
				if no == nil {
					members[i].in = time.Since(start)
					return
				}
				members[i].refusals++
				time.Sleep(no.After + late)
			}
		})
	}
	all.Wait()
	return members
}

// A herd comes in at the hub's rate, and who obeys is refused at most once, also when the answer rounds its time up.
func TestAHerdComesInAtItsPaceAndNobodyIsRefusedTwice(t *testing.T) {
	for _, late := range []time.Duration{0, 990 * time.Millisecond, 20 * time.Second} {
		t.Run(late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size, rate = 5000, 250
				a := devices.NewAdmission(devices.AdmissionConfig{Rate: rate, Connections: size})
				perSecond := map[int]int{}
				told := 0
				for i, m := range herd(a, size, late) {
					if m.refusals > 1 {
						t.Fatalf("device %d was refused %d times", i, m.refusals)
					}
					told += m.refusals
					perSecond[int((m.in-late)/time.Second)]++
				}
				for second, n := range perSecond {
					if second > 0 && n > rate+1 { // in the first second those of the slots that were left over as well
						t.Errorf("%d came in in second %d", n, second)
					}
				}
				if took := len(perSecond); took < size/rate || took > size/rate+4 {
					t.Errorf("all were in after %d s, want some %d", took, size/rate)
				}
				if want := size - rate*int(patience/time.Second) - rate/2; told < want-2 || told > want+2 {
					t.Errorf("%d were told to come later, want some %d: who is in within 3 s waits", told, want)
				}
				if s := a.Stats(); s.Admitted != size || s.Refused["too_many_at_once"] != uint64(told) || s.Early != 0 || s.Places != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

// Who comes before its slot keeps it and gains nothing; who comes then is in, whoever came in between.
func TestAPlaceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		a := devices.NewAdmission(devices.AdmissionConfig{Rate: 1, Connections: 100})
		var slot time.Time
		for i := range 4 {
			go a.Admit(ctx, fmt.Sprint("other", i), false)
			synctest.Wait()
		}
		for range 3 {
			no := a.Admit(ctx, "d", false)
			if no == nil || no.Reason != "too_many_at_once" || no.Limit != 1 || !strings.Contains(no.Message, "faster than 1 a second") {
				t.Fatalf("%+v, want a time", no)
			}
			if at := time.Now().Add(no.After); !slot.IsZero() && !at.Equal(slot) {
				t.Errorf("the slot became %v, was %v", at, slot)
			} else {
				slot = at
			}
			time.Sleep(200 * time.Millisecond)
		}
		late := a.Admit(ctx, "last", false)
		if late == nil || !time.Now().Add(late.After).After(slot) {
			t.Errorf("who came later was told %+v", late)
		}
		time.Sleep(time.Until(slot) - time.Second)
		if no := a.Admit(ctx, "d", false); no != nil || !time.Now().Equal(slot) {
			t.Errorf("a second early: %+v at %v, want to be let in at %v", no, time.Now(), slot)
		}
		if s := a.Stats(); s.Early != 2 || s.Places != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// Places of devices that do not come are given up, and hold up nobody.
func TestPlacesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := devices.NewAdmission(devices.AdmissionConfig{Rate: 100, Connections: 100})
		ctx, gone := context.WithCancel(t.Context())
		gone()
		told := 0
		for i := range 2000 {
			if a.Admit(ctx, fmt.Sprint("d", i), false) != nil {
				told++
			}
		}
		if s := a.Stats(); s.Places != told || told < 1000 || s.Ahead < 15*time.Second {
			t.Fatalf("told %d, stats %+v", told, s)
		}
		time.Sleep(20 * time.Second) // the last slot
		start := time.Now()
		if no := a.Admit(t.Context(), "new", false); no != nil || !time.Now().Equal(start) {
			t.Errorf("after the last slot: %+v", no)
		}
		time.Sleep(time.Minute)
		if s := a.Stats(); s.Places != 0 || s.Forgotten != uint64(told) {
			t.Errorf("stats %+v", s)
		}
	})
}

// However many come, what is remembered of them is bounded, and so is what they are told.
func TestTheLineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := devices.NewAdmission(devices.AdmissionConfig{Rate: 10, Connections: 100})
		ctx, gone := context.WithCancel(t.Context())
		gone()
		for i := range 20_000 {
			if no := a.Admit(ctx, fmt.Sprint("d", i), false); no != nil && no.After > 7*time.Minute {
				t.Fatalf("device %d was told %v", i, no.After)
			}
		}
		if s := a.Stats(); s.Places > 3000 || s.Ahead > 5*time.Minute+time.Second {
			t.Errorf("stats %+v", s)
		}
	})
}

// At a planned stop each device has a slot of its own, evenly over the time that the hub needs for them.
func TestSlotsAfterAStopAreSpreadEvenly(t *testing.T) {
	for _, c := range []struct {
		devices, rate int
		last          time.Duration
	}{
		{1, 100, 2 * time.Second},
		{400, 100, 7 * time.Second}, // 5 s for 400 devices at 0.8 of the rate, from 2 s on
		{40_000, 100, 5*time.Minute + 2*time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := devices.NewAdmission(devices.AdmissionConfig{Rate: float64(c.rate), Connections: c.devices})
			for range c.devices {
				if no := a.Enter(false); no != nil {
					t.Fatal(no)
				}
			}
			waiting := make(chan *devices.NotNow)
			go func() {
				for range c.rate/2 + 2 { // until one has to wait
					if no := a.Admit(context.Background(), "late", true); no != nil {
						waiting <- no
					}
				}
			}()
			synctest.Wait()
			a.Stop()
			if no := <-waiting; no.Reason != "hub_stopping" {
				t.Errorf("who waited was told %+v", no)
			}
			a.Stop()
			var before, step time.Duration
			for i := range c.devices - 1 {
				no := a.Leave()
				if no.After < time.Second || no.Reason != "hub_stopping" || no.CloseReason() != fmt.Sprintf(`{"retry_after_ms":%d}`, no.After.Milliseconds()) {
					t.Fatalf("slot %d: %+v", i, no)
				}
				if i > 1 && no.After-before != step {
					t.Fatalf("slot %d is %v after the one before, the others %v", i, no.After-before, step)
				}
				before, step = no.After, no.After-before
			}
			last := a.Admit(t.Context(), "other", false)
			if last == nil || last.Reason != "hub_stopping" || (last.After-c.last).Abs() > time.Second {
				t.Errorf("the last is told %+v, want %v", last, c.last)
			}
		})
	}
}

func TestAllConnectionsTaken(t *testing.T) {
	a := devices.NewAdmission(devices.AdmissionConfig{Rate: 1000, Connections: 1})
	if no := a.Enter(false); no != nil {
		t.Fatal(no)
	}
	for name, no := range map[string]*devices.NotNow{"Admit": a.Admit(t.Context(), "d", false), "Enter": a.Enter(false)} {
		if no == nil || no.Reason != "too_many_connections" || no.Limit != 1 || no.Value != 1 || no.After < 30*time.Second || no.After > time.Minute {
			t.Errorf("%s: %+v", name, no)
		}
	}
	// A device that is there replaces its own connection, also one that is dead and not yet found so.
	if no := a.Admit(t.Context(), "d", true); no != nil {
		t.Errorf("to replace its own: %+v", no)
	}
	if no := a.Enter(true); no != nil {
		t.Errorf("to replace its own: %+v", no)
	}
	a.Exit()
	a.Exit()
	if no := a.Admit(t.Context(), "d", false); no != nil {
		t.Errorf("a place is free: %+v", no)
	}
}

// Before the upgrade a device is told its slot in the header, in whole seconds, and exactly in the body; it waits on the
// spot where that is near.
func TestADeviceIsToldItsSlotBeforeTheUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBoundedHub(t, 0.25, 100) // one in 4 s
		h.dial("d1")
		slots := map[string]time.Time{}
		for _, id := range []string{"d2", "d3"} {
			conn := h.listener.dial()
			_, resp, err := upgrade(conn, "/connect", bearer(h.tokens[id]))
			if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("%s: %v %v", id, resp, err)
			}
			body, _ := io.ReadAll(resp.Body)
			var problem struct {
				Reason, Detail string
				RetryAfterMs   int64 `json:"retry_after_ms"`
				Limit          int
			}
			if err := json.Unmarshal(body, &problem); err != nil || problem.Reason != "too_many_at_once" || problem.Detail == "" || problem.Limit != 1 {
				t.Errorf("%s: %s, %v", id, body, err)
			}
			seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
			if ms := int(problem.RetryAfterMs); err != nil || seconds*1000 < ms || seconds*1000 > ms+999 {
				t.Errorf("%s: Retry-After %q and %d ms", id, resp.Header.Get("Retry-After"), ms)
			}
			slots[id] = time.Now().Add(time.Duration(problem.RetryAfterMs) * time.Millisecond)
			if e := h.sessions.Events(id); len(e) != 1 || e[0].Reason != "too_many_at_once" || e[0].Status != 503 || e[0].RetryAfter != problem.RetryAfterMs || e[0].Limit != 1 {
				t.Errorf("%s: recorded %+v", id, e)
			}
			conn.Close()
		}
		if apart := slots["d3"].Sub(slots["d2"]); apart != 4*time.Second {
			t.Errorf("the slots are %v apart, want 4 s", apart)
		}
		time.Sleep(time.Until(slots["d3"])) // later than its slot for d2
		h.dial("d2").hello(`{}`)
		h.dial("d3").hello(`{}`)
		if got := h.connector.Refused()["too_many_at_once"]; got != 2 {
			t.Errorf("refused %d", got)
		}
	})
}

// When the last connection was taken while a device was being upgraded, it is told after the upgrade.
func TestNoConnectionIsLeftAfterTheUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBoundedHub(t, 1000, 1)
		gate := &gatedConn{Conn: h.listener.dial(), asked: make(chan struct{}), open: make(chan struct{})}
		late := make(chan *device)
		go func() {
			ws, _, err := upgrade(gate, "/connect", bearer(h.tokens["d1"]))
			if err != nil {
				t.Error(err)
			}
			d := &device{t: t, id: "d1", ws: ws, frames: make(chan string, 10), ended: make(chan struct{})}
			go d.read()
			late <- d
		}()
		<-gate.asked
		first := h.dial("d2")
		first.hello(`{}`)
		close(gate.open)
		d := <-late
		notice := d.wantNotice("too_many_connections")
		var reason map[string]float64
		if err := json.Unmarshal([]byte(d.wantClose(1013)), &reason); err != nil || reason["retry_after_ms"] < 30_000 || notice["retry_after_ms"] != reason["retry_after_ms"] {
			t.Errorf("told %v and %v: %v", notice, reason, err)
		}
		if _, online := h.sessions.Online("d1"); online {
			t.Error("it has a session")
		}
		conn := h.listener.dial()
		defer conn.Close()
		_, resp, err := upgrade(conn, "/connect", bearer(h.tokens["d3"]))
		if err == nil {
			t.Fatal("a third was let in")
		}
		if reason := refused(t, resp, http.StatusServiceUnavailable); reason != "too_many_connections" {
			t.Errorf("reason %s", reason)
		}
		h.dial("d2").hello(`{}`) // in the place of its own
		first.wantClose(4001)
		synctest.Wait()
		if s := h.admission.Stats(); s.Connections != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}
