package commands_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// wantNext takes what the Router is given next, at once, and checks which command it is.
func wantNext(t *testing.T, r *router, c commands.Command, session uint64, attempt int) {
	t.Helper()
	synctest.Wait()
	select {
	case out := <-r.sent:
		if out.cmd.ID != c.ID || out.session != session || out.cmd.Attempt != attempt {
			t.Errorf("sent %s on %d, attempt %d; want %s on %d, attempt %d", out.cmd.ID, out.session, out.cmd.Attempt, c.ID, session, attempt)
		}
	default:
		t.Fatalf("nothing was sent, want %s", c.ID)
	}
}

func wantNone(t *testing.T, r *router) {
	t.Helper()
	synctest.Wait()
	if len(r.sent) != 0 {
		t.Errorf("sent %+v, want nothing", <-r.sent)
	}
}

// story is the states of a command's history.
func story(c commands.Command) string {
	var words []string
	for _, step := range c.History {
		words = append(words, string(step.State))
	}
	return strings.Join(words, " ")
}

// TestWhatWaitsIsSentInOrderOneByOne queues for a device that is away, and lets it connect.
func TestWhatWaitsIsSentInOrderOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, kv := newRouter(), newMemory()
		s := open(t, kv, r)
		var queued []commands.Command
		for i := range 3 {
			c := send(t, s, commands.Request{Delivery: []commands.Delivery{commands.AtMostOnce, commands.AtLeastOnce}[i%2], Actor: "ann"})
			if c.State != commands.Queued || story(c) != "accepted queued" || c.Attempt != 0 {
				t.Errorf("offline: %s, story %s", c.State, story(c))
			}
			queued = append(queued, c)
		}
		if n := s.Pending("d1"); n != 3 || s.Stats().Queued != 3 {
			t.Errorf("pending %d, stats %+v, want 3", n, s.Stats())
		}
		var seen []commands.State // in the bucket, when the Router is given the command
		r.before = func(cmd wire.Command) {
			var c commands.Command
			if err := json.Unmarshal(kv.record(cmd.ID), &c); err != nil {
				t.Error(err)
			}
			seen = append(seen, c.State)
		}
		r.connect("d1", 7)
		for i, c := range queued {
			wantNext(t, r, c, 7, 1)
			wantNone(t, r)
			online := send(t, s, commands.Request{}) // those that wait go first
			queued = append(queued, online)
			s.Answered("d1", 7, result(c.ID, `1`))
			end := wantEnd(t, s, c.ID, commands.Done, "")
			if story(end) != "accepted queued sent done" {
				t.Errorf("story %d: %s", i, story(end))
			}
		}
		for _, c := range queued[3:] {
			wantNext(t, r, c, 7, 1)
			s.Answered("d1", 7, result(c.ID, `1`))
		}
		wantNone(t, r)
		if fmt.Sprint(seen) != "[sent sent sent sent sent sent]" {
			t.Errorf("when they were given to the Router the bucket said %v: a crash there would have sent them again", seen)
		}
		if n := s.Pending("d1"); n != 0 || s.Stats().Queued != 0 || s.Stats().Open != 0 {
			t.Errorf("pending %d, stats %+v, want none", n, s.Stats())
		}
	})
}

func TestSomeMayBeOutAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		s := openWith(t, newMemory(), r, commands.Config{Outstanding: 2})
		a, b, c := send(t, s, commands.Request{}), send(t, s, commands.Request{}), send(t, s, commands.Request{})
		r.connect("d1", 1)
		wantNext(t, r, a, 1, 1)
		wantNext(t, r, b, 1, 1)
		wantNone(t, r)
		s.Answered("d1", 1, result(b.ID, `1`))
		wantNext(t, r, c, 1, 1)
	})
}

func TestQueuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, kv := newRouter(), newMemory()
		s := openWith(t, kv, r, commands.Config{Queue: 2})
		first := send(t, s, commands.Request{})
		send(t, s, commands.Request{})
		_, err := s.Send(t.Context(), commands.Request{Device: "d1", Method: "m"})
		full, ok := errors.AsType[*commands.QueueFullError](err)
		if !ok || full.Device != "d1" || full.Limit != 2 || full.Value != 2 || len(kv.entries) != 2 {
			t.Fatalf("error %v, %d records; want the limit and its value, and nothing recorded", err, len(kv.entries))
		}
		send(t, s, commands.Request{Device: "d2"}) // another's
		if c, err := s.Cancel(t.Context(), first.ID, "ann"); err != nil || c.State != commands.Cancelled {
			t.Fatal(c.State, err)
		}
		send(t, s, commands.Request{}) // there is room again
		shut(t, s)

		s = openWith(t, kv, r, commands.Config{Queue: 1}) // lowered: what waits stays, nothing is added
		if _, err = s.Send(t.Context(), commands.Request{Device: "d1", Method: "m"}); err == nil || s.Pending("d1") != 2 {
			t.Errorf("error %v, pending %d", err, s.Pending("d1"))
		}
	})
}

func TestWhatWaitsTooLongExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, kv := newRouter(), newMemory()
		s := open(t, kv, r)
		away := send(t, s, commands.Request{})
		wantAfter(t, s, away, 24*time.Hour, commands.Expired, "not sent: the device was not ready for it in time")
		r.connect("d1", 1)
		wantNone(t, r)

		busy := send(t, s, commands.Request{Timeout: time.Minute})
		soon := send(t, s, commands.Request{Expires: 10 * time.Second})
		wantNext(t, r, busy, 1, 1)
		end := wantAfter(t, s, soon, 10*time.Second, commands.Expired, "not sent: the commands before it took too long")
		if end.Attempt != 0 || story(end) != "accepted queued expired" {
			t.Errorf("attempt %d, story %s", end.Attempt, story(end))
		}
		s.Answered("d1", 1, result(soon.ID, `1`)) // a guess of the device
		synctest.Wait()
		if c, _ := s.Get(soon.ID); c.State != commands.Expired {
			t.Errorf("an answer to what was never sent made it %s", c.State)
		}

		over := send(t, s, commands.Request{Expires: time.Hour}) // over a restart
		shut(t, s)
		time.Sleep(2 * time.Hour)
		s = open(t, kv, r)
		wantEnd(t, s, over.ID, commands.Expired, "not sent: the device was not ready for it in time")
		wantNone(t, r)
	})
}

// TestAConnectionThatDoesNotTakeACommandIsLeftAlone refuses what was about to be sent: it goes back into the queue, in
// its place, and is tried again at a pace.
func TestAConnectionThatDoesNotTakeACommandIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		r.refuse(errors.New("the device does not read"))
		var tries atomic.Int64
		r.before = func(wire.Command) { tries.Add(1) }
		first := send(t, s, commands.Request{})
		if first.State != commands.Sent && first.State != commands.Queued {
			t.Errorf("first: %s", first.State)
		}
		second := send(t, s, commands.Request{})
		time.Sleep(time.Hour)
		if n := tries.Load(); n < 10 || n > 80 {
			t.Errorf("%d tries in an hour", n)
		}
		c, _ := s.Get(first.ID)
		if last := c.History[len(c.History)-1]; c.State != commands.Queued || c.Attempt != 0 || last.Cause != "not sent: the device does not read" || len(c.History) > 7 {
			t.Errorf("%s after %d attempts: %+v", c.State, c.Attempt, c.History)
		}
		r.refuse(nil)
		r.reconnect("d1")
		wantNext(t, r, first, 2, 1)
		s.Answered("d1", 2, result(first.ID, `1`))
		wantNext(t, r, second, 2, 1)
	})
}

// TestTheRecordOfAQueuedCommandComesFirst holds the bucket's write of "sent" back while things happen.
func TestTheRecordOfAQueuedCommandComesFirst(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, s *commands.Service, r *router, c commands.Command)
		state     commands.State
		cause     string
		sent      int
	}{
		"nothing":     {func(*testing.T, *commands.Service, *router, commands.Command) {}, commands.Unknown, "no answer within 30s", 1},
		"disconnects": {func(_ *testing.T, _ *commands.Service, r *router, _ commands.Command) { r.lose("d1") }, commands.Expired, "not sent: the device was not ready for it in time", 0},
		"reconnects":  {func(_ *testing.T, _ *commands.Service, r *router, _ commands.Command) { r.reconnect("d1") }, commands.Unknown, "no answer within 30s", 1},
		"is cancelled": {func(t *testing.T, s *commands.Service, _ *router, c commands.Command) {
			go func() {
				if c, err := s.Cancel(t.Context(), c.ID, "ann"); err != nil || c.State != commands.Cancelled {
					t.Error(c.State, err)
				}
			}()
		}, commands.Cancelled, "cancelled before it was sent", 0},
		"is deleted": {func(t *testing.T, s *commands.Service, _ *router, _ commands.Command) {
			go func() {
				if err := s.Abandon(t.Context(), "d1", "ann", "the device was deleted"); err != nil {
					t.Error(err)
				}
			}()
		}, commands.Cancelled, "the device was deleted", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, kv := newRouter(), newMemory()
				s := open(t, kv, r)
				queued := send(t, s, commands.Request{Expires: time.Hour})
				slow := true
				kv.setFail(func(string) error {
					if slow {
						slow = false
						time.Sleep(5 * time.Second)
					}
					return nil
				})
				r.connect("d1", 1)
				time.Sleep(time.Second)
				if len(r.sent) != 0 {
					t.Error("it was sent before its record was durable")
				}
				c.meanwhile(t, s, r, queued)
				wantEndIn(t, s, queued.ID, 2*time.Hour, c.state, c.cause)
				if len(r.sent) != c.sent {
					t.Errorf("sent %d times, want %d", len(r.sent), c.sent)
				}
			})
		})
	}
}

