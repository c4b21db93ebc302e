package commands_test

import (
	"fmt"
	"slices"
	"testing"

	"telemetryhub/commands"
)

// Lists have all that the bucket has, whatever fits into memory.
func TestOldCommandsAreListed(t *testing.T) {
	kv, r := bucket(t), newRouter()
	r.connect("d0", 1)
	r.connect("d1", 1)
	s := open(t, kv, r)
	s.LimitMirror(3000) // some three commands
	const all = 40
	var ids []string // the newest first
	for i := range all {
		c := send(t, s, commands.Request{Device: fmt.Sprint("d", i%2), Method: "m", Actor: []string{"otto", "ada"}[i%4/2]})
		ids = slices.Insert(ids, 0, c.ID)
		if i == 0 {
			r.reconnect("d0") // unknown
		} else {
			s.Answered(c.Device, c.Session, result(c.ID, `1`))
		}
		wantEndAny(t, s, c.ID)
	}
	if here := s.Stats().Mirrored; here > all/2 {
		t.Fatalf("%d commands are in memory: nothing is old", here)
	}
	wantListed := func(f commands.Filter, takes func(i int) bool) {
		t.Helper()
		var want, got []string
		for i, id := range ids {
			if takes(all - 1 - i) {
				want = append(want, id)
			}
		}
		f.Limit = 7
		for {
			page, next := list(t, s, f)
			for _, c := range page {
				if c.Method != "m" || len(c.History) == 0 {
					t.Errorf("half a command: %+v", c)
				}
				got = append(got, c.ID)
			}
			if f.Cursor = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: listed %d, want %d:\n%v\n%v", f, len(got), len(want), got, want)
		}
	}
	check := func() {
		t.Helper()
		wantListed(commands.Filter{}, func(int) bool { return true })
		wantListed(commands.Filter{Device: "d1"}, func(i int) bool { return i%2 == 1 })
		wantListed(commands.Filter{Actor: "ada", Device: "d0"}, func(i int) bool { return i%4 == 2 })
	}
	check()
	wantListed(commands.Filter{States: []commands.State{commands.Unknown}}, func(i int) bool { return i == 0 })

	oldest := ids[all-1]
	changes := s.Subscribe(10)
	defer changes.Close()
	s.Answered("d0", 2, result(oldest, `"late"`)) // it comes into memory again
	if c := next(t, changes); c.ID != oldest || c.State != commands.Done {
		t.Fatalf("after its late answer: %+v", c)
	}
	wantListed(commands.Filter{States: []commands.State{commands.Unknown}}, func(int) bool { return false })
	check()

	shut(t, s)
	s = open(t, kv, r)
	s.LimitMirror(3000)
	check()
}
