package presence_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"telemetryhub/devices/presence"
)

func TestChangesAreToldTogetherAndInOrder(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		s.change("a", true)
		s.change("b", true)
		s.change("a", false)
		s.after(900 * time.Millisecond)
		s.wantTold("")
		s.after(200 * time.Millisecond)
		s.wantTold("a+ b+ a-")
		if len(s.sizes) != 1 {
			t.Errorf("posts of %v changes", s.sizes)
		}
		c := s.told[2]
		if c.Cause != "gone" || c.Session == "" || c.Transport != "wss" || c.Time.IsZero() || c.ConnectedAt.IsZero() {
			t.Errorf("a went: %+v", c)
		}
	})
}

func TestAHerdIsFewPosts(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		for n := range 5000 {
			s.change(fmt.Sprint("d", n), true)
			if n%5 == 4 {
				time.Sleep(time.Millisecond) // 5,000 within a second
			}
		}
		s.after(3 * time.Second)
		if often := s.check(t); len(often) != 5000 || len(s.told) != 5000 {
			t.Errorf("%d of 5000 are told, in %d changes", len(often), len(s.told))
		}
		if len(s.sizes) > 12 {
			t.Errorf("%d posts: %v", len(s.sizes), s.sizes)
		}
	})
}

func TestAReceiverThatIsAwayIsTriedAgainWithJitter(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		s.answers(func(try int) error {
			if try < 8 {
				return errAway
			}
			return nil
		})
		s.change("a", true)
		s.after(2 * time.Second)
		s.change("a", false) // nobody waits for the receiver
		s.after(5 * time.Minute)
		s.wantTold("a+ a-")
		most := time.Second
		for i := 1; i < 8; i++ {
			if gap := s.calls[i].Sub(s.calls[i-1]); gap <= 0 || gap > most+time.Millisecond {
				t.Errorf("try %d came %v after the one before, want at most %v", i+1, gap, most)
			}
			most = min(2*most, time.Minute)
		}
		if c := s.follower.Counts(); c.Failures != 7 || c.Told != 2 || c.Fault != "" || c.Waiting != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestTheReceiverSaysWhenToTryAgain(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		s.answers(func(try int) error {
			if try == 1 {
				return &presence.LaterError{After: 70 * time.Second, Err: errAway}
			}
			return nil
		})
		s.change("a", true)
		s.after(60 * time.Second)
		if c := s.follower.Counts(); c.Fault != "it is away" || c.Failures != 1 {
			t.Errorf("meanwhile: %+v", c)
		}
		s.after(time.Minute)
		if gap := s.calls[1].Sub(s.calls[0]); gap < 70*time.Second || gap > 72*time.Second {
			t.Errorf("tried again after %v, want 70 s and at most one more", gap)
		}
		s.wantTold("a+")
	})
}

func TestWhatIsRefusedIsGivenUp(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		s.answers(func(try int) error {
			if try <= 5 {
				return &presence.RefusedError{Err: errors.New("400")}
			}
			return nil
		})
		s.change("a", true)
		s.after(2 * time.Second)
		s.change("b", true)
		s.after(10 * time.Minute)
		s.wantTold("b+")
		if c := s.follower.Counts(); c.Refused != 1 || c.Told != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestAFullQueueDropsTheOldestAndTellsWhatIsSo(t *testing.T) {
	play(t, presence.Config{Batch: 10, Queue: 100}, func(s *scene) {
		s.answers(func(int) error { return errAway })
		s.change("old", true)
		s.after(5 * time.Second) // it is on its way, and stays so
		for n := range 250 {
			s.change(fmt.Sprint("d", n%50), n%100 < 50)
		}
		s.change("rare", true)
		s.after(time.Second)
		if c := s.follower.Counts(); c.Dropped != 151 || c.Waiting != 100 {
			t.Errorf("%+v, want 151 dropped and 100 waiting", c)
		}
		s.answers(nil)
		s.after(5 * time.Minute)
		s.check(t)
		newest := map[string]bool{}
		for _, c := range s.told {
			newest[c.Device] = c.Online
		}
		for device := range s.known {
			if online, told := newest[device]; !told || online != s.Presence(device).Online {
				t.Errorf("%s: told last that online is %v, %v", device, online, told)
			}
		}
		if len(newest) != 52 || s.dropped != 151 {
			t.Errorf("%d devices are told, and that %d changes are lost", len(newest), s.dropped)
		}
	})
}

// A feed that is not emptied in time loses changes: that is noticed, and made good.
func TestWhatTheFeedLosesIsMadeGood(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		for n := range 20_000 { // nobody else runs meanwhile
			s.change(fmt.Sprint("d", n), true)
		}
		s.after(time.Minute)
		often := s.check(t)
		if len(often) != 20_000 {
			t.Errorf("%d of 20000 are told", len(often))
		}
		t.Logf("%d changes lost by feed and queue", s.follower.Counts().Dropped)
	})
}

