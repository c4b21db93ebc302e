package commands_test

import (
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
)

// TestACommandThatExpiresWhileItIsRecordedIsNotSent writes the record on a disk that takes two seconds.
func TestACommandThatExpiresWhileItIsRecordedIsNotSent(t *testing.T) {
	for _, delivery := range []commands.Delivery{commands.AtMostOnce, commands.AtLeastOnce} {
		synctest.Test(t, func(t *testing.T) {
			r, kv := newRouter(), newMemory()
			r.connect("d1", 1)
			s := open(t, kv, r)
			kv.setFail(func(string) error {
				time.Sleep(2 * time.Second) // virtual
				return nil
			})
			c := send(t, s, commands.Request{Delivery: delivery, Expires: time.Second})
			if cause := c.History[len(c.History)-1].Cause; c.State != commands.Expired || c.Attempt != 0 || cause != "not sent: it expired while it was recorded" {
				t.Errorf("%s: the command is %s (%q), attempt %d", delivery, c.State, cause, c.Attempt)
			}
			r.connect("d1", 2)
			s.Answered("d1", 1, result(c.ID, `1`))
			time.Sleep(time.Minute)
			if len(r.sent) != 0 {
				t.Errorf("%s: sent %d times", delivery, len(r.sent))
			}
			wantEnd(t, s, c.ID, commands.Expired, "not sent: it expired while it was recorded")
			in := send(t, s, commands.Request{Delivery: delivery, Expires: 3 * time.Second})
			if len(r.sent) != 1 || in.State != commands.Sent {
				t.Errorf("%s: in time: %s, sent %d times", delivery, in.State, len(r.sent))
			}
		})
	}
}
