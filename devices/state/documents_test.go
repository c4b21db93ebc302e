package state_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"telemetryhub/devices/state"
	"telemetryhub/wire"
)

func TestDesiredAndReportedMeet(t *testing.T) {
	dir, all := t.TempDir(), newRegistered("p:7.")
	to := &told{}
	t.Run("before", func(t *testing.T) {
		s := open(t, bucket(t, dir), to, all.has)
		wantReport(t, s, "p:7.", `{"interval":10,"net":{"ip":"1.2.3.4"}}`, 1)
		wantReport(t, s, "p:7.", `{"interval":10.0}`, 1) // nothing new
		wantDesire(t, s, "p:7.", `{"interval":20,"mode":"eco"}`, 2)
		d := s.Get("p:7.")
		wantJSON(t, "delta", d.Delta, `{"interval":20,"mode":"eco"}`)
		wantReport(t, s, "p:7.", `{"interval":20,"mode":"eco","net":null}`, 3)
		wantDesire(t, s, "p:7.", `{}`, 3)
	})
	if !slices.Equal(to.versions(), []uint64{2}) {
		t.Errorf("the device was told versions %d, want 2 alone", to.versions())
	}
	wantJSON(t, "told", to.all[0].Delta, `{"interval":20,"mode":"eco"}`)

	s := open(t, bucket(t, dir), &told{}, all.has)
	d := s.Get("p:7.")
	if d.Version != 3 || d.DesiredBy != "otto" || d.DesiredAt.IsZero() || d.ReportedAt.Before(d.DesiredAt) {
		t.Errorf("after a restart %+v", d)
	}
	wantJSON(t, "desired", d.Desired, `{"interval":20,"mode":"eco"}`)
	wantJSON(t, "reported", d.Reported, `{"interval":20,"mode":"eco"}`)
	wantJSON(t, "delta", d.Delta, "")
	wantDesire(t, s, "p:7.", `null`, 4)
	wantJSON(t, "desired", s.Get("p:7.").Desired, `{}`)
	changes, err := s.History(t.Context(), "p:7.")
	if err != nil || len(changes) != 4 {
		t.Fatalf("history %v, %v", changes, err)
	}
	for i, want := range []struct {
		side  state.Side
		actor string
		patch string
	}{
		{state.Desired, "otto", `{"interval":null,"mode":null}`},
		{state.Reported, "device", `{"interval":20,"mode":"eco","net":null}`},
		{state.Desired, "otto", `{"interval":20,"mode":"eco"}`},
		{state.Reported, "device", `{"interval":10,"net":{"ip":"1.2.3.4"}}`},
	} {
		if c := changes[i]; c.Side != want.side || c.Actor != want.actor || c.Version != uint64(4-i) {
			t.Errorf("change %d is %+v", i, c)
		}
		wantJSON(t, "patch", changes[i].Patch, want.patch)
	}
	if none := s.Get("other"); none.Version != 0 || string(none.Desired) != "{}" || none.Delta != nil {
		t.Errorf("a device without a state has %+v", none)
	}
}

// Of many who change one version, one wins.
func TestIfMatchHasOneWinner(t *testing.T) {
	kv := bucket(t, t.TempDir())
	all := newRegistered("d")
	// Two hubs on one bucket: a race between processes as well.
	hubs := []*state.Documents{open(t, kv, &told{}, all.has), open(t, kv, &told{}, all.has)}
	wantDesire(t, hubs[0], "d", `{"n":0}`, 1)
	for round := range uint64(5) {
		version := round + 1
		var won atomic.Int64
		var racers sync.WaitGroup
		for i := range 16 {
			racers.Go(func() {
				_, err := hubs[i%2].Desire(t.Context(), "d", fmt.Appendf(nil, `{"n":%d}`, 100*version+uint64(i)), []uint64{version}, "otto")
				var mismatch *state.VersionError
				switch {
				case err == nil:
					won.Add(1)
				case !errors.As(err, &mismatch) || mismatch.Current != version+1:
					t.Errorf("loser: %v", err)
				}
			})
		}
		racers.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d changes of version %d were made", won.Load(), version)
		}
	}
}

