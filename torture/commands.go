package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"telemetryhub/api/client"
)

const (
	commandSenders = 24
	commandTimeout = 5 * time.Second // for the device's answer
	// commandExpiry is long against all that happens, so that none of the at-least-once commands may be given up.
	commandExpiry = 20 * time.Minute
	commandKills  = 3
)

// commandsFault sends commands to devices whose connections drop at random, kills the hub meanwhile, and holds the ledger
// against the devices' own journals: at-most-once never runs twice, at-least-once always runs, and no outcome is wrong.
func commandsFault(ctx context.Context, s *scene) error {
	if err := s.embedded(ctx); err != nil {
		return err
	}
	devices, total := scale(s.lab, 100, 1000), scale(s.lab, 600, 10_000)
	m, err := s.simulate(load{devices: devices, rate: 1, args: []string{"--faults", "disconnect"}})
	if err != nil {
		return err
	}
	if _, err := s.hub.received(ctx, uint64(devices)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := &operators{hub: s.hub, devices: devices, total: total, ids: make([]string, total)}
	var sending sync.WaitGroup
	for range commandSenders {
		sending.Go(func() {
			if err := o.send(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for kill := range commandKills {
		if err := o.await(ctx, total*(kill+1)/(commandKills+1)); err != nil {
			return err
		}
		if err := s.hub.crash(); err != nil {
			return err
		}
		if err := s.hub.start(ctx); err != nil {
			return err
		}
	}
	sending.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.happened("killed", s.hub.kills)
	s.fact("commands", total)
	if err := o.outcomes(ctx, s); err != nil {
		return err
	}
	if err := m.finish(); err != nil {
		return err
	}
	v, err := m.judge(ctx, judgeLimit)
	if err != nil {
		return err
	}
	s.happened("reconnects", int(v.Reconnects))
	s.compareLedgers(v.Commands.Verified, total, m)
	return s.conclude(ctx, m)
}

// compareLedgers takes what came of holding the hub's ledger against the devices' journals.
func (s *scene) compareLedgers(l *ledgerVerdict, total int, m *sim) {
	if l == nil {
		s.problem("the simulator did not compare the ledger with its devices' journals")
		return
	}
	s.fact("ledger", l.Ledger)
	s.happened("executed", int(l.Executed))
	s.fact("run_again", l.Twice) // at-least-once only: the others count as wrong
	s.never("open", int(l.Open))
	s.never("wrong", int(l.Wrong))
	if l.Ledger != uint64(total) {
		s.problem("the ledger has %d commands, %d were accepted", l.Ledger, total)
	}
	if l.Wrong > 0 {
		s.lab.say("the judge says:\n%s", m.stderr.last(20))
	}
}

// operators send commands, each until the hub has taken it.
type operators struct {
	hub     *hub
	devices int
	total   int

	next  atomic.Int64
	taken atomic.Int64
	ids   []string // of the commands, each written by its sender
}

// atLeastOnce is every second one.
func atLeastOnce(n int) bool { return n%2 == 1 }

func (o *operators) send(ctx context.Context) error {
	for {
		n := int(o.next.Add(1)) - 1
		if n >= o.total {
			return nil
		}
		r := client.CommandRequest{
			Method: "set", Params: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)), Timeout: commandTimeout, Expires: commandExpiry,
			Key: fmt.Sprintf("torture-%d", n),
		}
		if atLeastOnce(n) {
			r.Delivery = "at-least-once"
		}
		device := fmt.Sprintf("sim-%05d", 1+rand.IntN(o.devices))
		err := until(ctx, "the hub to take a command", 2*startLimit, func() (bool, error) {
			c, err := o.hub.api.SendCommand(ctx, device, r)
			o.ids[n] = c.ID
			return err == nil, onlyFinal(err)
		})
		if err != nil {
			return fmt.Errorf("command %d to %s: %w", n, device, err)
		}
		o.taken.Add(1)
	}
}

// await returns when so many commands were taken.
func (o *operators) await(ctx context.Context, count int) error {
	return until(ctx, fmt.Sprintf("%d commands to be taken", count), longLimit, func() (bool, error) {
		return int(o.taken.Load()) >= count, context.Cause(ctx)
	})
}

// outcomes waits for the end of each command and counts them.
func (o *operators) outcomes(ctx context.Context, s *scene) error {
	counts := map[string]int{}
	for n, id := range o.ids {
		var c client.Command
		err := until(ctx, "the outcome of command "+id, commandExpiry, func() (bool, error) {
			var err error
			c, err = o.hub.api.Command(ctx, id)
			return err == nil && c.Final(), onlyFinal(err)
		})
		if err != nil {
			return err
		}
		counts[c.State]++
		if atLeastOnce(n) && c.State != "done" {
			s.problem("command %s, at least once, ended as %s: %s", id, c.State, c.Cause())
		}
	}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		s.fact(state, counts[state])
	}
	return nil
}
