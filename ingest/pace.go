package ingest

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// The hub sets the pace: a device that brings much at once, as its backlog after an outage, goes behind those that send
// what they have just measured. Which is which shows by what they do; clocks and times are not asked.
//
//   - A device catches up when it brings more although paceAllowance bytes of its are not durable yet, or within
//     paceMemory envelopes of turnBytes in one, as who waits for each ack and brings much at once. It does from then on
//     until it has not done so, nor had a turn, for paceMemory envelopes.
//   - A device is live when it brings something, does not catch up, and all that it brought before is durable.
//   - While a device was live within paceMemory envelopes, those that catch up take turns, in the order in which they asked.
//     A turn is turnBytes in one envelope, or one larger frame. There are as many turns in an envelope as half the
//     processors can work off while it is synced.
//   - While nobody is live nobody waits for turns: the envelope's room is the only bound.
//   - Devices that do not catch up find some room beyond that in each envelope.
//
// Who waits for a turn is not read: TCP tells the device, its liveness stands still.
const (
	paceAllowance = 4 << 10 // a window of some forty readings in frames of their own
	paceMemory    = 256     // envelopes: some half second under load
	turnBytes     = 8 << 10
	turnTime      = 2 * time.Millisecond // what one processor takes for turnBytes from the socket to the store, and as much again for others
	turnsMost     = 8                    // in an envelope and half the processors, however long the sync takes
)

// pace is who goes first. It is of the journal's lock.
type pace struct {
	halfProcessors int
	metrics        *metrics

	liveUntil    uint64 // somebody was live, and that counts until this envelope
	crowdedUntil uint64 // somebody had to wait for a turn, and that counts until this envelope
	allowed      int    // turns in the open envelope
	turns        int    // that were given
	waiting      int
	first, last  *turn // those that wait, the longest first
	spare        *turn // to be used again
}

// turn is one that is waited for.
type turn struct {
	of      *arrival
	granted bool
	ready   sync.Cond // granted, or waiting is no use any more
	next    *turn
}

// arrivalPace is what the pace knows of a device. It is of the journal's lock.
type arrivalPace struct {
	gen          uint64 // the envelope of the device's last frame, 0: none in this run
	bytes        int    // that it put into that envelope
	before       int    // and into the one before
	catchesUntil uint64 // it catches up until this envelope
	turnIn       uint64 // the envelope in which it has a turn
	turnLeft     int    // bytes
}

func newPace(m *metrics) pace {
	half := max(1, runtime.GOMAXPROCS(0)/2)
	return pace{halfProcessors: half, allowed: half, metrics: m}
}

// put notes what the device put into envelope gen.
func (d *arrivalPace) put(gen uint64, bytes int) {
	d.turnLeft -= bytes
	switch d.gen {
	case gen:
		d.bytes += bytes
		return
	case gen - 1:
		d.before = d.bytes
	default:
		d.before = 0
	}
	d.gen, d.bytes = gen, bytes
}

// pending returns how many bytes of the device are in envelopes behind the last durable one: the open one and that on its way.
func (d *arrivalPace) pending(durable uint64) int {
	switch {
	case d.gen > durable+1:
		return d.bytes + d.before
	case d.gen > durable:
		return d.bytes
	}
	return 0
}

// broughtMuch reports whether the device put a turn's worth into one envelope, not long before gen.
func (d *arrivalPace) broughtMuch(gen uint64) bool {
	return d.bytes >= turnBytes && gen-d.gen < paceMemory
}

// admit returns when the device may put a frame into the open envelope, and the bytes at which that is full for it. It
// needs j.mu, and lets go of it while it waits.
func (j *journal) admit(ctx context.Context, a *arrival) (room int, err error) {
	p, d, gen := &j.pace, &a.pace, j.open.gen
	pending := d.pending(j.durable)
	if pending >= paceAllowance || d.broughtMuch(gen) {
		d.catchesUntil = gen + paceMemory
	}
	if gen >= d.catchesUntil {
		if pending == 0 && d.gen > 0 {
			p.liveUntil = gen + paceMemory
		}
		return j.room + j.liveRoom, nil
	}
	if gen < p.liveUntil && (d.turnIn != gen || d.turnLeft <= 0) {
		err = j.waitTurn(ctx, a)
	}
	return j.room, err
}

// waitTurn needs j.mu.
func (j *journal) waitTurn(ctx context.Context, a *arrival) error {
	p := &j.pace
	t := p.ask(a)
	t.ready.L = &j.mu
	j.grantTurns()
	if !t.granted {
		p.crowdedUntil = j.open.gen + paceMemory
		began := time.Now()
		if ctx.Done() != nil {
			forget := context.AfterFunc(ctx, func() {
				j.mu.Lock()
				defer j.mu.Unlock()
				j.endWaits()
			})
			defer forget()
		}
		for !t.granted && !j.stopping && ctx.Err() == nil {
			t.ready.Wait()
		}
		p.metrics.held(time.Since(began))
	}
	granted := t.granted
	p.leave(t)
	switch {
	case j.stopping:
		return ErrStopped
	case !granted:
		return ctx.Err()
	}
	return nil
}

// ask puts the device behind those that wait.
func (p *pace) ask(a *arrival) *turn {
	t := p.spare
	if t == nil {
		t = &turn{}
	} else {
		p.spare = t.next
	}
	t.of, t.granted, t.next = a, false, nil
	if p.last == nil {
		p.first = t
	} else {
		p.last.next = t
	}
	p.last = t
	p.waiting++
	return t
}

// leave ends a wait, whether the turn was granted or not.
func (p *pace) leave(t *turn) {
	if !t.granted {
		var before *turn
		for at := p.first; at != t; at = at.next {
			before = at
		}
		p.unlink(before, t)
	}
	t.of, t.next = nil, p.spare
	p.spare = t
}

// unlink takes t out of those that wait; before is the one before it, nil if it is the first.
func (p *pace) unlink(before, t *turn) {
	if before == nil {
		p.first = t.next
	} else {
		before.next = t.next
	}
	if p.last == t {
		p.last = before
	}
	p.waiting--
}

// grantTurns gives turns to those that wait longest, as many as there are. It needs j.mu.
func (j *journal) grantTurns() {
	p, gen := &j.pace, j.open.gen
	for p.first != nil && (gen >= p.liveUntil || p.turns < p.allowed) {
		t := p.first
		p.unlink(nil, t)
		t.granted = true
		d := &t.of.pace
		d.turnIn, d.turnLeft, d.catchesUntil = gen, turnBytes, gen+paceMemory
		p.turns++
		t.ready.Signal()
	}
}

// giveBack lets another have the turn of a device that put nothing into the envelope after all: it may stay empty, and then
// no other envelope would come. It needs j.mu.
func (j *journal) giveBack(a *arrival) {
	if a.pace.turnIn == j.open.gen {
		a.pace.turnIn = 0
		j.pace.turns--
		j.grantTurns()
	}
}

// newRound is called when an envelope was opened. It needs j.mu.
func (j *journal) newRound() {
	p := &j.pace
	p.turns, p.allowed = 0, p.halfProcessors*int(min(max(j.synced/turnTime, 1), turnsMost))
	j.grantTurns()
}

// endWaits lets those look around that wait for a turn. It needs j.mu.
func (j *journal) endWaits() {
	for t := j.pace.first; t != nil; t = t.next {
		t.ready.Signal()
	}
}

// held returns how many devices wait for their turn at present.
func (j *journal) held() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pace.waiting
}
