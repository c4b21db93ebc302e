package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// The faults that a fleet can play.
const (
	faultDuplicate  = "duplicate"   // sends acknowledged readings again, with their boot and seq
	faultBadType    = "bad-type"    // a value that is an array: to be quarantined
	faultBadFrame   = "bad-frame"   // what is not JSON: to be refused
	faultHalfOpen   = "half-open"   // the connection stays open and dead, and the device comes back on a new one
	faultSlowReader = "slow-reader" // each tenth device reads 256 bytes in 50 ms
	faultClock      = "clock"       // times a day ahead, or of the last century: to be quarantined
	faultDisconnect = "disconnect"  // drops TCP without a goodbye
	faultClone      = "clone"       // each tenth device has a twin with its identity: they displace each other
	faultPongOnly   = "pong-only"   // each tenth device says hello, and then answers pings and nothing else
)

func faultNames() []string {
	return []string{faultDuplicate, faultBadType, faultBadFrame, faultHalfOpen, faultSlowReader, faultClock, faultDisconnect, faultClone, faultPongOnly}
}

const (
	faultEvery    = 3 * time.Second      // each fault, on each device, on average
	faultShortest = 5 * time.Millisecond // between two faults of the whole fleet, on average
	steadyEvery   = 10                   // each so many devices has a fault that is no event: slow, cloned, dead
	recentKept    = 8                    // acknowledged readings a device can send again
	clockAhead    = 24 * time.Hour
	clockBehind   = 946_684_799_999 // the last ms of 1999: the hub takes none before 2000
)

// A reading that a fault makes up is outside the numbering and is not counted as sent. Its n is negative, so that it is
// known if it is stored after all.

// playFaults plays faults on random devices until ctx ends.
func (f *fleet) playFaults(ctx context.Context) {
	faults := slices.DeleteFunc(slices.Clone(f.options.Faults), steadyFault)
	if len(faults) == 0 {
		return
	}
	rng := rand.New(rand.NewPCG(f.options.Seed, uint64(len(f.devices))))
	mean := max(faultShortest, faultEvery/time.Duration(len(faults)*len(f.devices)))
	for number := int64(1); sleep(ctx, time.Duration(rng.ExpFloat64()*float64(mean))); number++ {
		d := f.devices[rng.IntN(len(f.devices))]
		name := faults[rng.IntN(len(faults))]
		if d.play(name, number, rng) {
			f.tally.inject(name)
		}
	}
}

// steadyFault reports whether a fault lasts for the whole run of its devices.
func steadyFault(name string) bool {
	return name == faultSlowReader || name == faultClone || name == faultPongOnly
}

// has reports whether the device has a fault that lasts.
func (d *device) has(fault string) bool {
	return d.index%steadyEvery == 0 && slices.Contains(d.fleet.options.Faults, fault)
}

// twin makes another device with d's identity, a boot of its own and nothing to say: a clone.
func (d *device) twin() *device {
	t := newDevice(d.fleet, d.index, d.id, d.out.source)
	t.credentials.set(d.credentials.current())
	t.certificate, t.isTwin, t.mute = d.certificate, true, true
	t.joined = true // it is no device of the fleet's: its connections are reconnections
	d.fleet.tally.inject(faultClone)
	return t
}

// play plays a fault, and says whether there was an opportunity.
func (d *device) play(name string, number int64, rng *rand.Rand) bool {
	l := d.link()
	if l == nil {
		return false
	}
	now := time.Now().UnixMilli()
	switch name {
	case faultDuplicate:
		again, ok := d.acknowledged(rng)
		return ok && l.inject(again, false) == nil
	case faultBadType:
		return l.inject(d.oddReading(now, `[20.5,21]`, number), false) == nil
	case faultBadFrame:
		return l.inject([]byte(`{"values":{"temperature":`), true) == nil
	case faultClock:
		ts := int64(clockBehind)
		if rng.IntN(2) == 0 {
			ts = now + clockAhead.Milliseconds()
		}
		return l.inject(d.oddReading(ts, `20.5`, number), false) == nil
	case faultDisconnect:
		l.cut(errCut)
	case faultHalfOpen:
		l.abandon()
	default:
		return false
	}
	return true
}

func (d *device) oddReading(ts int64, temperature string, number int64) []byte {
	frame := []byte(`{"ts":`)
	frame = strconv.AppendInt(frame, ts, 10)
	frame = append(frame, `,"values":{"temperature":`...)
	frame = append(frame, temperature...)
	frame = append(frame, `,"n":`...)
	frame = strconv.AppendInt(frame, -number, 10)
	frame = append(frame, `,"run":`...)
	frame = strconv.AppendUint(frame, d.fleet.run, 10)
	return append(frame, "}}"...)
}

// remember keeps the newest reading that an acknowledgement is about to let go of. With the lock held.
func (d *device) remember(boot string, seq uint64) {
	for _, epoch := range d.out.boots {
		n := epoch.first + seq - 1
		if epoch.boot != boot || n <= d.out.acked || n > d.out.sent {
			continue
		}
		form := formMQTT // a bare object that names its boot
		if d.encoding().senML() {
			form.encoding, form.device = encodingSenML, d.id
		}
		again := d.out.appendFrame(nil, form, epoch, n, 1)
		if len(d.recent) == recentKept {
			d.recent = append(d.recent[:0], d.recent[1:]...)
		}
		d.recent = append(d.recent, again)
	}
}

func (d *device) acknowledged(rng *rand.Rand) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.recent) == 0 {
		return nil, false
	}
	return d.recent[rng.IntN(len(d.recent))], true
}
