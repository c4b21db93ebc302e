package commands_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"telemetryhub/commands"
	"telemetryhub/wire"
)

// journal is how often the devices took each command.
type journal struct {
	mu   sync.Mutex
	runs map[string]int
	last map[string]string // by device: the newest id that it was sent for the first time
	bad  []string
}

// took notes a sending, and what it breaks: the order of first sendings, or the bound of the open ones.
func (j *journal) took(device string, cmd wire.Command) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.runs[cmd.ID] == 0 {
		if cmd.ID < j.last[device] {
			j.bad = append(j.bad, fmt.Sprintf("%s was sent after %s", cmd.ID, j.last[device]))
		}
		j.last[device] = cmd.ID
	}
	j.runs[cmd.ID]++
}

// takeAll takes what was sent and nobody has looked at yet.
func (j *journal) takeAll(r *router) {
	for {
		select {
		case out := <-r.sent:
			j.took(out.device, out.cmd)
		default:
			return
		}
	}
}

// ledger returns all commands.
func ledger(t *testing.T, s *commands.Service) (all []commands.Command) {
	t.Helper()
	for cursor := ""; ; {
		page, next := list(t, s, commands.Filter{Limit: 100, Cursor: cursor})
		all = append(all, page...)
		if cursor = next; next == "" {
			return all
		}
	}
}

// check compares the ledger's words of all commands, which have ended, with what the devices took.
func (j *journal) check(t *testing.T, s *commands.Service) map[commands.State]int {
	t.Helper()
	count := map[commands.State]int{}
	for _, c := range ledger(t, s) {
		if c.Delivery == commands.AtMostOnce && j.runs[c.ID] > 1 {
			t.Errorf("at most once, and sent %d times: %+v", j.runs[c.ID], c)
		}
		if sent := j.runs[c.ID] > 0; sent != (c.Attempt > 0) || !sent && c.State == commands.Done {
			t.Errorf("sent %d times, and the ledger says %s after %d attempts", j.runs[c.ID], c.State, c.Attempt)
		}
		if c.Delivery == commands.AtLeastOnce && c.State != commands.Done && c.State != commands.Failed && c.State != commands.Expired {
			t.Errorf("at least once, and %s: %+v", c.State, c.History)
		}
		count[c.State]++
	}
	for _, fault := range j.bad {
		t.Error(fault)
	}
	return count
}

// TestEveryCommandEndsTruly lets devices answer, fall silent and lose their connection at random while commands are
// sent to them by many, closes and opens the ledger in between, and compares its words with what the devices did.
func TestEveryCommandEndsTruly(t *testing.T) {
	for _, outstanding := range []int{1, 3} {
		t.Run(fmt.Sprint("outstanding: ", outstanding), func(t *testing.T) { everyCommandEndsTruly(t, outstanding) })
	}
}

func everyCommandEndsTruly(t *testing.T, outstanding int) {
	const rounds, devices, each = 3, 8, 40
	kv, r := bucket(t), newRouter()
	j := &journal{runs: map[string]int{}, last: map[string]string{}}
	cfg := commands.Config{Queue: rounds * each, Outstanding: outstanding}
	s := openWith(t, kv, r, cfg)
	var changing sync.Mutex // of s
	now := func() *commands.Service {
		changing.Lock()
		defer changing.Unlock()
		return s
	}
	for d := range devices {
		r.connect(fmt.Sprint("d", d), 1)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // the devices
		defer close(stopped)
		for {
			var out sending
			select {
			case out = <-r.sent:
			case <-stop:
				j.takeAll(r)
				return
			}
			j.took(out.device, out.cmd)
			switch rand.N(6) {
			case 0: // silent
			case 1:
				r.reconnect(out.device)
			case 2:
				now().Answered(out.device, out.session, fault(out.cmd.ID, -32000, "no"))
			default:
				now().Answered(out.device, out.session, result(out.cmd.ID, `1`))
			}
		}
	}()
	for round := range rounds {
		var operators sync.WaitGroup
		for d := range devices {
			operators.Go(func() {
				for range each {
					delivery := []commands.Delivery{commands.AtMostOnce, commands.AtLeastOnce}[rand.N(2)]
					_, err := now().Send(t.Context(), commands.Request{Device: fmt.Sprint("d", d), Method: "m", Delivery: delivery, Timeout: 50 * time.Millisecond})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		operators.Wait()
		if round < rounds-1 { // in the middle of it all
			shut(t, now())
			changing.Lock()
			s = openWith(t, kv, r, cfg)
			changing.Unlock()
		}
	}
	for _, c := range ledger(t, now()) {
		wantEndAny(t, now(), c.ID)
	}
	close(stop)
	<-stopped
	count := j.check(t, now())
	if total := count[commands.Done] + count[commands.Failed] + count[commands.Unknown]; total != rounds*devices*each || count[commands.Done] == 0 || count[commands.Unknown] == 0 {
		t.Errorf("outcomes = %v, want %d in all", count, rounds*devices*each)
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