// Without If-Match nobody's change is lost, whoever is first, on whichever hub.
func TestNoChangeIsLost(t *testing.T) {
	kv := bucket(t, t.TempDir())
	all, to := newRegistered("d"), &told{}
	hubs := []*state.Documents{open(t, kv, to, all.has), open(t, kv, &told{}, all.has)}
	const each = 20
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := range each {
				if i < 2 {
					if _, err := hubs[i].Desire(t.Context(), "d", fmt.Appendf(nil, `{"w%d":{"n%d":1}}`, i, n), nil, "otto"); err != nil {
						t.Error(err)
					}
				} else if _, err := report(t, hubs[i%2], "d", fmt.Sprintf(`{"w%d":{"n%d":1}}`, i, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	d, err := hubs[0].Desire(t.Context(), "d", []byte(`{"last":1}`), nil, "otto")
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range []string{string(d.Desired), string(d.Reported)} {
		if n := strings.Count(half, `"n`); n != 2*each {
			t.Errorf("%d members, want %d: %s", n, 2*each, half)
		}
	}
	if told := to.versions(); told[len(told)-1] != d.Version {
		t.Errorf("hub 0 told its device last of version %d, want %d", told[len(told)-1], d.Version)
	}
}

// What another hub changes is told to the device that is connected here.
func TestChangeOfAnotherHubIsTold(t *testing.T) {
	kv := bucket(t, t.TempDir())
	all, to := newRegistered("d"), &told{}
	here, there := open(t, kv, to, all.has), open(t, kv, &told{}, all.has)
	feed := here.Subscribe(4)
	defer feed.Close()
	wantDesire(t, there, "d", `{"a":1}`, 1)
	u := <-feed.C()
	if u.Device != "d" || u.Version != 1 || !u.DesiredChanged || u.ReportedChanged {
		t.Errorf("update %+v", u)
	}
	wantDesire(t, here, "d", `{"b":1}`, 2)
	if got := to.versions(); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("told %d, want 1 and 2", got)
	}
}

func TestLimitsAndBadPatches(t *testing.T) {
	s := open(t, bucket(t, t.TempDir()), &told{}, newRegistered("d").has)
	large := `{"a":"` + strings.Repeat("x", 5000) + `"}`
	for patch, want := range map[string]string{
		`[1]`: "/reported: not an object", `{"a":{"$x":1}}`: "/reported/a/$x: names that begin", large: "/reported: the document would have 5008 bytes; at most 4096",
	} {
		_, err := report(t, s, "d", patch)
		var refused *wire.Error
		if !errors.As(err, &refused) || !strings.Contains(refused.Message, want) {
			t.Errorf("report %.30s: %v, want %q", patch, err, want)
		}
		_, err = s.Desire(t.Context(), "d", []byte(patch), nil, "otto")
		var invalid *state.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), strings.ReplaceAll(want, "reported", "desired")) {
			t.Errorf("desire %.30s: %v", patch, err)
		}
	}
	if d := s.Get("d"); d.Version != 0 {
		t.Errorf("refused changes made version %d", d.Version)
	}
	// Beside one that is too large, others are made.
	wantReport(t, s, "d", `{"a":"`+strings.Repeat("x", 4000)+`"}`, 1)
	if _, err := report(t, s, "d", `{"b":"`+strings.Repeat("x", 100)+`"}`); err == nil {
		t.Error("two small patches made a document that is too large")
	}
	wantReport(t, s, "d", `{"a":null,"b":1}`, 2)
}

func TestDeletedDevice(t *testing.T) {
	kv, all := bucket(t, t.TempDir()), newRegistered("d")
	s := open(t, kv, &told{}, all.has)
	wantReport(t, s, "d", `{"a":1}`, 1)
	all.remove("d")
	if err := s.Forget(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if _, err := report(t, s, "d", `{"a":2}`); !errors.Is(err, state.ErrNoDevice) {
		t.Errorf("report: %v", err)
	}
	if _, err := s.Desire(t.Context(), "d", []byte(`{"a":2}`), nil, "otto"); !errors.Is(err, state.ErrNoDevice) {
		t.Errorf("desire: %v", err)
	}
	all.ids["d"] = true
	wantReport(t, s, "d", `{"b":1}`, 1)
	wantJSON(t, "reported", s.Get("d").Reported, `{"b":1}`)
	if changes, err := s.History(t.Context(), "d"); err != nil || len(changes) != 1 {
		t.Errorf("the history of the device before is seen: %v, %v", changes, err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, bucket(t, t.TempDir()), &told{}, newRegistered("d").has)
	ended := make(chan error, 1)
	if err := s.Report("d", []byte(`{"a":1}`), func(_ uint64, err error) { ended <- err }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("what was under way: %v", err)
	}
	if _, err := report(t, s, "d", `{"a":2}`); !errors.Is(err, state.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}
