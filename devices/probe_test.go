package devices_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
)

const probeFrame = `{"jsonrpc":"2.0","id":"hub.probe","method":"hub.probe","params":{}}`

func probing() devices.Life {
	return devices.Life{Probes: devices.Probes{After: 10 * time.Minute, Timeout: 15 * time.Second}}
}

// nextProbe waits for the hub's probe and says when it came.
func (d *device) nextProbe() time.Time {
	d.t.Helper()
	select {
	case f := <-d.frames:
		if f != probeFrame {
			d.t.Fatalf("got %s, want a probe", f)
		}
	case <-time.After(time.Hour):
		d.t.Fatal("no probe came within an hour")
	}
	return time.Now()
}

// A device whose program is dead and whose stack answers pings is marked, and any frame ends that.
func TestPongsButDead(t *testing.T) {
	for name, frame := range map[string]string{
		"an answer":        `{"id":"hub.probe","result":{}}`,
		"an error":         `{"id":"hub.probe","error":{"code":-32601,"message":"what?"}}`,
		"no fitting one":   `{"id":"hub.probe","error":7}`,
		"telemetry":        `{"T":1}`,
		"an unusable text": `?`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHubOf(t, probing())
				changes := h.sessions.Subscribe(10)
				defer changes.Close()
				d := h.dial("d1")
				d.hello(`{}`)
				start := time.Now()
				if at := d.nextProbe().Sub(start); at < 10*time.Minute || at > 12*time.Minute+40*time.Second {
					t.Errorf("probed after %v of silence", at)
				}
				time.Sleep(14 * time.Second)
				if got := h.sessions.Presence("d1"); got.Unresponsive != 0 {
					t.Errorf("marked before its time: %+v", got)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if got := h.sessions.Presence("d1"); !got.Online || got.Unresponsive != start.UnixMilli() {
					t.Errorf("presence %+v, want unresponsive since %d", got, start.UnixMilli())
				}
				time.Sleep(2 * time.Hour) // it stays connected, and is not asked again and again
				synctest.Wait()
				d.wantNone()
				d.send(frame)
				synctest.Wait()
				if got := h.sessions.Presence("d1"); !got.Online || got.Unresponsive != 0 {
					t.Errorf("presence %+v", got)
				}
				var told []string
				for len(changes.C()) > 0 {
					c := <-changes.C()
					told = append(told, fmt.Sprint(c.What, c.Online, c.Unresponsive != 0))
				}
				wantLines(t, told, "connectedtrue false", "unresponsivetrue true", "responsivetrue false")
				var events []string
				for _, e := range h.sessions.Events("d1") {
					if e.Kind == devices.EventProbe {
						events = append(events, e.Reason)
					}
				}
				wantLines(t, events, "responsive", "unresponsive")
				if got := h.sessions.Troubles(); got.Unresponsive != 0 || got.ProbesUnanswered != 1 || got.ProbesAnswered != 1 {
					t.Errorf("counted %+v", got)
				}
				for _, line := range h.answers.lines() {
					if strings.HasPrefix(line, "answered") {
						t.Errorf("the ledger was told %s", line)
					}
				}
			})
		})
	}
}

// Who answers is asked again when it was silent again, and is never marked.
func TestWhoAnswersProbesIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHubOf(t, probing())
		d := h.dial("d1")
		d.hello(`{}`)
		for range 5 {
			at := time.Now()
			if d.nextProbe().Sub(at) < 10*time.Minute {
				t.Fatal("probed too soon")
			}
			d.send(`{"id":"hub.probe","result":{}}`)
		}
		synctest.Wait()
		if got := h.sessions.Troubles(); got.ProbesAnswered != 5 || got.ProbesUnanswered != 0 {
			t.Errorf("counted %+v", got)
		}
	})
}

// Who only sends readings never said that it answers anything; who sends is not probed; who asked for a long keepalive is
// not woken more often; and with 0 nobody is.
func TestWhoIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHubOf(t, probing())
		simple, busy, sleepy := h.dial("d1"), h.dial("d2"), h.dial("d3")
		simple.send(`{"T":1}`)
		busy.hello(`{}`)
		sleepy.hello(`{"keepalive_s":900}`)
		for range 60 {
			time.Sleep(8 * time.Minute)
			busy.send(`{"T":1}`)
		}
		synctest.Wait()
		simple.wantNone()
		busy.wantNone()
		sleepy.want(probeFrame)
		if p := h.sessions.Presence("d1"); !p.Online || p.Unresponsive != 0 {
			t.Errorf("presence %+v", p)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.hello(`{}`)
		time.Sleep(9 * time.Hour)
		synctest.Wait()
		d.wantNone()
	})
}

