package commands_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// wantAfter waits for the command's end in virtual time and checks how long that took.
func wantAfter(t *testing.T, s *commands.Service, c commands.Command, after time.Duration, state commands.State, cause string) commands.Command {
	t.Helper()
	end, err := s.Wait(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	last := end.History[len(end.History)-1]
	if end.State != state || last.Cause != cause {
		t.Errorf("command ended %s (%q), want %s (%q)", end.State, last.Cause, state, cause)
	}
	if took := time.Since(c.Created).Round(time.Millisecond); took != after {
		t.Errorf("it took %v, want %v", took, after)
	}
	return end
}

func TestNoAnswerInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		wantAfter(t, s, send(t, s, commands.Request{}), 30*time.Second, commands.Unknown, "no answer within 30s")
		short := send(t, s, commands.Request{Timeout: 2 * time.Second})
		wantAfter(t, s, short, 2*time.Second, commands.Unknown, "no answer within 2s")
		s.Answered("d1", 1, result(short.ID, `1`)) // on the same connection, but too late
		synctest.Wait()
		if c, _ := s.Get(short.ID); c.State != commands.Done || !c.Late {
			t.Errorf("an answer after the timeout left it %s, late %v", c.State, c.Late)
		}
		if len(r.sent) != 2 {
			t.Errorf("sent %d times, want 2: at most once", len(r.sent))
		}
	})
}

func TestProgressExtendsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		c := send(t, s, commands.Request{})
		for range 3 {
			time.Sleep(20 * time.Second) // virtual
			s.Progressed("d1", 1, wire.Progress{ID: c.ID, Status: wire.ProgressRunning})
		}
		end := wantAfter(t, s, c, 90*time.Second, commands.Unknown, "no answer within 30s after its last progress")
		if len(end.History) != 4 {
			t.Errorf("story = %+v, want accepted sent running unknown", end.History)
		}
	})
}

func TestAtLeastOnceIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := openWith(t, newMemory(), r, commands.Config{Outstanding: 3})
		a := send(t, s, commands.Request{Delivery: commands.AtLeastOnce, Expires: 5 * time.Minute})
		b := send(t, s, commands.Request{Delivery: commands.AtLeastOnce, Expires: 5 * time.Minute})
		once := send(t, s, commands.Request{})
		for range 3 {
			<-r.sent
		}
		wantSent := func(attempt int, session uint64) {
			t.Helper()
			synctest.Wait()
			for _, c := range []commands.Command{a, b} {
				select {
				case out := <-r.sent:
					if out.cmd.ID != c.ID || out.cmd.Attempt != attempt || out.session != session {
						t.Errorf("sent again %s on %d, attempt %d; want %s on %d, attempt %d", out.cmd.ID, out.session, out.cmd.Attempt, c.ID, session, attempt)
					}
				default:
					t.Fatalf("%s was not sent again", c.ID)
				}
			}
		}
		time.Sleep(30 * time.Second) // no answer on the same connection
		wantSent(2, 1)
		r.connect("d1", 0)
		s.SessionEnded("d1", 1)
		time.Sleep(time.Minute) // nobody there
		r.connect("d1", 2)
		s.SessionReady("d1", 2)
		wantSent(3, 2)
		s.SessionReady("d1", 2) // a second hint of the same session
		s.Answered("d1", 2, result(a.ID, `1`))
		synctest.Wait()
		if len(r.sent) != 0 {
			t.Errorf("sent once more: %+v", <-r.sent)
		}
		wantEnd(t, s, a.ID, commands.Done, "")
		r.connect("d1", 0)
		s.SessionEnded("d1", 2)
		end := wantAfter(t, s, b, 5*time.Minute, commands.Expired, "not answered before it expired; sent 3 times, it may have run")
		if len(end.History) != 4 {
			t.Errorf("story = %+v, want the first and the last sending only", end.History)
		}
		wantEnd(t, s, once.ID, commands.Unknown, "no answer within 30s")
		s.Answered("d1", 3, result(b.ID, `2`))
		synctest.Wait()
		if c, _ := s.Get(b.ID); c.State != commands.Done || !c.Late {
			t.Errorf("an answer after the expiry left it %s, late %v", c.State, c.Late)
		}
	})
}

func TestFailedResendIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		c := send(t, s, commands.Request{Delivery: commands.AtLeastOnce})
		<-r.sent
		r.refuse(errors.New("full"))
		time.Sleep(45 * time.Second)
		r.refuse(nil)
		time.Sleep(20 * time.Second)
		if out := <-r.sent; out.cmd.Attempt != 3 {
			t.Errorf("attempt = %d, want 3", out.cmd.Attempt)
		}
		s.Answered("d1", 1, result(c.ID, `1`))
		wantEnd(t, s, c.ID, commands.Done, "")
	})
}

func TestBucketAwayDelaysButLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, r := newMemory(), newRouter()
		r.connect("d1", 1)
		s := open(t, kv, r)
		c := send(t, s, commands.Request{})
		kv.setFail(func(string) error { return errors.New("the disk is full") })
		s.Answered("d1", 1, result(c.ID, `1`))
		time.Sleep(time.Minute)
		if c, _ := s.Get(c.ID); c.State != commands.Sent {
			t.Errorf("shown as %s before it was durable", c.State)
		}
		if st := s.Stats(); st.Unsaved != 1 || st.WriteFailures < 5 || st.WriteFailures > 60 {
			t.Errorf("stats = %+v, want 1 unsaved and a write tried again at a pace", st)
		}
		_, err := s.Send(t.Context(), commands.Request{Device: "d1", Method: "m"})
		if err == nil || !strings.Contains(err.Error(), "nothing was sent") || len(r.sent) != 1 {
			t.Errorf("Send without a ledger: %v, sent %d", err, len(r.sent))
		}
		kv.setFail(nil)
		wantEnd(t, s, c.ID, commands.Done, "")
		time.Sleep(10 * time.Second)
		page, _ := list(t, s, commands.Filter{States: []commands.State{commands.Failed}})
		if len(page) != 1 || s.Stats().Open != 0 {
			t.Errorf("the command that was not sent is %+v; stats %+v", page, s.Stats())
		}
	})
}

func TestWriteThatWasNotHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, r := newMemory(), newRouter()
		r.connect("d1", 1)
		s := open(t, kv, r)
		lose := true
		kv.landed = func(string) error {
			if lose = !lose; !lose {
				return errors.New("timeout")
			}
			return nil
		}
		if _, err := s.Send(t.Context(), commands.Request{Device: "d1", Method: "m", IdempotencyKey: "k"}); err == nil {
			t.Fatal("Send heard of its record")
		}
		time.Sleep(time.Minute)
		page, _ := list(t, s, commands.Filter{})
		if len(page) != 1 || page[0].State != commands.Failed || page[0].Attempt != 0 {
			t.Errorf("the ledger has %+v, want one failed", page)
		}
		if len(r.sent) != 0 {
			t.Error("it was sent")
		}
		var stored commands.Command
		if err := json.Unmarshal(kv.entries[page[0].ID].value, &stored); err != nil || stored.State != commands.Failed {
			t.Errorf("the bucket has %+v, %v", stored, err)
		}
		kv.landed = nil
		send(t, s, commands.Request{Method: "m", IdempotencyKey: "k"}) // the key is free again
	})
}

func TestCloseWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, r := newMemory(), newRouter()
		r.connect("d1", 1)
		s := open(t, kv, r)
		c := send(t, s, commands.Request{})
		tries := 0
		kv.setFail(func(string) error {
			if tries++; tries < 4 {
				return errors.New("away")
			}
			return nil
		})
		s.Answered("d1", 1, result(c.ID, `1`))
		shut(t, s)
		var stored commands.Command
		if err := json.Unmarshal(kv.entries[c.ID].value, &stored); err != nil || stored.State != commands.Done {
			t.Errorf("after Close the bucket has %s, %v", stored.State, err)
		}
	})
}

func TestOldCommandsGoAfterKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, r := newMemory(), newRouter()
		r.connect("d1", 1)
		s := open(t, kv, r)
		c := send(t, s, commands.Request{IdempotencyKey: "k"})
		s.Answered("d1", 1, result(c.ID, `1`))
		lasting := send(t, s, commands.Request{Delivery: commands.AtLeastOnce, Expires: 30 * 24 * time.Hour, Timeout: 24 * time.Hour})
		time.Sleep(29 * 24 * time.Hour)
		if _, err := s.Get(c.ID); err != nil {
			t.Errorf("gone before its time: %v", err)
		}
		time.Sleep(24*time.Hour + 2*time.Hour)
		if _, err := s.Get(c.ID); !errors.Is(err, commands.ErrNotFound) {
			t.Errorf("still there: %v", err)
		}
		if again := send(t, s, commands.Request{IdempotencyKey: "k"}); again.ID == c.ID {
			t.Error("its key still stands for it")
		}
		if c, err := s.Get(lasting.ID); err != nil || c.State != commands.Expired {
			t.Errorf("what ended just now = %s, %v", c.State, err)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, r := newMemory(), newRouter()
		r.connect("d1", 1)
		s := open(t, kv, r)
		s.LimitMirror(100_000)
		var first, last commands.Command
		for i := range 300 {
			c := send(t, s, commands.Request{})
			if i == 0 {
				first = c
				r.reconnect("d1") // unknown: a late answer may come
			} else {
				s.Answered("d1", 2, result(c.ID, `1`))
			}
			last = wantEndAny(t, s, c.ID)
		}
		st := s.Stats()
		if st.MirroredBytes > 100_000 || st.Mirrored >= 300 || st.Mirrored < 60 || st.Open != 0 {
			t.Errorf("stats = %+v", st)
		}
		page, _ := list(t, s, commands.Filter{Limit: 1})
		if len(page) != 1 || page[0].ID != last.ID {
			t.Error("the newest is not in memory")
		}
		if c, err := s.Get(first.ID); err != nil || c.State != commands.Unknown {
			t.Errorf("the oldest, from the bucket = %s, %v", c.State, err)
		}
		s.Answered("d1", 2, result(first.ID, `"late"`))
		synctest.Wait()
		if c, err := s.Get(first.ID); err != nil || c.State != commands.Done || !c.Late {
			t.Errorf("the oldest after its late answer = %s, %v", c.State, err)
		}
		again, _ := list(t, s, commands.Filter{Cursor: first.ID + "0", Limit: 1})
		if len(again) != 1 || again[0].ID != first.ID {
			t.Errorf("read back, it is not in its place: %d", len(again))
		}
	})
}

func wantEndAny(t *testing.T, s *commands.Service, id string) commands.Command {
	t.Helper()
	c, err := s.Wait(t.Context(), id)
	if err != nil || !c.State.Final() {
		t.Fatalf("Wait = %s, %v", c.State, err)
	}
	return c
}

func TestTooManyOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter()
		r.connect("d1", 1)
		s := open(t, newMemory(), r)
		for i := range commands.MaxOpen {
			send(t, s, commands.Request{Device: fmt.Sprint("away", i/100)})
		}
		_, err := s.Send(t.Context(), commands.Request{Device: "d1", Method: "m"})
		var busy *commands.BusyError
		if !errors.As(err, &busy) || busy.Limit != commands.MaxOpen || busy.Value != commands.MaxOpen {
			t.Fatalf("error = %v, want a BusyError", err)
		}
		if err := s.Abandon(t.Context(), "away0", "ann", "the device was deleted"); err != nil {
			t.Fatal(err)
		}
		send(t, s, commands.Request{})
		if got := s.Stats().Open; got != commands.MaxOpen-99 {
			t.Errorf("open = %d, want %d", got, commands.MaxOpen-99)
		}
	})
}
