package commands_test

import (
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// TestAnExpiredCommandIsNotSentAgain lets the ledger come late to a device that is ready again, as on a machine that
// slept: the expiry has passed, and its alarm has not yet rung.
func TestAnExpiredCommandIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, gate := newRouter(), make(chan struct{})
		r.before = func(c wire.Command) {
			if c.Method == "slow" && c.Attempt == 2 {
				<-gate
			}
		}
		r.connect("d1", 1)
		r.connect("d2", 1)
		s := open(t, newMemory(), r)
		c := send(t, s, commands.Request{Delivery: commands.AtLeastOnce, Expires: time.Minute})
		wantNext(t, r, c, 1, 1)
		r.lose("d1")
		slow := send(t, s, commands.Request{Device: "d2", Method: "slow", Delivery: commands.AtLeastOnce, Expires: time.Hour})
		wantNext(t, r, slow, 1, 1)
		time.Sleep(2 * time.Minute)
		r.connect("d1", 2)
		close(gate)
		wantNext(t, r, slow, 1, 2)
		wantNone(t, r)
		wantEnd(t, s, c.ID, commands.Expired, "not answered before it expired; sent 1 times, it may have run")
	})
}

// TestOrderSurvivesAClockThatStepsBack restarts the hub with a clock that is an hour behind the earlier one's.
func TestOrderSurvivesAClockThatStepsBack(t *testing.T) {
	kv := newMemory()
	var first commands.Command
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		s := open(t, kv, newRouter())
		first = send(t, s, commands.Request{})
	})
	synctest.Test(t, func(t *testing.T) { // its clock begins an hour earlier
		r := newRouter()
		s := open(t, kv, r)
		second := send(t, s, commands.Request{})
		r.connect("d1", 1)
		wantNext(t, r, first, 1, 1)
		s.Answered("d1", 1, result(first.ID, `1`))
		wantNext(t, r, second, 1, 1)
		s.Answered("d1", 1, result(second.ID, `1`))
		wantEnd(t, s, second.ID, commands.Done, "")
	})
}
