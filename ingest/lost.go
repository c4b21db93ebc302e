package ingest

import (
	"log/slog"
	"time"
	"unicode/utf8"

	"telemetryhub/wire"
)

// An envelope that was damaged on the disk is named by the next entry of each of its devices (prior). A device whose last
// readings were in it may send nothing for long, or never again. So what damage left of the envelope is looked through for
// entries that say how much they held, and a missed entry for each such device is put into the journal.
//
// An entry is believed if it follows on from what is known of its device, or if it can be read to its end in the length
// that it says. Of one that follows on, and whose count cannot be believed, one reading is counted. Nothing is stored of them.

// recallLost looks through what was left of damaged envelopes. It raises what the devices have made durable by what was
// in them, and returns these devices.
func (in *Ingest) recallLost(bus Bus) (devices []string, named func() error, err error) {
	left, named, err := bus.LostEnvelopes()
	if err != nil {
		return nil, nil, err
	}
	raised := map[string]bool{}
	for _, piece := range left {
		for at := 0; at+lengthRoom < len(piece); {
			e, size := in.leftEntry(piece[at:])
			if size == 0 {
				at++
				continue
			}
			at += size
			d := in.arrivals.of(string(e.device))
			if d.received < e.prior+e.count {
				d.received = e.prior + e.count
				raised[d.device] = true
			}
		}
	}
	for device := range raised {
		devices = append(devices, device)
	}
	return devices, named, nil
}

// leftEntry returns the entry of readings or refused frames that begins with data, and its size; 0 if none does, or
// none that can be believed.
func (in *Ingest) leftEntry(data []byte) (e entry, size int) {
	if data[0]&data[1]&data[2]&0x80 == 0 || data[3]&0x80 != 0 { // how closeEntry writes a length
		return e, 0
	}
	env := envelope{entries: source{data: data}}
	whole := env.next(&e)
	if env.entries.failed || e.kind != entryReadings && e.kind != entryRefusal {
		return e, 0
	}
	var received uint64
	known := in.arrivals.byDevice[string(e.device)]
	if known != nil {
		received = known.received
	}
	follows := known != nil && e.prior == received
	whole = whole && len(e.device) > 0 && utf8.Valid(e.device) && e.readable()
	near := e.prior >= received && e.prior <= received+leapMost
	if !follows && (!whole || !near) {
		return e, 0
	}
	if !whole && (e.kind == entryRefusal || e.count == 0 || len(e.readings.data)/readingLeast < int(min(e.count, countMost))) {
		e.count = 1 // at least
	}
	return e, len(data) - len(env.entries.data)
}

// What is believed of a damaged entry at most.
const (
	leapMost     = 256 // readings that damaged entries before it may have held
	readingLeast = 12  // bytes of a reading: one number under a short name
	countMost    = 1 << 20
)

// readable reports whether the entry's readings fill it exactly.
func (e entry) readable() bool {
	if e.kind != entryReadings {
		return true
	}
	var r wire.Reading
	for range e.count {
		if !e.reading(&r) {
			return false
		}
	}
	return len(e.readings.data) == 0
}

// nameLost puts missed entries into the journal, and forgets what was lost once they are durable. It ends with the
// journal: what was not named is so after the next start.
func (in *Ingest) nameLost(devices []string, named func() error, log *slog.Logger) {
	defer close(in.naming)
	committed := make(single, 1)
	for i, device := range devices {
		var w wire.Waiter = ignorant{}
		if i == len(devices)-1 {
			w = committed // the journal's order: the others are durable then
		}
		if err := in.journal.missed(device, w); err != nil {
			return
		}
	}
	if len(devices) > 0 {
		log.Warn("what was left of damaged envelopes names devices whose readings are lost; they are counted as damaged", "devices", len(devices))
		if err := <-committed; err != nil {
			return
		}
	}
	if named != nil {
		if err := named(); err != nil {
			log.Warn("what was left of damaged envelopes is looked through again at the next start", "err", err)
		}
	}
}

// missed appends an entry that says how much of the device the journal has had. The error is ErrStopped.
func (j *journal) missed(device string, w wire.Waiter) error {
	a := j.arrivals.of(device)
	j.mu.Lock()
	defer j.mu.Unlock()
	b, err := j.take(j.giveUp)
	if err != nil {
		return err
	}
	b.envelope = appendMissed(b.envelope, origin{device: device, prior: a.appended, received: time.Now().UnixMilli()})
	b.marks = append(b.marks, mark{of: a})
	if w.Join(b.gen) {
		b.waiters = append(b.waiters, w)
	}
	j.changed.Broadcast()
	return nil
}

// ignorant waits for no commit.
type ignorant struct{}

// Join implements wire.Waiter.
func (ignorant) Join(uint64) bool { return false }

// Committed implements wire.Waiter.
func (ignorant) Committed(uint64, error) {}
