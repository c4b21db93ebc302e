package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"telemetryhub/cmd/device-sim/readings"
)

// device is one simulated device: its outbox lives through all its connections.
type device struct {
	fleet       *fleet
	index       int
	id          string
	credentials credentials
	enrolment   *enrolment       // set before it lives, as are those above
	certificate *tls.Certificate // in place of a token; likewise; nil: none
	slow        bool             // reads slowly, as a fault
	mute        bool             // says hello and then nothing, as a fault
	isTwin      bool             // it has another device's identity

	late func(wait time.Duration, readings uint64) // notes an ack's latency

	mu       sync.Mutex
	out      outbox
	attached *attachment // nil while there is no connection
	hold     time.Time   // the hub asked to wait until then
	joined   bool        // was connected once
	slot     time.Time   // when the hub told it to come; zero: it did not
	refusals int         // of its connection, since it was connected last
	recent   [][]byte    // acknowledged readings, for the fault that sends them again
	keep     bool        // fill recent

	commands commandState
	state    stateful
}

func newDevice(f *fleet, index int, id string, source readings.Source) *device {
	d := &device{fleet: f, index: index, id: id, enrolment: newEnrolment(""), out: newOutbox(source, newBoot(), f.options)}
	d.late = f.tally.ackLatency
	d.state = newState(d.interval())
	if f.options.Verify {
		d.commands.executions = executions{}
	}
	return d
}

// newBoot names a numbering, at random whatever the seed: 26 letters and digits.
func newBoot() string { return rand.Text() }

// live connects and reconnects until ctx ends.
func (d *device) live(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		began := d.connections()
		err := d.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if d.connections() > began {
			failures = 0
		}
		d.fleet.tally.ended(err)
		if errors.Is(err, errRebooted) {
			continue
		}
		sleep(ctx, pause(failures, d.told(err)))
		failures++
	}
}

// told notes what the hub said at the end of a connection, or in place of one, and returns the pause that it asked for.
func (d *device) told(err error) time.Duration {
	asked := retryAfter(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	if asked > 0 {
		d.slot = time.Now().Add(asked)
	}
	if refused, is := errors.AsType[*refusedError](err); is && refused.later() {
		d.refusals++
		d.fleet.tally.postponed(d.refusals)
	}
	return asked
}

// connections tells whether an attempt got as far as telemetry; only its own goroutine compares it.
func (d *device) connections() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commands.connections
}

// connect makes one connection and serves it to its end.
func (d *device) connect(ctx context.Context) error {
	l, err := d.fleet.connect(ctx, d)
	d.credentials.used(err)
	if err != nil {
		d.fleet.tally.attemptFailed()
		return err
	}
	err = l.run(ctx)
	d.mu.Lock()
	if d.attached != nil && d.attached.link == l {
		d.attached = nil
	}
	d.mu.Unlock()
	return err
}

func (d *device) encoding() encoding { return encoding(d.fleet.options.Encoding) }

func (d *device) helloFrame() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return hello(d.out.boot(), d.out.clockless, d.encoding().senML(), time.Now())
}

// welcomed takes the answer to hello.
func (d *device) welcomed(l link, in incoming) {
	var w welcome
	switch {
	case in.Error != nil:
		d.fleet.tally.note("the hub answered hello with an error", errors.New(in.Error.Message))
	case json.Unmarshal(in.Result, &w) != nil:
		d.fleet.tally.note("the hub's answer to hello is not understood", errors.New(string(in.Result)))
	}
	d.mu.Lock()
	if d.encoding().senML() {
		w.Ack = d.out.ackedSeq() // packs bear no numbers: the hub knows of none
	}
	forgot := in.Error == nil && w.Ack < d.out.ackedSeq()
	d.mu.Unlock()
	if forgot {
		d.fleet.tally.note("hello's ack is behind what was acknowledged before", errors.New(d.id))
	}
	d.ready(l, w.Ack)
	d.desired(l, w.desiredState, true)
}

