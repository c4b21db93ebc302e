package devices_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/devices"
)

// loses connects a device that answers nothing, and waits until the hub has found that out; it returns the keepalive that
// the device was told.
func (h *hub) loses(hello string) (keepalive any) {
	h.t.Helper()
	d := h.dialMute("d1")
	keepalive = d.hello(hello)["keepalive_s"]
	d.wantClose(4002)
	time.Sleep(3 * time.Second) // in which it may answer the close frame
	return keepalive
}

func (h *hub) silence() devices.Silence {
	synctest.Wait()
	s := h.sessions.Presence("d1").Silence
	s.LostAt = 0
	return s
}

func (h *hub) wantSilence(want devices.Silence) {
	h.t.Helper()
	if got := h.silence(); got != want {
		h.t.Errorf("learned %+v, want %+v", got, want)
	}
}

// What a device's pongs say, and its own frames: how long it was silent before.
func TestTheLongestSilenceThatSurvivedIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		time.Sleep(8 * time.Second)
		d.send(`{"T":1}`)
		if got := h.silence(); got != (devices.Silence{}) {
			t.Errorf("8 s taught %+v", got)
		}
		time.Sleep(20 * time.Second)
		d.send(`{"T":1}`)
		h.wantSilence(devices.Silence{Survived: 20})
		time.Sleep(time.Hour)
		if got := h.silence(); got.Survived < 35 || got.Survived > 45 || got.Losses != 0 {
			t.Errorf("an hour of pings taught %+v", got)
		}
	})
}

// While the hub does not read, what passes is no silence of the device's.
func TestWhatTheHubDoesNotReadIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.sink.block()
		d := h.dialMute("d1")
		d.send(`{"T":1}`)
		time.Sleep(10 * time.Minute)
		h.sink.free()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		d.send(`{"T":1}`)
		h.wantSilence(devices.Silence{})
	})
}

// Three losses in a row at one silence are the network's: the device is pinged after half of it, and told so, but not
// oftener than the operator allows; after a week it is tried again.
func TestAnImpatientNetworkIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		for i := range 3 {
			if k := h.loses(`{"keepalive_s":300}`); k != 300.0 {
				t.Fatalf("connection %d: keepalive %v", i+1, k)
			}
			if got := h.silence(); got.Lost < 239 || got.Lost > 300 || got.Losses != int32(i+1) || got.Survived != 0 {
				t.Fatalf("learned %+v", got)
			}
		}
		d := h.dial("d1")
		half := float64(h.silence().Lost / 2)
		if k := d.hello(`{"keepalive_s":300}`)["keepalive_s"]; k != half {
			t.Errorf("keepalive %v, want %v, half of what was lost", k, half)
		}
		life := time.Now()
		if gap := (<-d.pings).Sub(life); gap > 150*time.Second {
			t.Errorf("pinged after %v", gap)
		}
		synctest.Wait()
		if got := h.silence(); got.Survived < 90 || got.Survived > 150 || got.Losses != 3 {
			t.Errorf("learned %+v", got)
		}
		_ = d.ws.WriteControl(8, []byte("\x03\xe8"), time.Now().Add(time.Second))
		<-d.ended
		time.Sleep(8 * 24 * time.Hour)
		if k := h.dial("d1").hello(`{"keepalive_s":300}`)["keepalive_s"]; k != 300.0 {
			t.Errorf("keepalive %v after a week, want what was asked for", k)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		for range 3 {
			h.loses(`{"keepalive_s":15}`)
		}
		if k := h.dial("d1").hello(`{"keepalive_s":15}`)["keepalive_s"]; k != 10.0 {
			t.Errorf("keepalive %v, want the operator's least", k)
		}
	})
}

// A device that is without power now and then: between its losses it survives silences as long.
func TestADeviceWithoutPowerTeachesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		for range 10 {
			d := h.link("d1")
			var off atomic.Bool
			d.ws.SetPingHandler(func(data string) error {
				if off.Load() {
					return nil
				}
				return d.ws.WriteControl(10, []byte(data), time.Now().Add(time.Second))
			})
			go d.read()
			d.hello(`{}`)
			time.Sleep(20 * time.Minute)
			off.Store(true)
			d.wantClose(4002)
			time.Sleep(3 * time.Second)
			if got := h.silence(); got.Losses >= 3 || got.Survived < 35 { // two in a row are possible, as pings have jitter
				t.Fatalf("learned %+v", got)
			}
		}
	})
}

// Once it could be silent for 45 s; on its new network not for 20: the line breaks, or the device comes again before the
// hub has noticed anything.
func TestANewNetworkIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		d := h.dial("d1")
		d.hello(`{}`)
		time.Sleep(time.Hour)
		_ = d.ws.WriteControl(8, []byte("\x03\xe8"), time.Now().Add(time.Second))
		<-d.ended
		for i := range 3 {
			d := h.dialMute("d1")
			d.hello(`{}`)
			time.Sleep(20 * time.Second)
			if i == 1 {
				d.ws.NetConn().Close()
			}
			synctest.Wait()
		}
		h.dial("d1") // takes the place of the last one, which is still there
		h.wantSilence(devices.Silence{Lost: 20, Losses: 3})
	})
}

// A goodbye, the hub's will or a stop is no loss.
func TestAGoodbyeIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		for i, end := range []func(d *device){
			func(d *device) { _ = d.ws.WriteControl(8, []byte("\x03\xe8"), time.Now().Add(time.Second)) },
			func(*device) { h.sessions.Kick("d1", 4003, "disabled") },
		} {
			d := h.dialMute("d1")
			d.hello(`{}`)
			time.Sleep(30 * time.Second)
			end(d)
			<-d.ended
			if got := h.silence(); got.Losses != 0 {
				t.Errorf("end %d taught %+v", i, got)
			}
		}
	})
}

func TestWhatWasLearnedSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := newMemoryKV()
		h := newHub(t)
		stop := keep(h.sessions, kv)
		h.loses(`{"keepalive_s":60}`)
		stop()
		is := restored(t, kv).Presence("d1").Silence
		if was := h.sessions.Presence("d1").Silence; is != was || is.Lost < 47 || is.Lost > 60 || fmt.Sprint(is.LostAt) == "0" {
			t.Errorf("learned %+v, was %+v", is, was)
		}
	})
}
