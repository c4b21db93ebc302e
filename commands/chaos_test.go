package commands_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// TestEveryCommandEndsTruly lets devices answer, fall silent and lose their connection at random while commands are
// sent to them by many, closes and opens the ledger in between, and compares its words with what the devices did.
func TestEveryCommandEndsTruly(t *testing.T) {
	kv, r := bucket(t), newRouter()
	s := open(t, kv, r)
	var ran sync.Map // by command id: how often a device took it
	r.before = func(cmd wire.Command) {
		times, _ := ran.LoadOrStore(cmd.ID, new(int))
		*times.(*int)++ // one sending at a time a command
	}
	session := make([]uint64, 8)
	for d := range session {
		session[d] = 1
		r.connect(fmt.Sprint("d", d), 1)
	}
	for round := range 3 {
		var group sync.WaitGroup
		for d := range session {
			device := fmt.Sprint("d", d)
			group.Go(func() { // the device
				for range 40 {
					out := <-r.sent
					switch rand.N(4) {
					case 0: // silent
					case 1:
						s.SessionEnded(out.device, out.session)
					case 2:
						s.Answered(out.device, out.session, fault(out.cmd.ID, -32000, "no"))
					default:
						s.Answered(out.device, out.session, result(out.cmd.ID, `1`))
					}
				}
			})
			group.Go(func() { // the operator
				for range 40 {
					_, err := s.Send(t.Context(), commands.Request{Device: device, Method: "m"})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if round < 2 {
			shut(t, s)
			s = open(t, kv, r)
		}
	}
	shut(t, s)
	s = open(t, kv, r)
	count, cursor := map[commands.State]int{}, ""
	for {
		page, next := s.List(commands.Filter{Limit: 100, Cursor: cursor})
		for _, c := range page {
			if !c.State.Final() { // just being written
				c = wantEndAny(t, s, c.ID)
			}
			count[c.State]++
			if times, ok := ran.Load(c.ID); !ok || *times.(*int) != 1 {
				t.Errorf("%s (%s) was sent another number of times than once", c.ID, c.State)
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	total := count[commands.Done] + count[commands.Failed] + count[commands.Unknown]
	if total != 3*8*40 || count[commands.Done] == 0 || count[commands.Unknown] == 0 {
		t.Errorf("outcomes = %v, want %d in all", count, 3*8*40)
	}
}

// BenchmarkCommand is one command from the operator to the device and back: durable before it is sent and before
// the operator is answered, on a real disk.
func BenchmarkCommand(b *testing.B) {
	kv, r := bucket(b), newRouter()
	r.connect("d1", 1)
	s := open(b, kv, r)
	r.before = func(cmd wire.Command) { s.Answered("d1", 1, result(cmd.ID, `1`)) }
	for b.Loop() {
		c, err := s.Send(b.Context(), commands.Request{Device: "d1", Method: "m"})
		if err != nil {
			b.Fatal(err)
		}
		<-r.sent
		if c, err = s.Wait(b.Context(), c.ID); err != nil || c.State != commands.Done {
			b.Fatal(c.State, err)
		}
	}
}