func TestNothingIsToldBeforeTheBucketHasIt(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		s.hold(true)
		s.change("a", true)
		s.after(time.Minute)
		s.wantTold("")
		s.hold(false)
		s.after(time.Second)
		s.wantTold("a+")
	})
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		s.change("a", true)
		s.change("b", true)
		s.after(10 * time.Second)
		s.close()
		s.wantTold("a+ b+")

		s.forget()
		s.change("b", false) // while nobody follows
		s.follow()
		s.after(10 * time.Second)
		s.wantTold("b-")

		s.forget()
		s.change("c", true)
		s.after(1500 * time.Millisecond)
		s.crash() // right after it was told
		s.follow()
		s.change("c", false)
		s.after(10 * time.Second)
		s.check(t)
		if says := s.says(); says != "c+ c+ c-" && says != "c+ c-" {
			t.Errorf("over a kill: %s", says)
		}

		s.forget()
		s.answers(func(int) error { return errAway })
		s.change("d", true)
		s.after(10 * time.Second)
		s.crash() // before it was told
		s.follow()
		s.after(10 * time.Second)
		s.wantTold("d+")

		s.close()
		s.forget()
		s.cfg.Receiver = "https://another"
		s.follow()
		s.after(10 * time.Second)
		s.wantTold("a+ b- c- d+")
		if s.bucket.writes > 20 {
			t.Errorf("%d writes", s.bucket.writes)
		}
	})
}

func TestFlappingIsToldOnce(t *testing.T) {
	play(t, presence.Config{Debounce: 10 * time.Second}, func(s *scene) {
		for range 5 {
			s.change("a", true)
			s.change("a", false)
			s.change("b", true)
			s.after(time.Second)
		}
		s.change("a", true)
		s.after(20 * time.Second)
		s.wantTold("b+ a+")
	})
}

func TestTheEndTellsWhatWaits(t *testing.T) {
	play(t, presence.Config{Wait: time.Minute}, func(s *scene) {
		s.hold(true)
		for n := range 1000 {
			s.change(fmt.Sprint("d", n), false)
		}
		began := time.Now()
		s.close()
		if took := time.Since(began); took > 100*time.Millisecond || len(s.told) != 1000 {
			t.Errorf("%d of 1000 were told in %v", len(s.told), took)
		}
		s.answers(func(int) error { return errAway })
		s.follow()
		s.change("a", true)
		began = time.Now()
		s.close()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a receiver that is away held up the end by %v", took)
		}
		s.forget()
		s.hold(false)
		s.answers(nil)
		s.follow()
		s.after(2 * time.Minute)
		if says := s.says(); !strings.HasSuffix(says, "a+") {
			t.Errorf("after the next start: %s", says)
		}
	})
}

// What comes while the sessions are asked is told once, and nothing older after it.
func TestNothingOldIsToldAfterWhatIsNewer(t *testing.T) {
	play(t, presence.Config{}, func(s *scene) {
		s.close()
		s.asked = func() {
			s.asked = nil
			s.change("a", true)
			s.change("a", false)
			s.change("b", true)
		}
		s.follow()
		s.change("b", false)
		s.after(10 * time.Second)
		s.check(t)
		s.wantTold("a- b-")
	})
}
