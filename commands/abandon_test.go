package commands_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// TestADeletedDevicesCommandsDoNotReachItsSuccessor deletes a device with open commands and connects a new one with its id.
func TestADeletedDevicesCommandsDoNotReachItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, kv := newRouter(), newMemory()
		r.connect("d1", 1)
		r.connect("d2", 7)
		s := openWith(t, kv, r, commands.Config{Outstanding: 2})
		once := send(t, s, commands.Request{})
		again := send(t, s, commands.Request{Delivery: commands.AtLeastOnce})
		other := send(t, s, commands.Request{Device: "d2", Delivery: commands.AtLeastOnce, Expires: time.Hour})
		if err := s.Abandon(t.Context(), "d1", "ada", "the device was deleted"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []commands.Command{once, again} {
			kept, err := s.Get(c.ID) // durable, without waiting
			if last := kept.History[len(kept.History)-1]; err != nil || kept.State != commands.Unknown || last.Cause != "the device was deleted" || last.Actor != "ada" {
				t.Errorf("%s is %s by %+v, %v", c.Delivery, kept.State, last, err)
			}
		}
		r.connect("d1", 2)
		s.SessionReady("d1", 2)
		synctest.Wait()
		for range 3 {
			<-r.sent
		}
		if len(r.sent) != 0 {
			t.Errorf("the new device was sent %+v", <-r.sent)
		}
		if c, _ := s.Get(other.ID); c.State != commands.Sent {
			t.Errorf("another device's command is %s", c.State)
		}
		shut(t, s)
		s = open(t, kv, r)
		time.Sleep(time.Minute) // virtual
		for len(r.sent) > 0 {
			if out := <-r.sent; out.device != "d2" {
				t.Errorf("after a restart the new device was sent %+v", out)
			}
		}
	})
}

// TestACommandOnItsWayWhileItsDeviceIsDeleted deletes the device while the Router has the command.
func TestACommandOnItsWayWhileItsDeviceIsDeleted(t *testing.T) {
	for _, c := range []struct {
		refused error
		state   commands.State
		cause   string
	}{
		{nil, commands.Unknown, "the device was deleted"},
		{errGone, commands.Cancelled, "the device was deleted"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter()
			r.connect("d1", 1)
			s := open(t, newMemory(), r)
			abandoned := make(chan error, 1)
			r.before = func(wire.Command) {
				go func() { abandoned <- s.Abandon(t.Context(), "d1", "ada", "the device was deleted") }()
				synctest.Wait()
				r.refuse(c.refused)
			}
			sent := send(t, s, commands.Request{Delivery: commands.AtLeastOnce})
			if err := <-abandoned; err != nil {
				t.Error(err)
			}
			wantEnd(t, s, sent.ID, c.state, c.cause)
		})
	}
}

func TestAbandonSaysWhatIsNotYetDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, kv := newRouter(), newMemory()
		r.connect("d1", 1)
		s := open(t, kv, r)
		c := send(t, s, commands.Request{})
		kv.setFail(func(string) error { return errGone })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := s.Abandon(ctx, "d1", "ada", "the device was deleted"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		kv.setFail(nil)
		wantEnd(t, s, c.ID, commands.Unknown, "the device was deleted")
	})
}