// wantEndIn is wantEnd with patience in virtual time.
func wantEndIn(t *testing.T, s *commands.Service, id string, within time.Duration, state commands.State, cause string) {
	t.Helper()
	for range int(within / time.Minute) {
		if c, err := s.Get(id); err != nil || c.State.Final() {
			break
		}
		time.Sleep(time.Minute)
	}
	wantEnd(t, s, id, state, cause)
}

// TestARestartGoesOnWithTheQueue closes and opens the ledger with commands in each state.
func TestARestartGoesOnWithTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, kv := newRouter(), newMemory()
		r.connect("d1", 1)
		s := open(t, kv, r)
		once := send(t, s, commands.Request{})
		again := send(t, s, commands.Request{Delivery: commands.AtLeastOnce})
		last := send(t, s, commands.Request{})
		wantNext(t, r, once, 1, 1)
		shut(t, s)
		r.connect("d1", 0)

		s = open(t, kv, r)
		wantEnd(t, s, once.ID, commands.Unknown, "the hub was restarted while the answer was open")
		r.connect("d1", 2)
		wantNext(t, r, again, 2, 1)
		shut(t, s)
		r.connect("d1", 0)

		s = open(t, kv, r)
		if n := s.Pending("d1"); n != 2 {
			t.Errorf("pending %d, want the one to be sent again and the one that waits", n)
		}
		r.connect("d1", 3)
		wantNext(t, r, again, 3, 2)
		wantNone(t, r)
		s.Answered("d1", 3, result(again.ID, `1`))
		wantNext(t, r, last, 3, 1)
		s.Answered("d1", 3, result(last.ID, `1`))
		wantEnd(t, s, last.ID, commands.Done, "")
	})
}

// TestWaitForWhatIsQueued answers with the state reached.
func TestWaitForWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		s := open(t, newMemory(), r)
		c := send(t, s, commands.Request{})
		wantReached(t, s, c.ID, 30*time.Second, commands.Queued)
		go func() {
			time.Sleep(10 * time.Second)
			r.connect("d1", 1)
			out := <-r.sent
			s.Answered("d1", 1, result(out.cmd.ID, `1`))
		}()
		wantReached(t, s, c.ID, 11*time.Second, commands.Done)
	})
}

func TestRetryIsANewCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		old := send(t, s, commands.Request{
			Method: "set", Params: json.RawMessage(`{"a":1}`), Delivery: commands.AtLeastOnce, Timeout: 7 * time.Second,
			Expires: time.Hour, Actor: "ann", IdempotencyKey: "k",
		})
		if _, err := s.Retry(t.Context(), old.ID, commands.Request{Actor: "bob"}); !errors.Is(err, commands.ErrOpen) {
			t.Errorf("of an open command: %v", err)
		}
		s.Answered("d1", 1, fault(old.ID, -1, "stuck"))
		wantEndAny(t, s, old.ID)
		c, err := s.Retry(t.Context(), old.ID, commands.Request{Actor: "bob", IdempotencyKey: "k2"})
		if err != nil || c.ID == old.ID || c.RetryOf != old.ID || c.Actor != "bob" || c.Method != "set" || string(c.Params) != `{"a":1}` ||
			c.Delivery != commands.AtLeastOnce || c.TimeoutMs != 7000 || c.Expires.Sub(c.Created) != time.Hour {
			t.Errorf("retried as %+v, %v", c, err)
		}
		if same, err := s.Retry(t.Context(), old.ID, commands.Request{Actor: "bob", IdempotencyKey: "k2"}); err != nil || same.ID != c.ID {
			t.Errorf("the same key again: %s, %v", same.ID, err)
		}
		if _, err := s.Retry(t.Context(), "01J00000000000000000000000", commands.Request{}); !errors.Is(err, commands.ErrNotFound) {
			t.Errorf("of no command: %v", err)
		}
	})
}

// TestTheRouterIsToldOfTheEnd of what was sent, by either delivery and with whatever outcome, and of nothing else.
func TestTheRouterIsToldOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := openWith(t, newMemory(), r, commands.Config{Outstanding: 4})
		once, unanswered := send(t, s, commands.Request{}), send(t, s, commands.Request{Timeout: time.Second})
		answered, expired := send(t, s, commands.Request{Delivery: commands.AtLeastOnce}), send(t, s, commands.Request{Delivery: commands.AtLeastOnce, Expires: time.Minute})
		s.Answered("d1", 1, result(once.ID, `1`))
		s.Answered("d1", 1, result(answered.ID, `1`))
		time.Sleep(2 * time.Minute)
		r.connect("d1", 0)
		send(t, s, commands.Request{Expires: time.Second}) // never sent
		time.Sleep(time.Minute)
		r.mu.Lock()
		defer r.mu.Unlock()
		if want := []string{once.ID, answered.ID, unanswered.ID, expired.ID}; !slices.Equal(r.over, want) {
			t.Errorf("told of %v, want %v", r.over, want)
		}
	})
}