// An operator asks, whatever the device is.
func TestAnOperatorProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHubOf(t, probing())
		if _, err := h.sessions.Probe(t.Context(), "d1"); !errors.Is(err, devices.ErrOffline) {
			t.Errorf("offline: %v", err)
		}
		d := h.dial("d1")
		synctest.Wait()
		if _, err := h.sessions.Probe(t.Context(), "d1"); err == nil || errors.Is(err, devices.ErrOffline) {
			t.Errorf("not yet ready: %v", err)
		}
		d.send(`{"T":1}`)
		ask := func() chan devices.Probed {
			outcome := make(chan devices.Probed, 1)
			go func() {
				p, err := h.sessions.Probe(context.Background(), "d1")
				if err != nil {
					t.Error(err)
				}
				outcome <- p
			}()
			return outcome
		}
		synctest.Wait()
		outcome := ask()
		d.nextProbe()
		time.Sleep(3 * time.Second)
		d.send(`{"id":"hub.probe","result":null}`)
		if got := <-outcome; got != (devices.Probed{Outcome: devices.ProbeAnswered, Took: 3 * time.Second}) {
			t.Errorf("answered: %+v", got)
		}
		first, second := ask(), ask() // both are told
		d.nextProbe()
		d.nextProbe()
		for _, outcome := range []chan devices.Probed{first, second} {
			if got := <-outcome; got.Outcome != devices.ProbeUnresponsive || got.Took < 15*time.Second || got.Took > 17*time.Second {
				t.Errorf("pongs only: %+v", got)
			}
		}
		outcome = ask() // of one that is marked already
		d.nextProbe()
		if got := <-outcome; got.Outcome != devices.ProbeUnresponsive {
			t.Errorf("again: %+v", got)
		}
		outcome = ask()
		d.nextProbe()
		h.sessions.Kick("d1", 4003, "disabled")
		if got := <-outcome; got.Outcome != devices.ProbeGone {
			t.Errorf("kicked: %+v", got)
		}
		d.wantClose(4003)
		h.dialMute("d1").send(`{"T":1}`)
		time.Sleep(time.Second)
		if got := <-ask(); got.Outcome != devices.ProbeSilent {
			t.Errorf("half-open: %+v", got)
		}
		if p := h.sessions.Presence("d1"); p.Unresponsive != 0 {
			t.Errorf("a half-open connection is no matter of its program: %+v", p)
		}
		if got := h.sessions.Troubles(); got.ProbesUnanswered != 1 || got.Unresponsive != 0 {
			t.Errorf("counted %+v", got)
		}
	})
}

// A newer connection of a device that was marked is not.
func TestAnUnresponsiveDeviceComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHubOf(t, probing())
		d := h.dial("d1")
		d.hello(`{}`)
		d.nextProbe()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if h.sessions.Troubles().Unresponsive != 1 {
			t.Fatal("not marked")
		}
		h.dial("d1").hello(`{}`)
		synctest.Wait()
		if p := h.sessions.Presence("d1"); p.Unresponsive != 0 || h.sessions.Troubles().Unresponsive != 0 {
			t.Errorf("presence %+v", p)
		}
	})
}

// While the journal is behind the hub does not read what may be the answer.
func TestAProbesTimeStandsStillWhileTheHubDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHubOf(t, probing())
		d := h.dialMute("d1") // a pipe in memory takes no pong that nobody reads
		d.hello(`{}`)
		h.sink.block()
		d.send(`{"T":1}`)
		time.Sleep(time.Second)
		outcome := make(chan devices.Probed, 1)
		go func() {
			p, err := h.sessions.Probe(context.Background(), "d1")
			if err != nil {
				t.Error(err)
			}
			outcome <- p
		}()
		d.nextProbe()
		go d.send(`{"id":"hub.probe","result":{}}`) // it answers, and nobody reads
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(outcome) != 0 || h.sessions.Presence("d1").Unresponsive != 0 {
			t.Error("an answer that the hub did not read was missed")
		}
		h.sink.free()
		if p := <-outcome; p.Outcome != devices.ProbeAnswered {
			t.Errorf("%+v", p)
		}
	})
}