// ready begins sending on a connection, from the first reading that the hub does not have.
func (d *device) ready(l link, durable uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.take(d.out.boot(), durable)
	d.out.connected()
	d.attached = &attachment{link: l}
	d.hold = time.Time{}
	d.commands.connections++
	d.fleet.tally.joined(!d.joined)
	if !d.slot.IsZero() {
		d.fleet.tally.cameLate(time.Since(d.slot))
	}
	d.joined, d.slot, d.refusals = true, time.Time{}, 0
	d.wake()
}

// acked takes a cumulative acknowledgement.
func (d *device) acked(boot string, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.take(boot, seq)
	d.wake()
}

func (d *device) take(boot string, seq uint64) {
	if d.keep {
		d.remember(boot, seq)
	}
	fresh, honest := d.out.ack(boot, seq, time.Now(), d.late)
	d.fleet.tally.acked.Add(fresh)
	if !honest {
		d.fleet.tally.note("the hub acknowledged what was never sent", errors.New(d.id))
	}
}

// measure takes a made-up reading at the next free ms. A device that was never connected measures nothing yet.
func (d *device) measure(ts int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.joined, d.mute:
		return
	case d.out.backlog() >= maxBacklog:
		d.fleet.tally.skipped.Add(1)
		return
	case !d.state.isDue(ts):
		return
	}
	d.out.measure(ts, false)
	d.wake()
}

// replay takes a file's reading; exact keeps its time as it is.
func (d *device) replay(ts int64, exact bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mute {
		return
	}
	d.out.measure(ts, exact)
	d.wake()
}

// finish lets incomplete batches go: nothing more will be measured.
func (d *device) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out.flush = true
	d.wake()
}

// wake lets readings go out, if any may. With the lock held.
func (d *device) wake() {
	a := d.attached
	if a == nil || a.pumping || d.out.next() == 0 {
		return
	}
	if wait := time.Until(d.hold); wait > 0 {
		return // noticed wakes it then
	}
	a.pumping = true
	d.fleet.running.Go(func() { d.pump(a) })
}

// pump writes what may go out, until there is no more or the connection is another. A writer that is started on
// demand costs idle devices nothing, and a blocked one blocks its device only.
func (d *device) pump(a *attachment) {
	for {
		d.mu.Lock()
		var fresh uint64
		if d.attached == a && time.Until(d.hold) <= 0 {
			a.frames, a.buf, fresh = d.out.take(a.frames[:0], a.buf[:0], a.link.form(), time.Now())
		} else {
			a.frames = a.frames[:0]
		}
		if len(a.frames) == 0 {
			a.pumping = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		d.fleet.tally.sent.Add(fresh)
		if err := a.link.telemetry(a.frames); err != nil {
			a.link.cut(err) // its reader tells the reason; what was under way goes out again
			d.mu.Lock()
			if d.attached == a {
				d.attached = nil
			}
			d.mu.Unlock()
			return
		}
	}
}

// noticed takes a hub.notice.
func (d *device) noticed(n notice) {
	d.fleet.tally.notice(n)
	if n.Seq == 0 || n.RetryAfterMs <= 0 {
		return
	}
	// A refusal that holds the acknowledgement: from there on all goes out again, later.
	wait := time.Duration(n.RetryAfterMs) * time.Millisecond
	d.mu.Lock()
	d.hold = time.Now().Add(wait)
	d.out.connected()
	d.mu.Unlock()
	time.AfterFunc(wait, func() { // after the run's end there is nothing attached, and nothing wakes
		d.mu.Lock()
		defer d.mu.Unlock()
		d.wake()
	})
}

// outstanding is what was measured and not acknowledged.
func (d *device) outstanding() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.backlog()
}

// link is the present connection, nil if there is none.
func (d *device) link() link {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.attached == nil {
		return nil
	}
	return d.attached.link
}
