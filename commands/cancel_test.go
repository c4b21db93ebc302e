package commands_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
)

// wantReached waits for at most patience, and checks the state that Wait returns and that it did not wait longer.
func wantReached(t *testing.T, s *commands.Service, id string, patience time.Duration, state commands.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	c, err := s.Wait(ctx, id)
	if err != nil || c.State != state || time.Since(began) > patience {
		t.Errorf("Wait returned %s after %v, %v; want %s within %v", c.State, time.Since(began), err, state, patience)
	}
}

// ask cancels a command that was sent, and checks that the device was asked.
func ask(t *testing.T, s *commands.Service, r *router, id string) {
	t.Helper()
	c, err := s.Cancel(t.Context(), id, "ann")
	if err != nil || c.State.Final() || c.CancelAsked.IsZero() {
		t.Fatalf("Cancel = %s, asked %v, %v; want it open and asked", c.State, c.CancelAsked, err)
	}
	if last := c.History[len(c.History)-1]; last.Cause != "the device was asked to cancel it" || last.Actor != "ann" {
		t.Errorf("the story ends with %+v", last)
	}
	select {
	case asked := <-r.cancelled:
		if asked != id {
			t.Errorf("the device was asked to cancel %s", asked)
		}
	default:
		t.Error("the device was not asked")
	}
}

// TestTheDeviceDecidesAboutWhatWasSent asks to cancel, and plays each answer.
func TestTheDeviceDecidesAboutWhatWasSent(t *testing.T) {
	for _, delivery := range []commands.Delivery{commands.AtMostOnce, commands.AtLeastOnce} {
		for name, c := range map[string]struct {
			then  func(s *commands.Service, r *router, id string)
			state commands.State
			cause string
		}{
			"gives up": {func(s *commands.Service, _ *router, id string) { s.Answered("d1", 1, fault(id, -32051, "stopped")) }, commands.Cancelled, "the device answered error -32051: stopped"},
			"finishes": {func(s *commands.Service, _ *router, id string) { s.Answered("d1", 1, result(id, `1`)) }, commands.Done, ""},
			"fails":    {func(s *commands.Service, _ *router, id string) { s.Answered("d1", 1, fault(id, -1, "jammed")) }, commands.Failed, "the device answered error -1: jammed"},
			"is silent": {
				func(*commands.Service, *router, string) { time.Sleep(time.Minute) },
				commands.Unknown, "no answer within 30s after the device was asked to cancel it",
			},
			"is lost": {func(_ *commands.Service, r *router, _ string) { r.reconnect("d1") }, commands.Unknown, "connection lost before the answer"},
		} {
			t.Run(string(delivery)+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRouter()
					r.connect("d1", 1)
					s := open(t, newMemory(), r)
					sent := send(t, s, commands.Request{Delivery: delivery})
					wantNext(t, r, sent, 1, 1)
					ask(t, s, r, sent.ID)
					c.then(s, r, sent.ID)
					wantEnd(t, s, sent.ID, c.state, c.cause)
					wantNone(t, r) // it is never sent again
					if again, err := s.Cancel(t.Context(), sent.ID, "ann"); !errors.Is(err, commands.ErrTooLate) || again.State != c.state {
						t.Errorf("Cancel of an ended command = %s, %v", again.State, err)
					}
				})
			})
		}
	}
}

// TestCancelWhileTheDeviceIsAway ends the sending again of what may have run already.
func TestCancelWhileTheDeviceIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		sent := send(t, s, commands.Request{Delivery: commands.AtLeastOnce})
		wantNext(t, r, sent, 1, 1)
		r.lose("d1")
		c, err := s.Cancel(t.Context(), sent.ID, "ann")
		if err != nil || c.State != commands.Unknown {
			t.Fatalf("Cancel = %s, %v", c.State, err)
		}
		wantEnd(t, s, sent.ID, commands.Unknown, "cancelled while the device was not connected; sent 1 times, it may have run")
		r.connect("d1", 2)
		wantNone(t, r)
		s.Answered("d1", 2, fault(sent.ID, -32051, "never began"))
		synctest.Wait()
		if c, _ := s.Get(sent.ID); c.State != commands.Cancelled || !c.Late {
			t.Errorf("the device's late word left it %s, late %v", c.State, c.Late)
		}
	})
}

// TestNobodyButTheDeviceCancelsWhatWasSent has an operator whose name is that of the device's words.
func TestNobodyButTheDeviceCancelsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		sent := send(t, s, commands.Request{})
		if c, err := s.Cancel(t.Context(), sent.ID, "device"); err != nil || c.State != commands.Sent {
			t.Errorf("cancelled by an operator called device: %s, %v", c.State, err)
		}
	})
}

// TestTheDeviceSaysThatACommandCameTooLate has its own word for that.
func TestTheDeviceSaysThatACommandCameTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		sent := send(t, s, commands.Request{})
		s.Answered("d1", 1, fault(sent.ID, -32050, "too late"))
		wantEnd(t, s, sent.ID, commands.Expired, "the device answered error -32050: too late")
	})
}
